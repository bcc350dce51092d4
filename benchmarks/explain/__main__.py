"""How often `explain` is right, and how often it names a cause where there is none.

python -m benchmarks.explain [x.npz]      ten minutes on one core; without a file the images are those of Fashion-MNIST

X and Y are sets of N images that share none. In the first trials that is all; in the others something was done to Y, by numpy
and PIL. Writes benchmarks/reports/explain/<file>.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import command
from benchmarks.common.reporting import REPORTS
from benchmarks.explain.planted import Array, jpeg, nearest, red
from ddpm_lab.diffusion.build import build_images
from ddpm_lab.runtime.console import say
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.studies.explain import subject
from ddpm_lab.studies.explain.explain import Search
from registry.choice import Choice
from registry.datasets.npz_reader import read_images
from registry.errors import BadInput

N, EQUALS, EACH = 500, 40, 5


def _smaller(images: Array) -> Array:
    return nearest(images, 20)


def _fewer(images: Array) -> Array:
    """A quarter of them."""
    return images[: len(images) // 4]


PLANTED: dict[tuple[str, ...], Callable[[Array], Array]] = {
    ("n",): _fewer,
    ("quantisation",): jpeg,
    ("resize",): _smaller,
    ("colour",): red,
    ("n", "quantisation"): lambda images: jpeg(_fewer(images)),
    ("colour", "n"): lambda images: red(_fewer(images)),
    ("colour", "resize"): lambda images: red(_smaller(images)),
    ("n", "quantisation", "resize"): lambda images: _smaller(jpeg(_fewer(images))),
    ("colour", "n", "resize"): lambda images: red(_smaller(_fewer(images))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", metavar="x.npz", help="other images than those of Fashion-MNIST")
    data = build_images(Choice("fashion_mnist", {}))
    file = parser.parse_args().images
    images = read_images(Path(file)) if file else data.train.rows(torch.arange(len(data.train)))
    sets = _sets(images.permute(0, 2, 3, 1).numpy())
    rows: list[dict[str, Any]] = []
    for factors, change in [((), lambda images: images)] * EQUALS + [one for one in PLANTED.items() for _ in range(EACH)]:
        with tempfile.TemporaryDirectory() as folder:
            x, y = (Path(folder) / name for name in ("x.npz", "y.npz"))
            np.savez(x, next(sets))
            np.savez(y, change(next(sets)))
            read = [subject.read(str(one), "cpu", None, None) for one in (x, y)]
            search = Search(read[0], read[1], lambda: data, _plain, "fashion_cnn", torch.device("cpu"))
            found = search.execute()
        named = [sorted({cause.factor for cause in one.causes}) for one in found.named]
        row = {"planted": list(factors), "before": found.before.value, "wanted": found.wanted.value, "named": named}
        rows.append({**row, "within_noise": found.within_noise, "seconds": round(found.seconds, 1)})
        say(str(rows[-1]))
        reports = REPORTS / "explain"
        reports.mkdir(parents=True, exist_ok=True)
        name = Path(file).stem if file else "fashion_mnist"
        write_json(reports / f"{name}.json", {"n": N, "rows": rows, "summary": _summary(rows)})


def _plain(name: str) -> Choice:
    return Choice(name, {})


def _sets(images: Array) -> Iterator[Array]:
    """Sets of N images, without return as long as there are any."""
    rng = np.random.default_rng(0)
    if len(images) < 2 * N:
        raise BadInput(f"{len(images)} images; at least {2 * N} are needed")
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(images) - N + 1, N):
            yield images[order[start : start + N]]


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each kind of trial: in how many was named what was planted, a part of it, or anything else."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        one = found.setdefault(", ".join(row["planted"]) or "nothing", {"trials": 0, "whole": 0, "part": 0, "wrong": 0})
        named = {factor for several in row["named"] for factor in several}
        kind = "wrong" if named - {*row["planted"]} else "whole" if row["planted"] in row["named"] else "part"
        one["trials"] += 1
        if named:
            one[kind] += 1
    return found


if __name__ == "__main__":
    command.execute(main)
