"""What is no regular file, or is larger than any of its kind, is refused at once, whoever reads it: one line, and no wait."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision.transforms.functional  # noqa: F401 - before memory is measured
from torch import nn

from ddpm_lab.cli import list as listing
from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.named_files import SWEEPS, find
from ddpm_lab.config.yaml_reader import read_mapping
from ddpm_lab.inference.trained_run import _read_shape
from ddpm_lab.reports.comparison import rank
from ddpm_lab.storage.checkpoints import Checkpoints
from ddpm_lab.storage.images import unlike
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.weights import load_weights
from ddpm_lab.sweeps import wandb_file as sweep_file
from ddpm_lab.sweeps.sweep import Sweep
from registry.datasets.cifar10 import cifar10
from registry.datasets.idx import read_idx
from registry.datasets.image_folder import image_folder
from registry.datasets.npz_reader import read_images, read_labels, read_made_by
from registry.errors import BadInput
from registry.features.inception_v3 import InceptionV3Features
from registry.plugins import load_file

PATIENCE = 10  # seconds
FLAT = 64 * 1024  # KiB
SPARSE = 2**42  # bytes that a file promises, and the disk does not hold


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _sparse(file: Path) -> None:
    with open(file, "wb") as stream:
        os.truncate(stream.fileno(), SPARSE)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pipe": _pipe,
    "a folder": Path.mkdir,
    "/dev/zero": lambda file: file.symlink_to("/dev/zero"),
    "/proc/kmsg": lambda file: file.symlink_to("/proc/kmsg"),
    "a file of terabytes": _sparse,
}


def _a_checkpoint(file: Path) -> None:
    file.with_name(f"{file.name}.sha256").write_text(f"{'0' * 64}  {file.name}\n")
    Checkpoints(file.parent).load()


def _a_checksum(file: Path) -> None:
    file.with_suffix("").write_bytes(b"x")
    Checkpoints(file.parent).load()


def _a_lock(file: Path) -> None:
    if RunFolder(file.parent).hold():
        raise BadInput(f"{file}: taken")  # as a file of terabytes may be, which nobody reads


def _a_binary_set(file: Path) -> None:
    cifar10(folder=str(file.parent))


def _refused(file: Path, refused: bool) -> None:
    if refused:
        raise BadInput(f"{file}: left alone")


def _a_module_beside(file: Path) -> None:
    (plugin := file.with_name("plugin.py")).write_text("import helper\n")
    load_file(plugin)


def _a_study(file: Path) -> None:
    Sweep("smoke", [], None, file.parent.parent.parent, None)
    raise BadInput(f"{file}: taken")


# The name of the file, and who reads it.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an experiment": ("x.yaml", lambda file: load_recipe(str(file))),
    "a mapping": ("x.yaml", read_mapping),
    "a sweep file": ("x.yaml", lambda file: sweep_file.read(find("sweep", str(file), SWEEPS))),
    "a plugin": ("x.py", load_file),
    "a module beside a plugin": ("helper.py", _a_module_beside),
    "data.json": ("data.json", lambda file: _read_shape(RunFolder(file.parent))),
    "a lock": (".lock", _a_lock),
    "weights": ("ema.safetensors", lambda file: load_weights(file, nn.Linear(1, 1))),
    "a checkpoint": ("000000100.pt", _a_checkpoint),
    "a checksum": ("000000100.pt.sha256", _a_checksum),
    "a picture": ("0.png", lambda file: image_folder(folder=str(file.parent))),
    "an .npz": ("x.npz", read_images),
    "how an .npz was made": ("x.npz", read_made_by),
    "an earlier grid": ("sample.png", lambda file: _refused(file, unlike(file, "") != file)),
    "the comment of an experiment": ("x.yaml", lambda file: _refused(file, not listing._about(file))),
    "labels of an .npz": ("x.npz", read_labels),
    "IDX": ("x", read_idx),
    "gzipped IDX": ("x.gz", read_idx),
    "CIFAR-10": ("data_batch_1.bin", _a_binary_set),
    "Inception's weights": ("x.pth", lambda file: InceptionV3Features(weights=str(file))),
    "measurements": ("x.evaluation.json", lambda file: rank([str(file.with_name("x.npz"))], "FID", None, None)),
    "a study": ("sweeps/smoke/study.db", _a_study),
    "the lock of a study": ("sweeps/smoke/.lock", _a_study),
}


@pytest.fixture
def _at_once() -> Iterator[None]:
    waited: list[int] = []

    def give_up(number: int, _: object) -> None:
        waited.append(number)
        raise InterruptedError(f"a wait of {PATIENCE} s")

    usual = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, usual)
    assert not waited, "whatever became of the error"


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_for_it_or_reads_it(reader: str, special: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    file = tmp_path / "deep/er" / name
    file.parent.mkdir(parents=True)
    if reader == "measurements":
        file.with_name("x.npz").touch()
    SPECIAL[special](file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput) as caught:
        read(file)
    assert str(file.parent) in str(caught.value) or str(file.resolve()) in str(caught.value)
    assert str(caught.value).endswith(": taken") == (
        (name.endswith(".lock") and special == "a file of terabytes") or (reader == "a study" and special == "/proc/kmsg")
    )
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < FLAT


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    """The other half: what is refused is not everything."""
    (file := tmp_path / "x").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]))
    (link := tmp_path / "link").symlink_to(file)
    assert torch.equal(read_idx(link), torch.tensor([5, 6, 7], dtype=torch.uint8))
