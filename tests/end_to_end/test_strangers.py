"""Files from strangers: refused in one line, with nothing executed, nothing created and the memory flat."""

import gzip
import hashlib
import json
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Quick
from PIL import Image

from ddpm_lab.config.load import dump, load_recipe
from ddpm_lab.storage.run_folder import RunFolder
from registry.beside import read_plugin

SMOKE = f"{ROOT}/experiments/smoke.yaml"
FLAT = 64 * 1024  # KiB
EVIL = "from pathlib import Path\n\nPath({sprung!r}).touch()\n"


def _evil(folder: Path, name: str = "evil.py") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(EVIL.format(sprung=str(folder / "sprung")))
    return file


def _yaml(text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "x.yaml").write_text(text.replace("SPRUNG", str(folder / "sprung")))
        return ["check", str(folder / "x.yaml")]

    return prepare


def _bomb(first: str, each: str) -> str:
    return "\n".join([f"a0: &a0 {first}", *(f"a{i}: &a{i} {each.replace('*', f'*a{i - 1}')}" for i in range(1, 30))])


def _vast_yaml(folder: Path) -> list[str]:
    with open(folder / "x.yaml", "wb") as stream:
        stream.truncate(2**32)
    return ["check", str(folder / "x.yaml")]


def _record(text: str) -> Callable[[Path], list[str]]:
    """A run's folder whose record says that; `evil.py` lies outside of it."""

    def prepare(folder: Path) -> list[str]:
        _evil(folder)
        (folder / "evil.yaml").write_text("plugins: [evil.py]\n")
        run = folder / "run"
        (run / "budgets").mkdir(parents=True)
        (run / "budgets/cpu.yaml").write_text(f"plugins: [{folder}/evil.py]\n")
        (run / "plugins").mkdir()
        (run / "plugins/link.py").symlink_to(folder / "evil.py")
        (run / "resolved.yaml").write_text(text.replace("FOLDER", str(folder)))
        return ["sample", str(run)]

    return prepare


def _kept(folder: Path) -> tuple[Path, Path]:
    """A run's folder with its copy of a plugin, as a run leaves it."""
    run = RunFolder(folder / "run")
    run.path.mkdir()
    (name,) = run.keep_plugins([read_plugin(_evil(folder))])
    run.experiment.write_text(f"plugins: [{name}]\n")
    return run.path, run.path / name


def _changed_plugin(folder: Path) -> list[str]:
    run, copy = _kept(folder)
    copy.write_text(copy.read_text() + "\n")
    return ["sample", str(run)]


def _unrecorded_plugin(folder: Path) -> list[str]:
    run, copy = _kept(folder)
    copy.with_name(f"{copy.name}.sha256").unlink()
    return ["sample", str(run)]


def _untrained(folder: Path) -> Path:
    """The folder of a run of the smoke experiment that holds no weights and no checkpoint."""
    run = folder / "results/smoke/20200101-000000-aaaaaa"
    run.mkdir(parents=True)
    (run / "resolved.yaml").write_text(dump(load_recipe(SMOKE).experiment))
    shape = {"name": "shapes", "image_shape": [1, 16, 16], "class_names": None, "std": 0.5, "train_hash": ""}
    (run / "data.json").write_text(json.dumps(shape))
    return run


def _data_json(**changed: object) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        run = _untrained(folder)
        (run / "data.json").write_text(json.dumps({**json.loads((run / "data.json").read_text()), **changed}))
        return ["sample", str(run)]

    return prepare


def _weights(header: object, length: int | None = None) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        run, text = _untrained(folder), json.dumps(header).encode()
        (run / "ema.safetensors").write_bytes(struct.pack("<Q", length or len(text)) + text + bytes(64))
        return ["sample", str(run)]

    return prepare


def _checkpoint_with_a_pickle(folder: Path) -> list[str]:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (folder / "sprung",))

    checkpoints = _untrained(folder) / "checkpoints"
    checkpoints.mkdir()
    file = checkpoints / "000000100.pt"
    torch.save({"network": Trap()}, file)
    file.with_name(f"{file.name}.sha256").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    return ["run", SMOKE, "--resume", "--results", str(folder / "results")]


def _images(content: bytes, name: str = "x.png") -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "images").mkdir()
        (folder / "images" / name).write_bytes(content)
        return ["check", SMOKE, "dataset.name=image_folder", f"dataset.folder={folder}/images"]

    return prepare


