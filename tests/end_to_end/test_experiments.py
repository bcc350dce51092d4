"""Every file in experiments/ runs: all the way through, with little of everything."""

from pathlib import Path

import pytest
from conftest import ROOT, Quick

from ddpm_lab.config.load import load_recipe

EXPERIMENTS = sorted(file.stem for file in (ROOT / "experiments").glob("*.yaml"))
BUDGETS = sorted(file.stem for file in (ROOT / "experiments/budgets").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_runs_for_two_steps_and_reports(name: str, quick: Quick, tmp_path: Path) -> None:
    few = ["train.images=8", "train.batch=4", "train.rate.warmup=0", "sampling.steps=2", "evaluate.n=8",
           "evaluate.every=4", "evaluate.n_during=4", "evaluate.metrics=[]", "train.start=null", "track=none"]  # fmt: skip
    done = quick("run", name, *few, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "FID" in done.stderr
    assert (tmp_path / "latest/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_opens_with_its_command_and_what_to_expect(name: str) -> None:
    lines = (ROOT / f"experiments/{name}.yaml").read_text().splitlines()
    if name != "base":
        assert lines[0] == f"# make run EXP={name}"
    assert lines[1].startswith("# ")
    assert len(lines[1]) > 40


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_budget_fits_every_experiment(budget: str) -> None:
    for name in EXPERIMENTS:
        assert load_recipe(name, budget=budget).experiment.budget == budget


def test_no_recipe_has_importance_levels_for_the_hybrid_loss() -> None:
    """Nichol & Dhariwal 2021, section 3.3: they are for L_vlb; L_hybrid is trained with uniform levels."""
    hybrid = [found for name in EXPERIMENTS if (found := load_recipe(name).experiment).variance.name == "learned_range"]
    assert hybrid
    assert {found.levels.name for found in hybrid} == {"uniform"}


def test_edm_and_edm2_have_the_levels_that_were_published_for_each() -> None:
    """P_mean and P_std: Karras et al. 2022, table 1; Karras et al. 2024, table 6, ImageNet 64."""
    edm, edm2 = (load_recipe(name).experiment.levels for name in ("edm", "edm2"))
    assert (edm.options["mean"], edm.options["std"]) == (-1.2, 1.2)
    assert (edm2.options["mean"], edm2.options["std"]) == (-0.8, 1.6)


def test_the_annotated_recipe_is_as_published() -> None:
    experiment = load_recipe("annotated").experiment
    assert experiment.timesteps == 200
    assert experiment.schedule.options["scale"] is False
    assert (experiment.loss.name, experiment.target.name) == ("huber", "epsilon")
    assert (experiment.train.batch, experiment.train.images, experiment.train.rate.peak) == (128, 5 * 60_000, 1e-3)
    assert (experiment.train.optimizer.name, experiment.train.flip, experiment.train.ema) == ("Adam", True, None)
    assert (experiment.sampling.sampler.name, experiment.sampling.clip, experiment.sampling.steps) == ("ancestral", False, 200)
