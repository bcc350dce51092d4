"""Recipes: layers, overrides, and bad input in one line that names the file, the key, the value and the remedy."""

from pathlib import Path

import pytest
from conftest import ROOT

from ddpm_lab.config.load import dump, find, load_recipe
from ddpm_lab.config.named_files import SUITES, SWEEPS, known
from ddpm_lab.config.named_files import find as find_named
from ddpm_lab.config.schema import PART_KEYS, Experiment
from ddpm_lab.config.yaml_reader import parse
from registry.errors import BadInput

WHOLE = """
dataset: shapes
schedule: cosine
target: v
loss: {name: huber, delta: 0.5}
backbone: patch_unet
train:
  images: 1000
  batch: 10
  rate: {peak: 1e-3}
  ema: {half_life: 100}
"""


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """An experiment that stands on its own."""
    file = tmp_path / "whole.yaml"
    file.write_text(WHOLE)
    return file


def _complaint(file: Path, *overrides: str, budget: str | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        load_recipe(str(file), overrides, budget)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("-2E3", -2000.0), ("1.", 1.0), (".5", 0.5), ("1_000", 1000), ("007", 7), ("no", "no"), ("on", "on"),
        ("true", True), ("2024-01-01", "2024-01-01"), ("0x10", "0x10"), ("[1, 2e3]", [1, 2000.0]), ("1:30", "1:30"),
    ],
)  # fmt: skip
def test_yaml_values_are_what_they_look_like(text: str, value: object) -> None:
    assert parse(text) == value
    assert type(parse(text)) is type(value)


def test_an_experiment_alone_needs_no_budget_and_no_base(whole: Path) -> None:
    recipe = load_recipe(str(whole))
    assert recipe.name == "whole"
    assert recipe.experiment.loss.options == {"delta": 0.5}
    assert recipe.experiment.budget is None


def test_a_new_name_drops_the_old_options_and_the_same_name_keeps_them(whole: Path, tmp_path: Path) -> None:
    assert load_recipe(str(whole), ["loss=l1"]).experiment.loss.options == {}
    assert load_recipe(str(whole), ["loss=huber"]).experiment.loss.options == {"delta": 0.5}
    assert load_recipe(str(whole), ["loss.delta=2.0"]).experiment.loss.options == {"delta": 2.0}
    assert load_recipe(str(whole), ["loss=l1", "loss.name=huber"]).experiment.loss.options == {"delta": 0.5}
    (tmp_path / "child.yaml").write_text("extends: whole\nloss: l2\n")
    assert load_recipe(str(tmp_path / "child.yaml")).experiment.loss.name == "l2"


def test_an_option_may_follow_the_short_form_in_either_order(whole: Path) -> None:
    for order in (["schedule=linear", "schedule.end=0.01"], ["schedule.end=0.01", "schedule=linear"]):
        assert load_recipe(str(whole), order).experiment.schedule.options["end"] == 0.01


def test_layers_win_in_the_order_budget_parents_file_command_line(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "budgets").mkdir()
    (tmp_path / "budgets/tiny.yaml").write_text("seed: 1\ntimesteps: 11\nsampling: {steps: 3, batch: 7}\n")
    (tmp_path / "child.yaml").write_text("extends: whole\ntimesteps: 22\nsampling: {steps: 4}\n")
    experiment = load_recipe(str(tmp_path / "child.yaml"), ["sampling.steps=5"], "tiny").experiment
    assert (experiment.seed, experiment.timesteps, experiment.sampling.steps, experiment.sampling.batch) == (1, 22, 5, 7)
    assert experiment.budget == "tiny"


def test_a_resolved_experiment_reads_back_as_itself_and_keeps_its_budget(tmp_path: Path) -> None:
    recipe = load_recipe("cosine_l1", ["loss.name=huber"])
    (file := tmp_path / "resolved.yaml").write_text(dump(recipe.experiment))
    assert load_recipe(str(file)).experiment == recipe.experiment
    assert "budget 'cpu' built in" in _complaint(file, budget="gpu")


def test_part_keys_are_exactly_the_fields_that_hold_parts(whole: Path) -> None:
    flat = load_recipe(str(whole)).experiment.model_dump(mode="json")

    def parts(mapping: dict[str, object], prefix: str = "") -> set[str]:
        found = {f"{prefix}{key}" for key, value in mapping.items() if isinstance(value, dict) and "name" in value}
        below = [parts(value, f"{prefix}{key}.") for key, value in mapping.items() if isinstance(value, dict)]
        return found.union(*below)

    assert parts(flat) == PART_KEYS - {"loss_space"}, "which is null unless it is given"


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("loss=hubr", "loss.name", "no loss named 'hubr'; did you mean 'huber'? known: huber, l1, l2"),
        ("loss.dlta=1", "loss.dlta", "did you mean 'delta'?"),
        ("loss.delta=-1", "loss.delta", "greater than 0"),
        ("loss.delta=big", "loss.delta", "got 'big'"),
        ("loss.delta=.nan", "loss.delta", "finite"),
        ("los=l1", "los", "no such key; did you mean 'loss'?"),
        ("train.imags=3", "train.imags", "did you mean 'images'?"),
        ("train.ema.half=3", "train.ema", "did you mean 'half_life'?"),
        ("timesteps=0", "timesteps", "greater than 0, got 0"),
        ("timesteps=ten", "timesteps", "valid integer, got 'ten'"),
        ("classes=yes", "classes", "valid boolean, got 'yes'"),
        ("train.rate.peak=-1e-3", "train.rate.peak", "greater than 0, got -0.001"),
        ("train.rate.peak=.nan", "train.rate.peak", "finite number"),
        ("train.rate.peak=.inf", "train.rate.peak", "finite number"),
        ("train.batch=5000", "train.images", "less than one batch"),
        ("train.accumulate=3", "train.accumulate", "does not divide"),
        ("train.optimizer=Adm", "train.optimizer.name", "did you mean 'Adam'?"),
        ("train.optimizer.beta=1", "train.optimizer.beta", "did you mean 'betas'?"),
        ("train.optimizer.lr=1", "train.optimizer.lr", "train.rate.peak"),
        ("train.optimizer.weight_decay=-1", "train.optimizer", "Invalid weight_decay"),
        ("sampling.steps=2000", "sampling.steps", "do not fit into timesteps = 1000"),
        ("sampling.sampler.eta=2", "sampling.sampler.eta", "less than or equal to 1"),
        ("evaluate.features=[fashion_cn]", "evaluate.features.0", "did you mean 'fashion_cnn'?"),
        ("loss=[1]", "loss", "expected the name of a loss"),
        ("track=wanbd", "track.name", "'wandb' or 'none'"),
        ("plugins=nowhere.py", "plugins", "a list of paths was expected"),
        ("plugins=[nowhere.py]", "plugins", "no plugin file"),
    ],
)  # fmt: skip
def test_a_bad_override_is_named_with_its_key_value_and_remedy(whole: Path, override: str, key: str, words: str) -> None:
    complaint = _complaint(whole, override)
    assert key in complaint
    assert words in complaint
    assert complaint.startswith(("command line", str(whole)))