def _png(width: int, height: int) -> bytes:
    """A PNG whose header tells those sizes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(10**7), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _idx(*shape: int, values: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(values)


def _idx_folder(content: bytes) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "idx").mkdir()
        (folder / "idx/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content, 1))
        return ["check", SMOKE, f"dataset={{name: fashion_mnist, folder: {folder}/idx}}"]

    return prepare


def _npz(header: dict[str, object], values: int, method: int = zipfile.ZIP_DEFLATED) -> Callable[[Path], list[str]]:
    """An archive whose array tells of itself what the header says."""

    def prepare(folder: Path) -> list[str]:
        text = repr({"descr": "|u1", "fortran_order": False, "shape": (1, 28, 28, 1)} | header).encode() + b"\n"
        with zipfile.ZipFile(folder / "x.npz", "w", method, compresslevel=1) as archive, archive.open("arr_0.npy", "w") as file:
            file.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text)
            for _ in range(0, values, 2**20):
                file.write(bytes(min(values, 2**20)))
        return ["evaluate", str(folder / "x.npz")]

    return prepare


def _npz_with_an_object(folder: Path) -> list[str]:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (folder / "sprung",))

    np.savez(folder / "x.npz", np.array([Trap()], dtype=object), allow_pickle=True)
    return ["evaluate", str(folder / "x.npz")]


CASES: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "yaml: an object": (_yaml("loss: !!python/object/apply:os.mkdir [SPRUNG]\n"), ["x.yaml", "line 1", "python/object"]),
    "yaml: a module": (_yaml("loss: !!python/module:antigravity\n"), ["x.yaml", "python/module"]),
    "yaml: aliases of aliases": (_yaml(_bomb("[x, x]", f"[{', '.join('*' * 9)}]")), ["x.yaml", "aliases (*name) are not read"]),
    "yaml: merges of merges": (_yaml(_bomb("{x: 1}", f"{{<<: [{', '.join('*' * 9)}]}}")), ["aliases (*name) are not read"]),
    "yaml: a list that holds itself": (_yaml("loss: &a [*a]\n"), ["x.yaml", "line 1", "alias"]),
    "yaml: 10,000 deep": (_yaml(f"loss: {'[' * 10_000}{']' * 10_000}\n"), ["x.yaml", "nested too deeply"]),
    "yaml: a mapping 10,000 deep": (_yaml(f"loss: {'{a: ' * 10_000}\n"), ["x.yaml", "nested too deeply"]),
    "yaml: an integer of 200,000 digits": (_yaml(f"seed: {'1' * 200_000}\n"), ["x.yaml", "4300 digits"]),
    "yaml: nearly a number": (_yaml(f"extends: {SMOKE}\nseed: {'1' * 200_000}x\n"), ["x.yaml: seed: ", "valid integer"]),
    "yaml: an integer beyond int64": (_yaml(f"extends: {SMOKE}\ntimesteps: {2**63}\n"), ["timesteps", str(2**63)]),
    "yaml: 4 GiB": (_vast_yaml, ["x.yaml", "longer than 262,144 bytes"]),
    "record: a plugin above": (_record("plugins: [../evil.py]\n"), ["run/resolved.yaml", "'../evil.py' is outside"]),
    "record: a plugin elsewhere": (_record("plugins: [FOLDER/evil.py]\n"), ["run/resolved.yaml", "evil.py' is outside"]),
    "record: a link to a plugin": (_record("plugins: [plugins/link.py]\n"), ["run/resolved.yaml", "link.py' is outside"]),
    "record: another experiment": (_record("extends: ../evil.yaml\n"), ["run/resolved.yaml", "extends", "stands alone"]),
    "record: a budget of its own": (_record("seed: 0\n"), ["run/resolved.yaml", "this key is missing"]),
    "record: a plugin that was changed": (_changed_plugin, ["run/plugins/0/evil.py' is no longer the plugin"]),
    "record: a plugin without its hash": (_unrecorded_plugin, ["run/plugins/0/evil.py' is no longer the plugin"]),
    "data: images of terabytes": (_data_json(image_shape=[1, 2**20, 2**20]), ["data.json", "image_shape.1", "4096"]),
    "data: another kind": (_data_json(class_names=5), ["data.json", "class_names"]),
    "weights: a header of 2**62 bytes": (_weights({}, 2**62), ["ema.safetensors", "header too large"]),
    "weights: a tensor of 2**60 bytes": (
        _weights({"a": {"dtype": "U8", "shape": [2**60], "data_offsets": [0, 2**60]}}), ["ema.safetensors"],
    ),
    "weights: sizes that overflow": (
        _weights({"a": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 64]}}), ["ema.safetensors"],
    ),
    "checkpoint: a pickle": (_checkpoint_with_a_pickle, ["000000100.pt", "not a checkpoint of tensors and numbers"]),
    "image: 3,600 million pixels": (_images(_png(60_000, 60_000)), ["x.png", "3600000000 pixels"]),
    "image: 36 million pixels": (_images(_png(6_000, 6_000)), ["x.png", "6000 x 6000 pixels, more than 33,554,432"]),
    "image: no pixels": (_images(_png(0, 0)), ["x.png", "cannot be read as an image"]),
    "image: PostScript": (_images(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), ["x.png", "cannot identify"]),
    "idx: 2**40 images": (_idx_folder(_idx(2**32 - 1, 2**8, 1, values=9)), ["idx3-ubyte.gz", "promises 1099511627520"]),
    "idx: 255 dimensions": (_idx_folder(_idx(*[1] * 255, values=1)), ["idx3-ubyte.gz", "images [N, H, W]"]),
    "idx: nothing": (_idx_folder(_idx(0, 28, 28, values=0)), ["idx3-ubyte.gz", "[0, 28, 28]"]),
    "idx: a bomb that says so": (_idx_folder(_idx(2**17, 2**10, values=2**27)), ["promises 134217728 values"]),
    "idx: a bomb that does not": (_idx_folder(_idx(2, 3, 1, values=2**27)), ["idx3-ubyte.gz", "it holds more"]),
    "npz: an object": (_npz_with_an_object, ["x.npz", "object"]),
    "npz: far more promised than held": (_npz({"shape": (2**40, 28, 28, 1)}, 784), ["x.npz", "promises 862,017,116,176,384"]),
    "npz: less promised than held": (_npz({}, 2**27), ["x.npz", "promises 784 bytes, the archive 134,217,728"]),
    "npz: a bomb": (_npz({"shape": (2**17, 32, 32, 1)}, 2**27), ["x.npz", "134,217,728 bytes packed into"]),
    "npz: a bomb of another kind": (_npz({}, 2**27, zipfile.ZIP_BZIP2), ["x.npz", "a method that numpy does not use"]),
    "npz: negative sizes": (_npz({"shape": (-1, -784, 1, 1)}, 784), ["x.npz"]),
    "npz: a header that is code": (_npz({"descr": ("__import__('os').mkdir('sprung')",)}, 784), ["x.npz"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_stranger_sends_is_refused(case: str, quick: Quick, tmp_path: Path) -> None:
    prepare, words = CASES[case]
    command, before = prepare(tmp_path), set(tmp_path.rglob("*"))
    done = quick(*command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    *above, line = done.stderr.strip().splitlines()
    assert line.startswith("ddpm-lab: error: ")
    assert [other for other in above if not other.startswith("data: ")] == []
    for word in words:
        assert word in line
    assert len(line) < 2100
    appeared = {path for path in set(tmp_path.rglob("*")) - before if path.name != ".lock"}
    assert not appeared, "nothing was executed, and nothing created"
    assert done.grown < FLAT


def test_an_untouched_plugin_of_a_run_is_loaded_and_only_its_source(tmp_path: Path, quick: Quick) -> None:
    run, copy = _kept(tmp_path)
    # Bytecode that says of itself that its source need not be looked at.
    other = compile(EVIL.format(sprung=str(tmp_path / "bytecode")), str(copy), "exec")
    import importlib.util
    import marshal

    cached = Path(importlib.util.cache_from_source(str(copy)))
    cached.parent.mkdir()
    cached.write_bytes(importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + bytes(8) + marshal.dumps(other))
    outcome = quick("sample", run, cwd=tmp_path)
    assert "this key is missing" in outcome.stderr  # it got as far as the experiment, which is no whole one
    assert (tmp_path / "sprung").exists()
    assert not (tmp_path / "bytecode").exists()


def test_a_run_records_the_hash_of_its_plugins_as_sha256sum_has_it(tmp_path: Path) -> None:
    _, copy = _kept(tmp_path)
    done = subprocess.run(["sha256sum", "-c", f"{copy.name}.sha256"], cwd=copy.parent, capture_output=True, text=True)
    assert done.stdout == f"{copy.name}: OK\n"


def test_a_thin_image_stays_small(tmp_path: Path, quick: Quick) -> None:
    for index in range(20):
        Image.new("L", (2, 30_000), 10 * index).save(tmp_path / f"{index}.png")
    options = f"dataset={{name: image_folder, folder: {tmp_path}, size: 64, held_out: 0.5}}"
    outcome = quick("check", SMOKE, options, "train.batch=8")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.grown < 400 * 1024
