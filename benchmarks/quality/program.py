"""One peer: its training up to each of its marks, and the images of a mark.

python -m benchmarks.quality.program train NAME
python -m benchmarks.quality.program sample NAME MARK
"""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks import peers
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.runtime.host import pick_threads, settle
from ddpm_lab.storage.files import write_whole
from ddpm_lab.storage.images import write_images

WORK = Path("results/bench/quality")
EPOCHS = 300_000  # images: what the annotated recipe was published with
# Seconds of training at which images are sampled, the last first; inf is the end of those epochs.
MARKS = {
    "lucidrains": (600.0, 300.0),
    "smalldiffusion": (600.0, 300.0),
    "diffusers": (600.0, 300.0),
    "annotated": (math.inf, 600.0),
}
N, IN_A_FILE = 2000, 200  # images for a value, images in a file
KEPT_EVERY = 60.0  # seconds of training


def train(name: str) -> None:
    """Train a program to each of its marks; resume from what was kept."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    kind, kept = peers.kind(name), folder / "state.pt"
    torch.manual_seed(0)
    program = kind()
    seconds, images = 0.0, 0
    if kept.exists():
        known = torch.load(kept, weights_only=True)
        seconds, images = known["seconds"], known["images"]
        program.load_state(known["program"])
        torch.manual_seed(images)  # the rest of an interrupted epoch comes in another order
    for mark in sorted(MARKS[name]):
        file = folder / f"mark-{mark:g}.pt"
        while not file.exists():
            start, before, done = time.perf_counter(), seconds, False
            while not done and seconds < before + KEPT_EVERY:
                program.train(1)
                images += kind.batch
                seconds = before + time.perf_counter() - start
                done = images >= EPOCHS if mark == math.inf else seconds >= mark
            print(f"{name}: {seconds:.0f} s, {images:,} images", flush=True)
            state = {"seconds": seconds, "images": images, "program": program.state()}
            for path in (kept, *([file] if done else ())):
                write_whole(path, partial(torch.save, state))


def sample(name: str, mark: float) -> None:
    """The images of a mark, so many to a file; what is there is not sampled again."""
    folder = WORK / name
    missing = [(number, file) for number, file in enumerate(parts(folder, mark)) if not file.exists()]
    if not missing:
        return
    settle(pick_device(None), pick_threads("auto"))  # this changes no image, and halves the time
    program = peers.kind(name)()
    program.load_state(torch.load(folder / f"mark-{mark:g}.pt", weights_only=True)["program"])
    for number, file in missing:
        torch.manual_seed(1000 + number)
        write_images(file, program.sample(IN_A_FILE, program.steps), None, {"source": name, "steps": program.steps})
        print(f"{name}, mark {mark:g}: {(number + 1) * IN_A_FILE:,} of {N:,} images", flush=True)


def parts(folder: Path, mark: float) -> list[Path]:
    """The files that hold the images of a mark."""
    return [folder / f"mark-{mark:g}-{number:02d}.npz" for number in range(N // IN_A_FILE)]


if __name__ == "__main__":
    order, program, *mark = sys.argv[1:]
    if order == "train":
        train(program)
    else:
        sample(program, float(mark[0]))
