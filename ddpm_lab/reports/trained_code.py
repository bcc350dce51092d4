"""Whether runs that are compared were trained by the same code, as their environment.json has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ddpm_lab.storage.json_text import read_json
from ddpm_lab.storage.run_folder import RunFolder
from registry.errors import BadInput


def differences(names: Sequence[str]) -> Iterator[str]:
    """A line for each piece of code that was another one for some of the runs, and one for each run with replaced functions.

    Runs of before such records say nothing.
    """
    hashes: dict[str, dict[str, list[str]]] = {}
    for name in names:
        code, replaced = _recorded(name)
        for piece, digest in code.items():
            hashes.setdefault(piece, {}).setdefault(digest, []).append(name)
        if replaced:
            yield f"{name}: trained with functions that are not the lab's: {', '.join(replaced)}"
    for piece, runs in hashes.items():
        if len(runs) > 1:
            told = "; ".join(f"{digest}: {', '.join(same)}" for digest, same in runs.items())
            yield f"trained by different code of the {piece} ({told})"


def _recorded(name: str) -> tuple[dict[str, str], list[str]]:
    try:
        environment = read_json(RunFolder.open(name).environment)
        code, replaced = environment["code"], environment["replaced"]
    except (OSError, BadInput, LookupError, TypeError):
        return {}, []
    return (code if isinstance(code, dict) else {}), (replaced if isinstance(replaced, list) else [])
