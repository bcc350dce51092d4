"""Which sizes fit a network; what does not is refused with the sizes that do."""

from __future__ import annotations

from registry.errors import BadInput


def require_multiple(name: str, option: str, value: int, factor: int) -> None:
    """BadInput unless `value` is a multiple of `factor`."""
    if value % factor:
        raise BadInput(f"{name}: {option} = {value} is not a multiple of {factor}")


def require_halvings(name: str, image_shape: tuple[int, int, int], factor: int) -> None:
    """BadInput unless height and width are multiples of `factor`, naming the nearest sizes that are."""
    _, height, width = image_shape
    if height % factor or width % factor:
        fits = sorted({max(factor, size // factor * factor + step) for size in (height, width) for step in (0, factor)})
        raise BadInput(
            f"{name} cannot halve images of {height} x {width}: both sides must be multiples of {factor},"
            f" such as {' or '.join(map(str, fits))}"
        )


def require_patches(name: str, image_shape: tuple[int, int, int], patch: int) -> None:
    """BadInput unless height and width are cut into whole patches, naming the patches that fit."""
    _, height, width = image_shape
    if height % patch or width % patch:
        fits = [side for side in range(1, min(height, width, 64) + 1) if height % side == width % side == 0]
        raise BadInput(
            f"{name} cannot cut images of {height} x {width} into patches of {patch}; patches of"
            f" {', '.join(map(str, fits))} fit, and so do sides that are multiples of {patch}"
        )


def attention_sizes(name: str, height: int, scales: int, asked: tuple[int, ...] | None) -> set[int]:
    """The heights of the feature maps that attend: those asked for, or all of 16 pixels or less where None is.

    Raises:
        BadInput: one is asked for that the network does not have.
    """
    known = [height >> scale for scale in range(scales)]
    if asked is None:
        return {size for size in known if size <= 16}
    for size in asked:
        if size not in known:
            text = ", ".join(map(str, known))
            raise BadInput(f"{name}: attention_resolutions: no feature map is {size} pixels high; they are {text}")
    return set(asked)
