"""Experiments, budgets, sweeps and suites by name: the user's own, then those that the lab carries.

In the repository `ddpm_lab/carried/` holds links to `experiments/` and `benchmarks/suites/`; a wheel has the files themselves.
"""

from __future__ import annotations

from pathlib import Path

from registry.errors import BadInput, did_you_mean

CARRIED = Path(__file__).parent.parent / "carried"
EXPERIMENTS, BUDGETS, SWEEPS = Path("experiments"), Path("experiments/budgets"), Path("experiments/sweeps")
SUITES = Path("benchmarks/suites")


def find(kind: str, name: str, place: Path) -> Path:
    """The YAML file of that path, or of that name in `place` below the working directory, else of those carried.

    Raises:
        BadInput: there is none; the nearest names are given.
    """
    if name.endswith((".yaml", ".yml")):
        if is_file(Path(name)):
            return Path(name)
        raise BadInput(f"no {kind} '{name}': no such file")
    for folder in (place, carried(place)):
        if is_file(file := folder / f"{name}.yaml"):
            return file
    raise BadInput(f"no {kind} named '{name}' in {place}/; {did_you_mean(name, known(place))}")


def known(place: Path) -> dict[str, Path]:
    """Every name in `place` or carried, in order, with its file; the user's own wins."""
    found = {file.stem: file for folder in (carried(place), place) for file in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def carried(place: Path) -> Path:
    """What the lab carries of that place."""
    return CARRIED / ("suites" if place == SUITES else place)


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # such as a name that is too long
