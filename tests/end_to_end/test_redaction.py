"""Where the user's home is, and the key, is told to nobody, whatever the home is called; and the run can be resumed."""

import json
import os
import pwd
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import KEY, ROOT
from PIL import Image

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import dump, load_recipe
from ddpm_lab.config.schema import Track
from ddpm_lab.runner.resume import require_same
from ddpm_lab.runtime.redaction import discreet, restored
from ddpm_lab.storage.results_folder import create_run
from ddpm_lab.tracking.tracker import _describe
from registry.errors import BadInput

HOMES = [
    "Ada Byron and her very long name, of many words, that fill a line of YAML", "Ada Löwe", "o'neil \"x\"", "a&b<c>", "日本",
]  # fmt: skip
FEW = [
    "train.images=32", "train.batch=16", "train.samples_every=null", "evaluate.n=2", "evaluate.every=null", "sampling.steps=2",
    "evaluate.features=[]",
]  # fmt: skip


def _spellings(home: Path) -> set[bytes]:
    """The folder's own name as text, JSON, HTML and YAML have it; the first word of one that is folded."""
    name = home.name
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;").replace('"', "&#34;")
    words = {name, escaped, json.dumps(name)[1:-1], name.split(" and ")[0]}
    return {word.encode() for word in words}


def _told(home: Path, folder: Path) -> list[str]:
    return [
        f"{spelling!r} in {file}" for file in folder.rglob("*") if file.is_file()
        for spelling in _spellings(home) if spelling in file.read_bytes()
    ]  # fmt: skip


def _pictures(home: Path) -> Path:
    (folder := home / "pictures").mkdir(parents=True)
    for number in range(12):
        Image.fromarray(np.full((16, 16), 20 * number, dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("linked", [False, True], ids=["real", "linked"])
@pytest.mark.parametrize("name", HOMES)
def test_a_run_keeps_its_home_to_itself_and_can_be_resumed(
    name: str, linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record, and what W&B is told, under a home that is folded, escaped or a link."""
    real, home = tmp_path / name, tmp_path / name
    pictures = _pictures(real)
    if linked:
        (home := tmp_path / "link").symlink_to(real)
    monkeypatch.setenv("HOME", str(home))
    notes = f"see {pictures}, and {home}/notes.txt"
    (file := real / "mine.yaml").write_text(
        yaml.safe_dump({
            "extends": f"{ROOT}/experiments/smoke.yaml", "track": {"notes": notes},
            "dataset": {"name": "image_folder", "folder": str(pictures), "size": 16, "mode": "gray"},
        })
    )  # fmt: skip
    recipe = load_recipe(str(file), FEW)
    folder = create_run(real / "results", "mine")
    folder.experiment.write_text(dump(recipe.experiment), encoding="utf-8")
    require_same(folder, recipe, "--resume")
    with pytest.raises(BadInput, match="seed changed from 0 to 1"):
        require_same(folder, load_recipe(str(file), [*FEW, "seed=1"]), "--resume")
    assert _told(real, folder.path) == []
    # And read again, it is whole: parts need not know what `~` is.
    again = load_recipe(str(folder.path)).experiment
    assert Path(again.dataset.options["folder"]).samefile(pictures)
    monkeypatch.setenv("WANDB_RUN_GROUP", f"{home}/group")
    told = _describe(folder, Track(notes=notes), recipe.experiment.model_dump(mode="json"), {}, None)
    assert told["notes"] == "see ~/pictures, and ~/notes.txt"
    assert told["group"] == "~/group"
    assert told["config"]["dataset"]["folder"] == "~/pictures"
    assert real.name not in str(told)


def test_all_that_a_run_leaves_is_discreet(smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, stopped before its result, resumed, exported, evaluated; guided by a run in the same home."""
    monkeypatch.setenv("HOME", str(home := tmp_path / "Ada Löwe's, at <home>"))
    guide = shutil.copytree(smoke_run, home / "guide")
    guidance = json.dumps({"name": "autoguidance", "guide": str(guide)})  # JSON is YAML
    words = ["smoke", "classes=true", *FEW, f"sampling.guidance={guidance}", "--results", str(home / "results")]
    assert main(["run", *words]) == 0
    run = (home / "results/latest").resolve()
    (run / "result.json").unlink()
    assert main(["run", *words, "--resume"]) == 0
    assert (run / "result.json").is_file()
    assert main(["evaluate", str(run), "-n", "4", "--features", "fashion_cnn"]) == 0
    assert main(["export", str(run), str(home / "model")]) == 0
    (measured,) = run.glob("evaluation-*.json")
    assert "~/guide" in measured.read_text()
    assert _told(home, home / "results") == []
    assert _told(home, home / "model") == []


def test_home_and_key_are_struck_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert discreet(f'["/home/ada/x", "/home/ada", "{KEY}"]') == '["~/x", "~", "<key>"]'
    assert discreet({"/home/ada/k": ("/home/ada", [1, None, f"={KEY}"])}) == {"~/k": ("~", [1, None, "=<key>"])}
    for other in ("/home/adam/x", "/mnt/home/ada/x", "/home/ada.old", "/home/ada-2/x"):
        assert discreet(other) == other


def test_a_home_is_known_in_both_forms_of_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    home = "/home/Löwe"
    monkeypatch.setenv("HOME", unicodedata.normalize("NFC", home))
    assert discreet(unicodedata.normalize("NFD", f"{home}/x")) == "~/x"


def test_the_users_own_entry_counts_where_home_leads_to_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "entry").symlink_to("disk")
    monkeypatch.setenv("HOME", str(tmp_path / "disk"))
    entry = pwd.struct_passwd(("ada", "x", os.getuid(), 0, "", str(tmp_path / "entry"), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    assert discreet(f"{tmp_path}/entry/x, {tmp_path}/disk/x") == "~/x, ~/x"


@pytest.mark.parametrize("home", ["/", "", "relative"])
def test_what_is_no_home_is_left_alone(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert discreet("/a relative thing") == "/a relative thing"


def test_a_user_without_a_home_can_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))
    assert discreet("/x") == "/x"


def test_what_was_struck_out_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/Ada Löwe")
    tree = {"folder": "/home/Ada Löwe/x", "list": ["/home/Ada Löwe", 1, "~ 3"]}
    assert restored(discreet(tree)) == tree
