"""Mutated input of every kind: never a traceback, never a hang, never a half-written run.

`make test` runs a few examples of each kind, always the same ones; `make fuzz` runs 10,000, each time others.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save
from test_special_files import SPECIAL
from torch import nn

from ddpm_lab.cli.main import main
from ddpm_lab.config import load as recipe
from ddpm_lab.config.load import dump, load_recipe
from ddpm_lab.inference.trained_run import _read_shape
from ddpm_lab.runner import preflight as check
from ddpm_lab.runner.run import Execution
from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.storage.checkpoints import Checkpoints
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.weights import load_weights
from registry.beside import Plugin
from registry.datasets.cache import cache_folder
from registry.datasets.idx import read_idx
from registry.datasets.image_folder import image_folder
from registry.datasets.npz_reader import read_images, read_labels
from registry.errors import BadInput
from registry.plugins import REGISTRIES

EXAMPLES = int(os.environ.get("FUZZ", "0"))
PATIENCE = 60  # seconds, after which an example counts as a hang
T = TypeVar("T")
Bytes = Callable[[st.DrawFn], bytes]


def fuzz(examples: int) -> settings:
    """So many in `make test`, and as many as FUZZ says where it says a number."""
    checks = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
    ]
    return settings(
        max_examples=EXAMPLES or examples, derandomize=not EXAMPLES, database=None, deadline=None, suppress_health_check=checks,
    )  # fmt: skip


@contextlib.contextmanager
def _no_hang() -> Iterator[None]:
    hung: list[int] = []

    def give_up(number: int, _: object) -> None:
        hung.append(number)
        raise InterruptedError(f"a hang of {PATIENCE} s")

    usual = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)
    assert not hung, "what waits too long may take the interruption for damage"


def _survives(load: Callable[[], T]) -> T | None:
    """What it gives, or nothing where it refuses in one line; any other exception fails the test."""
    with _no_hang():
        try:
            return load()
        except BadInput as error:
            if "\n" in str(error) or not str(error):
                raise AssertionError("that is not one line") from error
            return None


EXTREME = [0, 1, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, tokens: list[bytes]) -> bytes:
    """Bytes with some of them changed, taken out, put in, doubled, or made an extreme number."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(0, 16))
        kind = draw(st.sampled_from(["flip", "set", "cut", "drop", "put", "token", "copy", "number"]))
        if kind == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[place:]
        elif kind == "drop":
            del data[place : place + length]
        elif kind == "put":
            data[place:place] = draw(st.binary(max_size=16))
        elif kind == "token" and tokens:
            data[place:place] = draw(st.sampled_from(tokens))
        elif kind == "copy":
            start = draw(st.integers(0, len(data)))
            data[place:place] = data[start : start + draw(st.integers(0, 64))]
        else:
            form = draw(st.sampled_from(["<I", ">I", "<Q", ">Q", "<H", ">H"]))
            number = draw(st.sampled_from(EXTREME)) % 2 ** (8 * struct.calcsize(form))
            data[place : place + struct.calcsize(form)] = struct.pack(form, number)
    return bytes(data)


# --- experiments and overrides ---------------------------------------------------------------------------------------------

FILES = sorted((ROOT / "experiments").rglob("*.yaml"))
YAML_TOKENS = [
    b"&a ", b"*a", b"!!int ", b"!!float ", b"!!python/object/apply:os.abort []", b"<<: ", b"[", b"]", b"{", b"}", b": ", b"- ",
    b"\t", b"\xff", b"\0", b"1" * 5000, b"? ", b"|\n", b"> ", b"\r\n", b"---\n", b"...\n", b"%YAML 1.1\n", b"'", b'"',
    b"#", b"\n", b"~", b"null", b"[" * 1000, b"{a: " * 500, b"name", b"=", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"1e400", b".nan",
    b"-0", b"!",
]  # fmt: skip


def _dotted(section: Any, prefix: str = "") -> list[str]:
    if not isinstance(section, dict):
        return []
    return [name for key, value in section.items() for name in (f"{prefix}{key}", *_dotted(value, f"{prefix}{key}."))]


