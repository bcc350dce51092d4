"""Whether runs that are compared were trained by the same code, as their environment.json has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ddpm_lab.storage.run_folder import RunFolder


def differences(names: Sequence[str]) -> Iterator[str]:
    """A line for each piece of code that was another one for some of the runs, and one for each run with replaced functions.

    Runs of before such records say nothing.
    """
    hashes: dict[str, dict[str, list[str]]] = {}
    for name in names:
        found = RunFolder.named(name).recorded_environment()
        for piece, digest in found.code.items():
            hashes.setdefault(piece, {}).setdefault(digest, []).append(name)
        if found.replaced:
            yield f"{name}: trained with functions that are not the lab's: {', '.join(found.replaced)}"
    for piece, runs in hashes.items():
        if len(runs) > 1:
            told = "; ".join(f"{digest}: {', '.join(same)}" for digest, same in runs.items())
            yield f"trained by different code of the {piece} ({told})"
