"""What a sweep agent passes reaches the experiment as the values of the sweep file."""

import pytest
import yaml
from conftest import ROOT

from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.overrides import layer_of, value_of
from ddpm_lab.sweeps.wandb_file import arguments, read
from registry.errors import BadInput


@pytest.mark.parametrize(
    "written",
    ["3", "true", "null", "0.5", "1e-3", "l1", "[1, 2.5, x]", "{a: {b: 1e-3, c: null}, d: [true, x]}", "'5'", "'it''s'"],
)
def test_a_value_of_a_sweep_file_comes_through_an_agent(written: str) -> None:
    """The agent reads the file by PyYAML and passes `str(value)`; the lab must get what its own loader reads in the file."""
    agents = str(yaml.safe_load(written))
    if written == "'5'":  # at the top, `str` has lost the quotes; a group keeps them
        written, agents = "{a: '5'}", str({"a": "5"})
    assert value_of(agents) == value_of(written)
    assert str(value_of(agents)) == str(value_of(written))  # 1 is no True, and no 1.0


def test_a_group_and_its_single_keys_are_one_tree() -> None:
    words = ["train.images=5", "train={'rate': {'peak': 1e-05}, 'images': 6}", "train.rate.decay=cosine"]
    assert layer_of(words) == {"train": {"images": 6, "rate": {"peak": 1e-5, "decay": "cosine"}}}
    assert layer_of(["loss=huber", "loss={'delta': 0.1}"]) == {"loss": {"name": "huber", "delta": 0.1}}


@pytest.mark.parametrize("word", ["train={'a': __import__('os')}", "train={'a': ", "train=[1"])
def test_python_that_is_no_plain_value_is_not_evaluated(word: str) -> None:
    with pytest.raises(BadInput, match="train") as caught:
        load_recipe("smoke", [word])
    assert "\n" not in str(caught.value)


def test_a_nested_group_with_a_number_that_yaml_thinks_a_text_reaches_the_experiment() -> None:
    (trial, *_) = read(ROOT / "experiments/sweeps/smoke.yaml").grid()
    agents = yaml.safe_load((ROOT / "experiments/sweeps/smoke.yaml").read_text())["parameters"]
    peak = agents["train"]["parameters"]["rate"]["parameters"]["peak"]["values"][0]
    assert isinstance(peak, str), "the trap is there"
    found = load_recipe("smoke", ["loss=l1", f"train={ {'rate': {'peak': peak}} }"]).experiment
    assert found.train.rate.peak == 1e-3
    assert load_recipe("smoke", arguments(trial)).experiment == found