RESOLVED = dump(load_recipe(str(ROOT / "experiments/smoke.yaml")).experiment)
MORE = {"train.ema.ramp", "train.ema.std", "extends", "name", "loss.delta", "dataset.folder", "dataset.stream"}
KEYS = sorted({*_dotted(yaml.safe_load(RESOLVED)), *MORE})
WORDS = [
    "shapes", "fashion_mnist", "image_folder", "npz", "idx", "hub", "cosine", "linear", "v", "epsilon", "x0", "huber", "l1",
    "l2", "patch_unet", "annotated_unet", "adm_unet", "dit", "uvit", "mlp", "power", "Adam",
    "SGD", "Muon", "Adafactor", "ddim", "ancestral", "uniform", "stratified", "fashion_cnn",
    "ema", "raw", "auto", "fp32", "bf16", "wandb", "none", "base", "smoke", "cpu", "",
    "~", "~nobody/x", "/nowhere/x.py", "../..", "a\0b", "é", "x" * 300,
]  # fmt: skip
# Numbers at which something fits or does not; in between they would only cost memory and time.
NUMBERS = [*range(-2, 20), 28, 32, 64, 255, 256, 10**12, 2**63 - 1, 2**63, -(2**63), 10**40, 10**400]
plain = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.floats(), st.sampled_from(WORDS), st.text(max_size=8),
    st.sampled_from([1e-320, 1e308, -1e-9, 1e-4, 0.5, 1.0, 2.0]),
)  # fmt: skip
names = st.one_of(st.sampled_from([key.split(".")[-1] for key in KEYS]), st.text(max_size=6))
values = st.recursive(
    plain, lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3), max_leaves=6
)


@st.composite
def experiments(draw: st.DrawFn) -> bytes:
    """The text of a real experiment with keys, values and structure changed, or bytes."""
    whole = draw(st.sampled_from([*(file.read_text() for file in FILES), RESOLVED]))
    tree = yaml.safe_load(whole)
    for _ in range(draw(st.integers(0, 3))):
        place, keys = tree, list(tree)
        while keys and isinstance(place[key := draw(st.sampled_from(keys))], dict) and draw(st.booleans()):
            place, keys = place[key], list(place[key])
        change = draw(st.sampled_from(["drop", "value", "rename", "new", "nest", "move"]))
        if not keys or change == "new":
            place[draw(names)] = draw(values)
        elif change == "drop":
            del place[key]
        elif change == "value":
            place[key] = draw(values)
        elif change == "rename":
            place[draw(names)] = place.pop(key)
        elif change == "nest":
            place[key] = draw(st.sampled_from([[place[key]], {key: place[key]}, {"name": place[key]}]))
        else:
            tree[draw(st.sampled_from(KEYS)).split(".")[0]] = place[key]
        tree = tree or {"seed": 0}
    text = yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
    return draw(damaged(text, YAML_TOKENS)) if draw(st.booleans()) else text


