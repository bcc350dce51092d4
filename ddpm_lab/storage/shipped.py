"""Models that ship with the lab: folders as `export` writes them, in ddpm_lab/carried/models, each known by its name."""

from __future__ import annotations

from pathlib import Path

from registry.errors import did_you_mean

MODELS = Path(__file__).parent.parent / "carried" / "models"


def models() -> dict[str, Path]:
    """Name -> folder of all that there are, in order."""
    return {file.parent.name: file.parent for file in sorted(MODELS.glob("*/resolved.yaml"))}


def hint(name: str) -> str:
    """What a message about an unknown name goes on with; nothing where it is a path, or where no model ships."""
    known = models()
    return f", and no model of that name ships with the lab; {did_you_mean(name, known)}" if known and "/" not in name else ""
