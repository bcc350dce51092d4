"""Where a known data set can be had: its verified cache, then one source after the other, each failure kept for the error."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.datasets.cache import cache_folder
from registry.errors import BadInput
from registry.files import ARRAYS, required

HUB_PATIENCE = 8.0  # seconds

Arrays = dict[str, Tensor]
Verify = Callable[[Arrays, str], Arrays]


def from_anywhere(title: str, sources: dict[str, Callable[[], Arrays]], verify: Verify, remedy: str) -> tuple[Arrays, str]:
    """The arrays from the first source that has them, and which one that was; they are cached for the next time.

    `verify(arrays, source)` gives them back, or raises. A source without them raises FileNotFoundError, which is not a failure.

    Raises:
        BadInput: no source has them; each that failed is named, with the remedy.
    """
    cached = cache_folder() / f"{title}.safetensors"
    failures = []
    for source, fetch in {f"cache {cached}": lambda: _from_cache(cached), **sources}.items():
        try:
            arrays = verify(fetch(), source)
        except FileNotFoundError:
            continue  # nothing there yet, which is no failure
        except Exception as error:  # whatever a source dies of, the next one is tried, and the error kept
            text = str(error) or type(error).__name__
            failures.append(text if source in text else f"{source}: {text}")
            continue
        if not source.startswith("cache"):
            _keep(arrays, cached)
        return arrays, source
    tried = "; ".join(" ".join(text.split()) for text in failures)
    raise BadInput(f"{title} cannot be had. Tried {tried}. Remedy: {remedy}")


def from_folder_or_anywhere(
    title: str, folder: str | None, read: Callable[[Path], Arrays], sources: dict[str, Callable[[], Arrays]], verify: Verify,
    remedy: str,
) -> tuple[Arrays, str]:  # fmt: skip
    """The arrays that `read` finds in the folder which the user names, else those `from_anywhere`; and where they are from.

    Raises:
        BadInput: there is no such folder, or its arrays are not the data set's; or as above.
    """
    if folder is None:
        return from_anywhere(title, sources, verify, remedy)
    if not (place := Path(folder).expanduser()).is_dir():
        raise BadInput(f"dataset.folder: no such folder '{folder}'")
    return verify(read(place), folder), folder


def _from_cache(cached: Path) -> Arrays:
    return load_file(required(cached, ARRAYS))


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


def require_values(
    title: str, arrays: Arrays, source: str, known: dict[str, str], shapes: dict[str, tuple[int, ...]]
) -> Arrays:  # fmt: skip
    """The arrays, once each is the data set's: uint8, of its shape, and with the SHA-256 of its values row by row in `known`.

    Raises:
        BadInput: one is not; where two are swapped it says so.
    """
    names = {digest: name for name, digest in known.items()}
    for name, digest in known.items():
        found = hashlib.sha256(arrays[name].contiguous().numpy().data).hexdigest()
        if found in names and found != digest:
            raise BadInput(f"{source}: {name} holds the values of {names[found]}; the files are swapped")
        if found != digest:
            raise BadInput(f"{source}: {name} is not {title}'s (SHA-256 {found[:12]}..., not {digest[:12]}...); fetch it again")
        # The hash is of the values alone, so that it is the same for every source; a header may still lie about them.
        sizes = list(arrays[name].shape)
        if arrays[name].dtype != torch.uint8 or sizes != list(shapes[name]):
            raise BadInput(f"{source}: {name} has the sizes {sizes}, not {list(shapes[name])}; fetch it again")
    return arrays


def require_tools(*tools: str) -> None:
    """Look for the programs that a source needs.

    Raises:
        ConnectionError: this machine lacks one.
    """
    for tool in tools:
        if shutil.which(tool) is None:
            raise ConnectionError(f"no {tool} on this machine")


def complaint(command: list[str], folder: str) -> list[str]:
    """What a command that failed in a folder wrote on standard error, line by line; nothing where it succeeded."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return [f"`{command[0]}` did not end in 120 s"]
    return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"]) if done.returncode else []


def require_hub(name: str) -> None:
    """Find out in HUB_PATIENCE seconds whether the hub has a data set; `datasets` alone would retry for minutes.

    Raises:
        ConnectionError: it does not, or does not answer.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "TRUE", "YES", "ON"}:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    answer: list[str] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(f"{endpoint}/api/datasets/{name}", timeout=HUB_PATIENCE).close()
            answer.append("")
        except (OSError, ValueError) as error:
            answer.append(str(error))

    # A thread, because the look-up of a name has no time limit of its own.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(HUB_PATIENCE)
    if not answer or answer[0]:
        raise ConnectionError(f"cannot be reached ({answer[0] if answer else f'no answer in {HUB_PATIENCE:g} s'})")


def hub_arrays(name: str, splits: dict[str, str], image: str, label: str) -> Arrays:
    """`PART-images` uint8 [N, C, H, W] and `PART-labels` [N] of a data set on the hub; `splits` names each part's split."""
    require_hub(name)
    import datasets  # slow to import, and of no use without the hub

    arrays = {}
    for part, split in splits.items():
        rows = datasets.load_dataset(name, split=split).with_format("torch")
        images = torch.stack(list(rows[image]))
        arrays[f"{part}-images"] = images if images.ndim == 4 else images[:, None]
        arrays[f"{part}-labels"] = torch.as_tensor(rows[label]).to(torch.uint8)
    return arrays


def idx_file(folder: Path, name: str) -> Path:
    """`name.gz` or `name` in a folder.

    Raises:
        FileNotFoundError: there is no such folder.
        BadInput: neither file is in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    file = next((file for file in (folder / f"{name}.gz", folder / name) if file.exists()), None)
    if file is None:
        raise BadInput(f"{folder}: no {name} or {name}.gz in it")
    return file