def _written(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


overrides = st.lists(
    st.one_of(
        st.builds(lambda key, value: f"{key}={_written(value)}", st.sampled_from(KEYS), values),
        st.builds(lambda key, text: f"{key}={text}", st.sampled_from(KEYS), st.text(max_size=12)),
        st.text(alphabet=".=abn[]{}:'\"!&*\udcff\n é1-", max_size=20),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_stranger_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutation may name a plugin; none of them may be a file that is there, for it would be run."""
    load_file = recipe.load_file

    def load(file: Path, recorded: Callable[[Path], str] | None = None) -> Plugin:
        with contextlib.suppress(OSError, ValueError):
            assert not file.is_file()
        return load_file(file, recorded)

    monkeypatch.setattr(recipe, "load_file", load)
    monkeypatch.chdir(ROOT)


@fuzz(60)
@given(text=experiments())
@example(text=b"loss: {delta: 1}\nextends: smoke\n")
def test_experiments(text: bytes, tmp_path: Path) -> None:
    (file := tmp_path / "x.yaml").write_bytes(text)
    if (found := _survives(lambda: load_recipe(str(file)))) is not None:
        (again := tmp_path / "again.yaml").write_text(dump(found.experiment), encoding="utf-8")
        assert load_recipe(str(again)).experiment == found.experiment, "what is accepted is written so that it reads back"


@fuzz(60)
@given(changes=overrides)
@example(changes=["loss=", "loss.delta=1"])
@example(changes=["train.ema=[{name: power}, {name: power, std: [0.1]}]"])
@example(changes=["train.ema=[{name: power}]", "train.ema.std=0.2"])
@example(changes=["train.ema={name: power, std: 1" + "0" * 400 + "}"])
def test_overrides(changes: list[str]) -> None:
    _survives(lambda: load_recipe("smoke", changes))


@pytest.fixture
def unexecuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are built and whose folder is made, but which do not train."""
    monkeypatch.setattr(Execution, "execute", lambda self: None)


def _run(*words: str) -> tuple[int, str]:
    with contextlib.redirect_stderr(io.StringIO()) as said, _no_hang():
        try:
            status = main(["run", *words])
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, said.getvalue()


@fuzz(30)
@given(changes=overrides)
def test_a_run_is_whole_or_not_there(changes: list[str], unexecuted: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    results = tmp_path_factory.mktemp("results") / "results"
    status, said = _run("smoke", *changes, "evaluate.features=[]", "--results", str(results))
    assert status in (0, 2), said
    if status == 2:
        *above, line = said.strip().splitlines()
        assert "error: " in line
        assert [other for other in above if not other.startswith("data: ")] == []
        assert not results.exists()
    else:
        (run,) = results.glob("smoke/*")
        assert load_recipe(str(run)).experiment.track.name
        assert _read_shape(RunFolder(run)).name


# --- homes -----------------------------------------------------------------------------------------------------------------

ODD = " '\"\\:#$~*[]{}&!|>%@`,-é\u0301ß漢\u2028\U0001f4c1\n\t"
folders = st.text(
    st.one_of(st.sampled_from(ODD), st.characters(codec="utf-8")), min_size=1, max_size=40
).filter(lambda name: not {"/", "\0"} & set(name) and name not in (".", "..") and len(name.encode()) < 200)  # fmt: skip


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for one in pair for text in _texts(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in _texts(one))


@fuzz(4)
@given(name=folders)
@example(name="a b'\n  c")
@example(name="Jürgen Ñ")
def test_a_home_of_any_name_stays_at_home(
    name: str, unexecuted: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path_factory.mktemp("home") / name).mkdir()
    monkeypatch.setenv("DDPM_LAB_CACHE", str(cache_folder()))
    monkeypatch.setenv("HOME", str(home))
    np.savez(home / "x.npz", np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1))
    told = _written({"name": "npz", "file": f"{home}/x.npz"})
    words = [
        "smoke",
        f"dataset={told}",
        f"track.notes={_written(f'see {home}/notes')}",
        "train.batch=2",
        "evaluate.features=[]",
    ]
    words += ["--results", str(home / "results"), "--id", "same"]
    status, said = _run(*words)
    assert status == 0, said
    assert str(home) not in said
    (run,) = (home / "results").glob("smoke/*")
    for file in (file for file in run.rglob("*") if file.is_file()):
        assert str(home).encode() not in file.read_bytes(), file
        if file.suffix in {".yaml", ".json"}:
            read = yaml.safe_load if file.suffix == ".yaml" else json.loads
            assert not [text for text in _texts(read(file.read_text(encoding="utf-8"))) if str(home) in text], file
    (run / ".lock").unlink()  # this process holds it to its end
    status, said = _run(*words)
    assert status == 0, f"what a run keeps of its home can be gone on with: {said}"


# --- small numbers ---------------------------------------------------------------------------------------------------------

NO_FRILLS = [
    "train.samples_every=null",
    "train.checkpoint_every=null",
    "track=none",
    "backbone={name: mlp, width: 8, depth: 1}",
]
PARTS = {
    key: [part.name for part in REGISTRIES[category] if part.name != "autoguidance"]
    for key, category in {
        "schedule": "schedules", "target": "targets", "sampling.sampler": "samplers", "sampling.grid": "grids",
        "levels": "levels", "weighting": "weightings", "variance": "variances", "loss": "losses",
    }.items()
}  # fmt: skip


class Small(NamedTuple):
    """A data set of a few small images in an .npz, and what is made of it."""

    shape: tuple[int, int, int, int]  # N, H, W, C
    labels: bool
    words: list[str]


@st.composite
def smalls(draw: st.DrawFn) -> Small:
    """As few of everything as there can be, with any parts."""
    count, side, few = draw(st.integers(2, 6)), draw(st.integers(1, 9)), st.integers(1, 4)
    steps = draw(few)
    batch = draw(st.integers(1, min(count - 1, 2)))
    numbers = {
        "timesteps": steps, "sampling.steps": draw(st.integers(1, steps)), "train.batch": batch,
        "train.images": batch * draw(few), "evaluate.n": draw(st.integers(2, 4)), "evaluate.n_during": draw(st.integers(2, 4)),
        "sampling.batch": draw(few), "evaluate.every": draw(st.sampled_from(["null", 1])),
        "train.ema": draw(st.sampled_from(["null", "{half_life: 2}", "[{name: power}]"])),
    }  # fmt: skip
    parts = {key: draw(st.sampled_from(names)) for key, names in PARTS.items() if draw(st.booleans())}
    labels = draw(st.booleans())
    words = [f"{key}={value}" for key, value in {**numbers, **parts, "classes": str(labels).lower()}.items()]
    return Small((count, side, side, draw(st.sampled_from([1, 3]))), labels, words)


ONE_STEP = ["timesteps=1", "sampling.steps=1", "train.batch=2", "train.images=2", "evaluate.n=2", "evaluate.n_during=2"]
ONE_IMAGE = [word.replace("train.batch=2", "train.batch=1") for word in ONE_STEP]


@fuzz(4)
@given(small=smalls())
@example(small=Small((12, 8, 8, 1), False, [*ONE_STEP, "sampling.sampler=heun"]))
@example(small=Small((2, 1, 1, 1), False, [*ONE_IMAGE, "weighting=edm"]))
@example(small=Small((2, 8, 8, 1), False, ONE_IMAGE))
def test_what_check_accepts_runs(
    small: Small, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "TRIAL_SECONDS", 0)  # its estimate of time is not what is compared
    folder = tmp_path_factory.mktemp("small")
    pixels = np.random.default_rng(0).integers(0, 256, small.shape, dtype=np.uint8)
    np.savez(folder / "x.npz", pixels, *([np.arange(len(pixels)) % 2] if small.labels else []))
    words = ["smoke", f"dataset={{name: npz, file: '{folder}/x.npz'}}", *NO_FRILLS, *small.words]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said), _no_hang():
        accepted = main(["check", *words])
    status, more = _run(*words, "--results", str(folder / "results"))
    assert status == accepted, f"{said.getvalue()} {more}"
    assert status in (0, 2)
    assert (folder / "results").exists() == (status == 0)
    assert status or (folder / "results/latest/result.json").is_file()


# --- files -----------------------------------------------------------------------------------------------------------------


def _saved(state: object) -> bytes:
    torch.save(state, stream := io.BytesIO())
    return stream.getvalue()


def _checkpoint() -> bytes:
    network = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return _saved({"network": network.state_dict(), "optimizer": optimizer.state_dict(), "images": 100, "costs": {"s": 0.5}})


def _store(folder: Path, content: bytes) -> None:
    """A finished checkpoint: its checksum is right, whatever it holds."""
    folder.mkdir(exist_ok=True)
    (folder / "000000100.pt").write_bytes(content)
    (folder / "000000100.pt.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  000000100.pt\n")


PICKLE_TOKENS = [
    b"cos\nsystem\n",
    b"}",
    b"]",
    b")",
    b"R",
    b"b",
    b".",
    b"q\xff",
    b"h\xff",
    b"K\xff",
    b"\x8a\xff",
    b"(",
    b"t",
    b"u",
    b"Q",
]


@fuzz(60)
@given(content=damaged(_checkpoint(), PICKLE_TOKENS))
def test_checkpoints(content: bytes, tmp_path: Path) -> None:
    _store(tmp_path / "checkpoints", content)
    _survives(Checkpoints(tmp_path / "checkpoints").load)


states = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            key: values | st.sampled_from([torch.zeros(3), {"a": torch.zeros(2)}])
            for key in ("network", "averages", "optimizer", "images", "seconds", "losses", "rows", "costs", "skipped")
        },
    ),
)