def test_the_average_of_a_run_that_has_none_is_refused(whole: Path) -> None:
    with pytest.raises(BadInput, match=r"sampling\.weights: 'ema' is asked for, but train\.ema is null"):
        load_recipe(str(whole), ["train.ema=null", "sampling.weights=ema"])


def test_a_bad_value_in_a_file_names_the_file_that_wrote_it(tmp_path: Path, whole: Path) -> None:
    whole.write_text(WHOLE.replace("huber", "hubr"))
    (tmp_path / "child.yaml").write_text("extends: whole\nseed: 3\n")
    assert _complaint(tmp_path / "child.yaml").startswith(f"{whole}: loss.name: no loss named 'hubr'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nseed: 2\n", "line 2, column 1: duplicate key 'seed'"),
        ("train: {images: 1, images: 2}\n", "duplicate key 'images'"),
        ("- a\n- b\n", "a mapping of keys to values was expected, not a list"),
        ("just words\n", "not the text 'just words'"),
        ("", "not nothing"),
        ("a: [1\n", "line 2"),
        ("loss: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("1: 2\n", "the key 1 is not a word"),
        ("loss: l1\n", "this key is missing; give it a value, or start the file with `extends: base`"),
        ("extends: [a]\n", "extends: the name or path of one experiment was expected"),
        ("extends: bass\n", "extends: no experiment named 'bass' in experiments/; did you mean 'base'?"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (file := tmp_path / "bad.yaml").write_text(text)
    complaint = _complaint(file)
    assert complaint.startswith(str(file))
    assert words in complaint


def test_a_circle_of_extends_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("extends: a\n")
    assert "a circle" in _complaint(tmp_path / "a.yaml")


def test_unknown_experiments_and_budgets_get_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="did you mean 'cosine_l1'"):
        find("cosin_l1")
    assert "did you mean 'cpu'" in _complaint(Path("cosine_l1"), budget="cpus")


def test_what_the_lab_carries_is_found_from_anywhere_and_the_users_own_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (here / "experiments/budgets").mkdir(parents=True)
    in_the_repository = {
        (name, budget): load_recipe(name, (), budget) for name in ("cosine_l1", "smoke") for budget in (None, "gpu")
    }
    monkeypatch.chdir(here)
    for (name, budget), recipe in in_the_repository.items():
        assert load_recipe(name, (), budget) == recipe
    (elsewhere / "mine.yaml").write_text("extends: cosine_l2\nseed: 7\n")
    mine = load_recipe(str(elsewhere / "mine.yaml")).experiment
    assert (mine.seed, mine.budget, mine.loss.name) == (7, "cpu", "l2")
    (here / "experiments/cosine_l1.yaml").write_text("extends: cosine_l2\nseed: 8\n")
    (here / "experiments/budgets/gpu.yaml").write_text((ROOT / "experiments/budgets/cpu.yaml").read_text())
    own = load_recipe("cosine_l1", (), "gpu").experiment
    assert (own.seed, own.loss.name, own.train.images) == (8, "l2", mine.train.images)
    assert load_recipe("linear_l1", (), "gpu").experiment.train.images == mine.train.images


@pytest.mark.parametrize(("kind", "place"), [("sweep", SWEEPS), ("suite", SUITES)])
def test_sweeps_and_suites_are_carried_too(kind: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {file.stem for file in (ROOT / place).glob("*.yaml")}
    monkeypatch.chdir(tmp_path)
    assert set(known(place)) == names
    for name in names:
        assert find_named(kind, name, place).read_bytes() == (ROOT / place / f"{name}.yaml").read_bytes()
    place.mkdir(parents=True)
    (place / f"{name}.yaml").touch()
    assert find_named(kind, name, place) == known(place)[name] == place / f"{name}.yaml"


@pytest.mark.parametrize("override", ["loss", "=l1", ".loss=l1", "a..b=1", "train=5", "train.images=1 2]"])
def test_what_is_no_override_is_refused(whole: Path, override: str) -> None:
    assert _complaint(whole, override)


def test_experiments_are_frozen(whole: Path) -> None:
    experiment: Experiment = load_recipe(str(whole)).experiment
    with pytest.raises(ValueError, match="frozen"):
        experiment.seed = 3  # type: ignore[misc]
