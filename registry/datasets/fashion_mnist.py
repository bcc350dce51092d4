"""Fashion-MNIST, from wherever it can be had, always the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.datasets import DATASETS, ImageSet, Split
from registry.datasets.cache import cache_folder
from registry.datasets.idx import read_idx
from registry.errors import BadInput

HUB_NAME = "zalando-datasets/fashion_mnist"
DEBIAN_NAME = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")
HUB_PATIENCE = 8.0  # seconds

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# SHA-256 of the decoded values, row by row. The same arrays come from the hub, from Debian and from Zalando's own files.
ARRAYS = {
    "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}

Arrays = dict[str, Tensor]


@DATASETS.register("fashion_mnist")
def fashion_mnist(*, folder: str | None = None) -> ImageSet:
    """Fashion-MNIST, 60,000 + 10,000 garments of 28 x 28 in ten classes (Xiao et al. 2017, arXiv:1708.07747).

    Sources in order: the verified cache, the hub, the Debian package; or only `folder`, with the four IDX files.
    """
    if folder is not None:
        if not Path(folder).expanduser().is_dir():
            raise BadInput(f"dataset.folder: no such folder '{folder}'")
        arrays, source = _verified(_from_idx(Path(folder).expanduser()), folder), folder
    else:
        arrays, source = _from_anywhere()
    train, test = (
        Split(arrays[f"{part}-images-idx3-ubyte"][:, None], arrays[f"{part}-labels-idx1-ubyte"].long())
        for part in ("train", "t10k")
    )
    return ImageSet("fashion_mnist", train, test, CLASS_NAMES, source, "MIT (Zalando SE)")


def _from_anywhere() -> tuple[Arrays, str]:
    cached = cache_folder() / "fashion_mnist.safetensors"
    failures = []
    sources: list[tuple[str, Callable[[], Arrays]]] = [
        (f"cache {cached}", lambda: _from_cache(cached)),
        (f"hub {HUB_NAME}", _from_hub),
        (f"/{DEBIAN_FOLDER}", lambda: _from_idx(Path("/") / DEBIAN_FOLDER)),
        (f"Debian package {DEBIAN_NAME}", _from_debian),
    ]
    for source, fetch in sources:
        try:
            arrays = _verified(fetch(), source)
        except FileNotFoundError:
            continue  # nothing there yet, which is no failure
        except Exception as error:  # whatever a source dies of, the next one is tried, and the error kept
            text = str(error) or type(error).__name__
            failures.append(text if source in text else f"{source}: {text}")
            continue
        if not source.startswith("cache"):
            _keep(arrays, cached)
        return arrays, source
    raise BadInput(
        f"Fashion-MNIST cannot be had. Tried {'; '.join(' '.join(text.split()) for text in failures)}. Remedy: connect to"
        f" the hub, or `apt-get install {DEBIAN_NAME}`, or put the four IDX files in a folder and set"
        " `dataset: {name: fashion_mnist, folder: PATH}`"
    )


def _verified(arrays: Arrays, source: str) -> Arrays:
    known = {digest: name for name, digest in ARRAYS.items()}
    for name, digest in ARRAYS.items():
        found = hashlib.sha256(arrays[name].contiguous().numpy().data).hexdigest()
        if found in known and found != digest:
            raise BadInput(f"{source}: {name} holds the values of {known[found]}; the files are swapped")
        if found != digest:
            raise BadInput(
                f"{source}: {name} is not Fashion-MNIST's (SHA-256 {found[:12]}..., not {digest[:12]}...); fetch it again"
            )
        # The hash is of the values alone, so that it is the same for every source; a header may still lie about them.
        count = 60_000 if name.startswith("train") else 10_000
        shape = (count, 28, 28) if "images" in name else (count,)
        if arrays[name].dtype != torch.uint8 or arrays[name].shape != shape:
            raise BadInput(f"{source}: {name} has the sizes {list(arrays[name].shape)}, not {list(shape)}; fetch it again")
    return arrays


def _from_cache(cached: Path) -> Arrays:
    if not cached.exists():
        raise FileNotFoundError(cached)
    return load_file(cached)


def _keep(arrays: Arrays, cached: Path) -> None:
    """Write the cache aside and rename it, so that a reader never sees half of it; without a cache the lab still runs."""
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cached.parent, suffix=".partial", delete=False) as aside:
            pass
        save_file({name: array.contiguous() for name, array in arrays.items()}, aside.name)
        os.replace(aside.name, cached)
    except OSError:
        Path(aside.name).unlink(missing_ok=True) if "aside" in locals() else None


def _from_idx(folder: Path) -> Arrays:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    arrays = {}
    for name in ARRAYS:
        file = next((file for file in (folder / f"{name}.gz", folder / name) if file.exists()), None)
        if file is None:
            raise BadInput(f"{folder}: no {name} or {name}.gz in it")
        arrays[name] = read_idx(file)
    return arrays


def _from_hub() -> Arrays:
    _require_hub()
    import datasets  # slow to import, and of no use without the hub

    arrays = {}
    for part, split in (("train", "train"), ("t10k", "test")):
        rows = datasets.load_dataset(HUB_NAME, split=split).with_format("torch")
        arrays[f"{part}-images-idx3-ubyte"] = torch.stack(list(rows["image"])).reshape(-1, 28, 28)
        arrays[f"{part}-labels-idx1-ubyte"] = torch.as_tensor(rows["label"]).to(torch.uint8)
    return arrays


def _require_hub() -> None:
    """Find out in HUB_PATIENCE seconds whether the hub answers; `datasets` alone would retry for minutes."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "TRUE", "YES", "ON"}:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    answer: list[str] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(f"{endpoint}/api/datasets/{HUB_NAME}", timeout=HUB_PATIENCE).close()
            answer.append("")
        except (OSError, ValueError) as error:
            answer.append(str(error))

    # A thread, because the look-up of a name has no time limit of its own.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(HUB_PATIENCE)
    if not answer or answer[0]:
        raise ConnectionError(f"cannot be reached ({answer[0] if answer else f'no answer in {HUB_PATIENCE:g} s'})")


def _from_debian() -> Arrays:
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise ConnectionError(f"no {tool} on this machine")
    with tempfile.TemporaryDirectory() as room:
        # The package lists go to the room too: no root needed, and a machine that never ran `apt-get update` will do.
        Path(room, "lists/partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={room}/lists", "-o", "APT::Sandbox::User=root"]
        if _run(["apt-get", "download", DEBIAN_NAME], room):
            _run(["apt-get", *private, "update"], room)
            if failure := _run(["apt-get", *private, "download", DEBIAN_NAME], room):
                raise ConnectionError(failure)
        (package,) = Path(room).glob("*.deb")
        if failure := _run(["dpkg", "-x", str(package), room], room):
            raise ConnectionError(failure)
        return _from_idx(Path(room) / DEBIAN_FOLDER)


def _run(command: list[str], folder: str) -> str:
    """The last line of the command's complaint, or nothing where it succeeded."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(command[:1])}` did not end in 120 s"
    return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1] if done.returncode else ""