@fuzz(10)
@given(state=states, keep=st.booleans())
def test_resuming_from_a_checkpoint_of_anything(
    state: Any, keep: bool, unexecuted: None, tmp_path_factory: pytest.TempPathFactory, real_state: dict[str, Any]
) -> None:
    results = tmp_path_factory.mktemp("resumed")
    run = results / "smoke/20200101-000000-aaaaaa"
    run.mkdir(parents=True)
    (run / "resolved.yaml").write_text(RESOLVED)
    state = {**real_state, **state} if keep and isinstance(state, dict) else state
    _store(run / "checkpoints", _saved(state))
    status, said = _run("smoke", "--resume", "evaluate.features=[fashion_cnn]", "--results", str(results))
    assert status in (0, 2), said
    assert status == 0 or "error: " in said.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def real_state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The state of a run of the smoke experiment before its first step."""
    found: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(Execution, "execute", lambda self: found.append(self.trainer.state()))
        assert _run("smoke", "--results", str(tmp_path_factory.mktemp("real")))[0] == 0
    return {**found[0], "rows": 0, "costs": {}, "random_streams": STREAMS}


IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 4, 4) + bytes(48)


@fuzz(60)
@given(content=st.one_of(damaged(IDX, []), damaged(gzip.compress(IDX), [])), packed=st.booleans(), again=st.booleans())
def test_idx_files(content: bytes, packed: bool, again: bool, tmp_path: Path) -> None:
    (file := tmp_path / ("x.gz" if packed else "x")).write_bytes(gzip.compress(content) if again else content)
    found = _survives(lambda: read_idx(file))
    assert found is None or (found.dtype == torch.uint8 and found.numel())


def _archive(**how: bool) -> bytes:
    save_array = np.savez_compressed if how.get("compressed") else np.savez
    save_array(stream := io.BytesIO(), np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), np.arange(2))
    return stream.getvalue()


NPZ_TOKENS = [
    b"PK\1\2",
    b"PK\3\4",
    b"PK\5\6",
    b"\x93NUMPY\2\0",
    b"'|O'",
    b"(1,)",
    b"True",
    b"-1",
    b"'descr'",
    b"9" * 30,
    b"(" * 300,
]


@fuzz(60)
@given(content=st.one_of(damaged(_archive(), NPZ_TOKENS), damaged(_archive(compressed=True), NPZ_TOKENS)))
def test_npz_files(content: bytes, tmp_path: Path) -> None:
    (file := tmp_path / "x.npz").write_bytes(content)
    found = _survives(lambda: read_images(file))
    assert found is None or (found.dtype == torch.uint8 and found.ndim == 4)
    labels = _survives(lambda: read_labels(file))
    assert labels is None or (labels.dtype == torch.int64 and labels.ndim == 1)


NETWORK = nn.Linear(3, 2)
WEIGHTS = save(NETWORK.state_dict())
JSON_TOKENS = [
    b"{",
    b"}",
    b"[" * 500,
    b'"F64"',
    b'"U8"',
    b'"BOOL"',
    b"18446744073709551615",
    b"-1",
    b"1e400",
    b"null",
    b'"shape"',
    b"\0",
]


@fuzz(60)
@given(content=damaged(WEIGHTS, JSON_TOKENS))
def test_weights(content: bytes, tmp_path: Path) -> None:
    (file := tmp_path / "x.safetensors").write_bytes(content)
    _survives(lambda: load_weights(file, NETWORK))


SHAPE = b'{"name": "shapes", "image_shape": [1, 16, 16], "class_names": ["a", "b"], "std": 0.5, "train_hash": "ab"}'


@fuzz(60)
@given(content=damaged(SHAPE, JSON_TOKENS))
def test_descriptions_of_data(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(content)
    found = _survives(lambda: _read_shape(RunFolder(tmp_path)))
    assert found is None or all(1 <= size <= 4096 for size in found.image_shape)


def _pictures() -> list[bytes]:
    pixels = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    found = []
    for form in ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP"):
        pixels.save(stream := io.BytesIO(), form)
        found.append(stream.getvalue())
    return found


@fuzz(15)
@given(kinds=st.lists(st.sampled_from(["a picture", *SPECIAL]), min_size=2, max_size=6), stream=st.booleans())
def test_special_files_among_pictures(
    kinds: list[str], stream: bool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("pictures")
    monkeypatch.setenv("DDPM_LAB_CACHE", str(folder / "cache"))
    for number, kind in enumerate(kinds):
        file = folder / f"{number}.png"
        SPECIAL[kind](file) if kind in SPECIAL else file.write_bytes(_pictures()[0])
    options: dict[str, Any] = {"folder": str(folder), "size": 8, "held_out": 0.5, "stream": stream}
    whole = [kind not in SPECIAL for kind in kinds]
    assert (_survives(lambda: image_folder(**options)) is not None) == all(whole)
    found = _survives(lambda: image_folder(**options, unreadable="skip"))
    assert (found is not None) == (any(whole[::2]) and any(whole[1::2]))
    assert found is None or (len(found.test), len(found.train)) == (sum(whole[::2]), sum(whole[1::2]))


@fuzz(60)
@given(content=st.one_of(*(damaged(picture, []) for picture in _pictures())))
def test_pictures(content: bytes, tmp_path: Path) -> None:
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes(content)
    found = _survives(lambda: image_folder(folder=str(tmp_path), size=8, held_out=0.5))
    assert found is None or found.train.images.shape == (1, 3, 8, 8)
