"""Files from strangers: refused in one line, nothing executed, and no memory for what a file only promises."""

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Lab
from PIL import Image

SMOKE = f"extends: {ROOT}/experiments/smoke.yaml\n"
MEMORY = 400 * 2**20  # bytes above what the imports take

# Reads each file as its command does, under a limit of memory, and says what came of it: one line of JSON for each.
READ = """
import json, resource, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from ddpm_lab.checkpoint import load_weights
from ddpm_lab.npz import read_images
from ddpm_lab.recipe import load_recipe
from registry.datasets.idx import read_idx
from registry.datasets.image_folder import image_folder
from registry.errors import BadInput
read = {
    "npz": read_images, "idx": read_idx, "yaml": lambda file: load_recipe(str(file)),
    "folder": lambda file: image_folder(folder=str(file)), "weights": lambda file: load_weights(file, torch.nn.Linear(2, 2)),
}
pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, pages + MEMORY))
for case, (what, file) in json.loads(sys.argv[1]).items():
    try:
        read[what](Path(file))
        said = "nothing"
    except BadInput as error:
        said = str(error)
    except BaseException as error:
        said = f"a traceback: {error!r}"
    print(json.dumps([case, said]))
"""


def _huge_npz(file: Path) -> None:
    """A header that promises 2**40 images of one pixel."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 1, 1, 1)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(100))


def _squeezed_npz(file: Path) -> None:
    """320 megabytes of zeros."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (320 * 2**8, 64, 64, 1)})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("arr_0.npy", "w") as stream:
        stream.write(header.getvalue())
        for _ in range(320):
            stream.write(bytes(2**20))


def _object_npz(file: Path) -> None:
    np.savez(file, np.array([print], dtype=object))


def _huge_idx(file: Path) -> None:
    file.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 2**30, 1, 1) + bytes(100))


def _squeezed_idx(file: Path) -> None:
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(b"\0\0\x08\x03" + struct.pack(">3I", 10, 28, 28))
        for _ in range(64):
            stream.write(bytes(2**20))


def _laughing_yaml(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    file.write_text("\n".join(lines))


def _bomb_folder(folder: Path) -> None:
    """A PNG of 12,000 x 12,000 black pixels is a file of some kilobytes."""
    folder.mkdir()
    Image.new("1", (12_000, 12_000)).save(folder / "bomb.png")


def _lying_safetensors(file: Path) -> None:
    header = b'{"weight":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))


CASES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "npz that promises 2**40 images": ("npz", _huge_npz, "its header promises 1,099,511,627,776 bytes, it holds 100"),
    "npz bomb": ("npz", _squeezed_npz, "squeezed into"),
    "npz of objects": ("npz", _object_npz, "allow_pickle=False"),
    "IDX that promises 2**30 images": ("idx", _huge_idx, "promises 1073741824 values, it holds 100"),
    "IDX bomb": ("idx", _squeezed_idx, "promises 7840 values, it holds more"),
    "YAML that runs code": ("yaml", lambda f: _text(f, "seed: !!python/object/apply:os.system [id]"), "could not determine"),
    "YAML of a billion aliases": ("yaml", _laughing_yaml, "aliases (*name) are not read"),
    "YAML 10,000 deep": ("yaml", lambda f: _text(f, "a: " + "[" * 10_000), ".yaml"),
    "YAML with a number of a million digits": ("yaml", lambda f: _text(f, "seed: " + "9" * 10**6), ".yaml"),
    "image bomb": ("folder", _bomb_folder, "bomb.png: more than the 67,108,864 pixels"),
    "safetensors that promise 2**40 numbers": ("weights", _lying_safetensors, "do not fit"),
}


def _text(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What reading each file came to, all of them in one process."""
    folder = tmp_path_factory.mktemp("strangers")
    orders = {}
    for number, (case, (what, make, _)) in enumerate(CASES.items()):
        file = folder / f"{number}.{'gz' if case == 'IDX bomb' else what}"
        make(file)
        orders[case] = [what, str(file)]
    code = READ.replace("MEMORY", str(MEMORY))
    command = [sys.executable, "-c", code, json.dumps(orders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line_and_memory_stays_flat(case: str, said: dict[str, str]) -> None:
    number = list(CASES).index(case)
    assert "\n" not in said[case]
    assert f"{number}." in said[case]
    assert CASES[case][2] in said[case]


PLUGIN = """
from pathlib import Path
from registry.losses import LOSSES
Path({sprung!r}).touch()

@LOSSES.register("cubed")
def cubed(prediction, target):
    "The third power of the error."
    return (prediction - target).abs() ** 3
"""


@pytest.fixture(scope="module")
def run_with_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "cubed.py").write_text(PLUGIN.format(sprung=str(folder / "sprung")))
    (folder / "cubed.yaml").write_text(
        SMOKE + "plugins: [cubed.py]\nloss: cubed\ntrain: {images: 64}\nevaluate: {n: 4, every: null}\n"
    )
    command = [sys.executable, "-m", "ddpm_lab", "run", str(folder / "cubed.yaml"), "--results", str(folder / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return (folder / "results/latest").resolve()


@pytest.fixture
def received(run_with_plugin: Path, tmp_path: Path) -> Path:
    """That run, as it comes from a stranger."""
    import shutil

    (run_with_plugin.parents[2] / "sprung").unlink(missing_ok=True)
    return Path(shutil.copytree(run_with_plugin, tmp_path / "run"))


def test_a_run_takes_its_plugin_along_with_its_hash(received: Path, lab: Lab) -> None:
    check = ["sha256sum", "-c", "SHA256SUMS"]
    assert subprocess.run(check, cwd=received / "plugins", capture_output=True, text=True).stdout == "0_cubed.py: OK\n"
    done = lab("sample", received, "-n", "4")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["changed", "outside by ..", "outside by link", "outside by its full path"])
def test_a_run_whose_plugin_is_not_its_own_is_refused_and_nothing_runs(
    how: str, received: Path, tmp_path: Path, lab: Lab, run_with_plugin: Path
) -> None:
    plugin, resolved = received / "plugins/0_cubed.py", received / "resolved.yaml"
    (tmp_path / "evil.py").write_text(plugin.read_text() + "# evil\n")
    if how == "changed":
        plugin.write_text(plugin.read_text() + "# changed\n")
    elif how == "outside by link":
        plugin.unlink()
        plugin.symlink_to(tmp_path / "evil.py")
    else:
        name = "../evil.py" if how == "outside by .." else str(tmp_path / "evil.py")
        resolved.write_text(resolved.read_text().replace("plugins/0_cubed.py", name))
    done = lab("sample", received, "-n", "4")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "its SHA-256 is not the one in" in line or "lies outside the run's folder" in line
    assert not (run_with_plugin.parents[2] / "sprung").exists()


def test_a_stranger_s_checkpoint_and_yaml_run_no_code(tmp_path: Path, lab: Lab) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "x.yaml").write_text(f"seed: !!python/object/apply:pathlib.Path.touch [{tmp_path}/sprung]\n")
    done = lab("check", tmp_path / "x.yaml")
    assert done.returncode == 2
    torch.save({"arr_0": Trap()}, tmp_path / "x.npz")
    done = lab("evaluate", tmp_path / "x.npz")
    assert done.returncode == 2
    assert "x.npz: not an .npz" in done.stderr
    assert not (tmp_path / "sprung").exists()
