"""What a value depends on besides the network, and how a change of it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ddpm_lab.config.overrides import value_of
from ddpm_lab.inference.trained_run import part_in_words, split_part
from ddpm_lab.storage.measurement import Word
from ddpm_lab.studies.explain import pixels
from registry.choice import Choice, read_choice
from registry.errors import BadInput, did_you_mean
from registry.features import FEATURES
from registry.grids import GRIDS
from registry.guidance import GUIDANCE
from registry.registry import Registry
from registry.samplers import SAMPLERS

Way = Mapping[str, Word]  # a level of each factor: how images were sampled and evaluated, as far as it is known
REFERENCES = ("train", "test", "all")
FEWEST = 100  # images; with fewer a distance has no interval, so that nobody can say what is noise


@dataclass(frozen=True)
class Factor:
    """`sampled`: another level needs other images, and so a run; `read`: a level that a user wrote."""

    name: str
    sampled: bool
    phrase: str
    read: Callable[[Any], Word]


@dataclass(frozen=True)
class Cause:
    """One factor at another level; `known`: the other side is known to have that level, and is not just thought to."""

    factor: str
    old: Word
    new: Word
    known: bool

    def __str__(self) -> str:
        old, new = _briefly(self.old, self.new)
        return FACTORS[self.factor].phrase.format(old=old, new=new)


def _briefly(old: Word, new: Word) -> tuple[str, str]:
    """Two levels in words: of two parts the names, or the options in which they differ where it is one part."""
    if not (isinstance(old, str) and isinstance(new, str)):
        told = [f"{one:,}" if type(one) is int else str(one) for one in (old, new)]
        return told[0], told[1]
    (name, mine), (other, theirs) = split_part(old), split_part(new)
    if name != other:
        return name, other
    differing = [key for key in mine | theirs if mine.get(key) != theirs.get(key)]
    sides = [", ".join(f"{key} {one[key]}" for key in differing if key in one) for one in (mine, theirs)]
    return f"{name} ({sides[0]})", f"{name} ({sides[1]})"


def changed(way: Way, causes: Iterable[Cause]) -> dict[str, Word]:
    """The way with all of these."""
    return {**way, **{cause.factor: cause.new for cause in causes}}


def in_words(causes: Iterable[Cause]) -> str:
    """`raw instead of ema weights, and N = 500 instead of 2,000`."""
    return ", and ".join(map(str, causes))


def read_levels(words: Iterable[str]) -> dict[str, Word]:
    """What is said of the protocol of a claimed value: `n=5000 weights=raw`.

    Raises:
        BadInput: a word is none of this kind.
    """
    found: dict[str, Word] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise BadInput(f"'{word}': write key=value, such as n=5000; known keys: {', '.join(FACTORS)}")
        if name not in FACTORS:
            raise BadInput(f"'{word}': nothing is called {name}; {did_you_mean(name, FACTORS)}")
        try:
            found[name] = FACTORS[name].read(value_of(text))
        except BadInput as error:
            raise BadInput(f"{name}={text}: {error}") from None
    return found


def _whole(least: int) -> Callable[[Any], Word]:
    def read(value: Any) -> Word:
        if type(value) is not int or value < least:
            raise BadInput(f"expected a whole number from {least} on")
        return value

    return read


def _one_of(known: Iterable[str]) -> Callable[[Any], Word]:
    names = tuple(known)

    def read(value: Any) -> Word:
        if value not in names:
            raise BadInput(f"not known; {did_you_mean(str(value), names)}")
        return str(value)

    return read


def _part(registry: Registry[Any, Any]) -> Callable[[Any], Word]:
    def read(value: Any) -> Word:
        choice: Choice = read_choice(value, registry.check, registry.kind)
        return part_in_words(choice.flat())

    return read


def _clip(value: Any) -> Word:
    if isinstance(value, bool) or (isinstance(value, float) and 0 < value < 1):
        return value
    raise BadInput("expected true, false, or a quantile such as 0.995")


def _feature(value: Any) -> Word:
    return FEATURES.part(str(value)).name


FACTORS = {
    one.name: one
    for one in (
        Factor("n", False, "N = {new} instead of {old}", _whole(FEWEST)),
        Factor("reference", False, "{new} instead of {old} images as the reference", _one_of(REFERENCES)),
        Factor("quantisation", False, "{new} instead of {old} pixels", _one_of(pixels.QUANTISATIONS)),
        Factor("resize", False, "resize rule {new} instead of {old}", _one_of((pixels.OWN, *pixels.RESIZES))),
        Factor("colour", False, "colour rule {new} instead of {old}", _one_of((pixels.OWN, *pixels.COLOURS))),
        Factor("features", False, "features of {new} instead of {old}", _feature),
        Factor("weights", True, "{new} instead of {old} weights", str),
        Factor("sampler", True, "sampler {new} instead of {old}", _part(SAMPLERS)),
        Factor("steps", True, "{new} instead of {old} steps", _whole(1)),
        Factor("grid", True, "sampling schedule {new} instead of {old}", _part(GRIDS)),
        Factor("guidance", True, "guidance {new} instead of {old}", _part(GUIDANCE)),
        Factor("clip", True, "x_0 clipped: {new} instead of {old}", _clip),
        Factor("seed", True, "seed {new} instead of {old}", _whole(0)),
        Factor("precision", True, "{new} instead of {old}", _one_of(("fp32", "bf16"))),
    )
}
