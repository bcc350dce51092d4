"""One file adds a part with all that the lab needs to know of it, and an experiment that names the file uses it."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import Quick
from safetensors.torch import load_file
from support.forks import Forks

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_path
from ddpm_lab.export.component import Component, Inexpressible
from ddpm_lab.export.scheduler import scheduler
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import Measurement, RunResult, plain, read_measurements, read_result
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.studies import commands
from ddpm_lab.testing import conforms
from registry import plugins
from registry.averages import AVERAGES
from registry.averages.profile import std_of
from registry.errors import BadInput
from registry.guidance import GUIDANCE
from registry.metrics import METRICS
from registry.optimizers import OPTIMIZERS
from registry.samplers import SAMPLERS
from registry.samplers.ddim import ddim
from registry.targets import TARGETS
from registry.targets.epsilon import Epsilon
from registry.traits import Traits

FEW = ["train.images=64", "evaluate.features=[]", "train.threads=1"]

OPTIMIZER = '''"""A plugin."""
import torch
from registry.optimizers import OPTIMIZERS
from registry.options import Positive


@OPTIMIZERS.register("sign")
class Sign(torch.optim.Optimizer):
    """The sign of the gradient, or none where it is below `least`; no source."""

    def __init__(self, params, lr, *, least: Positive = 1e-3):
        super().__init__(params, {"lr": lr, "least": least})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    weights -= group["lr"] * weights.grad.sign() * (weights.grad.abs() > group["least"])
'''


def _experiment(folder: Path, plugin: str, lines: str) -> Path:
    (folder / "mine.py").write_text(plugin)
    (folder / "mine.yaml").write_text(f"extends: smoke\nplugins: [mine.py]\n{lines}\n")
    return folder / "mine.yaml"


def test_an_optimizer(tmp_path: Path, quick: Quick) -> None:
    file = _experiment(tmp_path, OPTIMIZER, "train: {optimizer: {name: sign, least: 1e-4}}")
    done = quick("run", file, *FEW, "train.rate.peak=1e-3", "train.rate.warmup=0", "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "results/latest"
    assert yaml.safe_load((run / "resolved.yaml").read_text())["train"]["optimizer"] == {"name": "sign", "least": 1e-4}
    assert all(bool(value.isfinite().all()) for value in load_file(run / "raw.safetensors").values())
    wrong = quick("check", file, "train.optimizer.leest=1")
    assert "did you mean 'least'?" in wrong.stderr
    plugins.load_file(tmp_path / "mine.py")
    conforms(OPTIMIZERS.part("sign").make)


def test_an_optimizer_that_fails_is_named_with_its_line(tmp_path: Path, quick: Quick) -> None:
    plugin = OPTIMIZER.replace("weights -= ", "weights -= nothing + ").replace('"sign"', '"unsigned"')
    done = quick("check", _experiment(tmp_path, plugin, "train: {optimizer: unsigned}"), *FEW)
    assert done.returncode == 2
    assert "optimizer: 'unsigned' takes no step" in done.stderr
    assert "mine.py', line 19" in done.stderr


SAMPLER = '''"""A plugin."""
from registry.options import NonNegative
from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits
from registry.samplers.dpmpp_3m_sde import dpmpp_3m_sde


def advice(options, setting):
    if options["eta"] > 1 and setting.path.steps > 100:
        yield f"sampling.sampler.eta: {options['eta']:g} was never tried on {setting.path.steps} timesteps"


@SAMPLERS.register("mine", SamplerTraits(advice, order=3))
def mine(denoise: Denoise, grid: Grid, noise: Noise, *, eta: NonNegative = 0.5):
    """dpmpp_3m_sde with other noise; no source."""
    return dpmpp_3m_sde(denoise, grid, noise, eta=eta)
'''


def test_a_sampler_of_order_three_with_advice_of_its_own(tmp_path: Path, quick: Quick) -> None:
    file = _experiment(tmp_path, SAMPLER, "sampling: {sampler: {name: mine, eta: 2.0}, steps: 5}\nvariance: learned_range")
    done = quick("check", file, *FEW)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "sampling.sampler.eta: 2 was never tried on 1000 timesteps" in said
    assert "5 are few for 'mine', of order 3" in said
    assert "sampler 'mine' does not use it; it is used by ancestral" in said
    quiet = quick(
        "check", file, *FEW, "sampling.sampler.eta=1", "sampling.steps=6", "sampling.grid=trailing", "variance=fixed_small"
    )
    assert not [line for line in (quiet.stdout + quiet.stderr).splitlines() if "mine" in line and "warning" in line]
    plugins.load_file(tmp_path / "mine.py")
    conforms(SAMPLERS.part("mine").make)


GUIDE = '''"""A plugin."""
from registry.guidance import GUIDANCE, GuidanceTraits
from registry.options import NonNegative
from registry.samplers import Denoised


@GUIDANCE.register("pull", GuidanceTraits(needs_classes=lambda options: options["force"] > 0, strength="force"))
def pull(denoise, path, load, *, force: NonNegative = 0.5):
    """As classifier_free with scale 1 + force; no source."""
    def guided(x, level, y):
        if y is None or not force:
            return denoise(x, level, y)
        good, poor = denoise(x, level, y), denoise(x, level, None)
        return Denoised(*(a + force * (a - b) for a, b in zip(good[:2], poor[:2])), good.extra)
    return guided
'''


def test_guidance_that_needs_classes(tmp_path: Path, quick: Quick) -> None:
    file = _experiment(tmp_path, GUIDE, "classes: true\nsampling: {guidance: pull, steps: 2}")
    refused = quick("check", file, *FEW, "classes=false")
    assert refused.returncode == 2
    assert "guidance needs a network that knows classes" in refused.stderr
    assert quick("check", file, *FEW, "classes=false", "sampling.guidance.force=0").returncode == 0
    done = quick("run", file, *FEW, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    run, files = tmp_path / "results/latest", [tmp_path / f"{name}.npz" for name in ("mild", "strong")]
    for out, words in zip(files, ([], ["--guidance", "3"]), strict=True):
        drawn = quick("sample", run, "-n", "2", "--out", out, *words)
        assert drawn.returncode == 0, drawn.stderr
    assert files[0].read_bytes() != files[1].read_bytes()
    assert "--guidance: input should be greater" in quick("sample", run, "-n", "2", "--guidance", "-1").stderr
    plugins.load_file(tmp_path / "mine.py")
    conforms(GUIDANCE.part("pull").make)


AVERAGE = '''"""A plugin."""
from registry.averages import AVERAGES, AverageTraits
from registry.averages.profile import std_of
from registry.options import Positive


@AVERAGES.register("steep", AverageTraits(length="gamma", power_std=lambda options: std_of(options["gamma"])))
class Steep:
    """EDM2's average by its exponent (Karras et al. 2024, eq. 127)."""

    def __init__(self, *, gamma: Positive = 7.0):
        self.gamma = gamma

    def __call__(self, images, batch):
        steps = images / batch
        return (1 - 1 / steps) ** (self.gamma + 1) if steps > 1 else 0.0
'''


def test_an_average_with_a_profile_of_which_others_are_made_afterwards(tmp_path: Path, quick: Quick) -> None:
    file = _experiment(tmp_path, AVERAGE, "train: {ema: [{name: steep, gamma: 3}, {name: steep, gamma: 16}]}")
    done = quick("run", file, *FEW, "train.batch=4", "train.snapshots_every=8", "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    made = quick("ema", tmp_path / "results/latest", "--std", f"{std_of(16):.6f}", "0.15")
    assert made.returncode == 0, made.stderr
    assert "warning" not in made.stdout
    run = tmp_path / "results/latest"
    again, kept = (load_file(run / f"{name}.safetensors") for name in (f"ema_std{std_of(16):.3f}", "ema_2"))
    assert all(bool((again[name] - kept[name]).abs().max() < 1e-5) for name in kept)
    plugins.load_file(tmp_path / "mine.py")
    conforms(AVERAGES.part("steep").make)


def test_advice_that_fails_is_put_down_to_its_part(tmp_path: Path, quick: Quick) -> None:
    plugin = SAMPLER.replace('options["eta"] > 1', 'options["eat"] > 1').replace('"mine"', '"hungry"')
    done = quick("check", _experiment(tmp_path, plugin, "sampling: {sampler: hungry}"), *FEW)
    assert done.returncode == 2
    assert "sampler: 'hungry' cannot give its advice" in done.stderr
    assert "mine.py', line 8" in done.stderr


def test_traits_of_another_registry_are_refused() -> None:
    with pytest.raises(BadInput, match="declares Traits; expected SamplerTraits"):
        SAMPLERS.register("odd", Traits())(ddim)  # type: ignore[arg-type]


def test_a_target_is_exported_under_the_name_that_it_declares() -> None:
    def registered(name: str, *traits: Traits) -> Component:
        TARGETS.register(name, *traits)(type(name, (Epsilon,), {"__doc__": "The noise again; no source."}))
        experiment = load_recipe("smoke", [f"target={name}"]).experiment
        return scheduler(experiment, build_path(experiment), noisy=False)

    assert registered("noise", Traits(diffusers="epsilon")).config["prediction_type"] == "epsilon"
    with pytest.raises(Inexpressible, match="know no target 'sound'; they know epsilon, noise, v, x0"):
        registered("sound")


METRIC = '''"""A plugin."""
from registry.metrics import METRICS, InFeatures, MetricTraits


@METRICS.register("nearness", MetricTraits(higher=True, digits=2, protocol="nearness (of the mean features)", during=True))
def nearness(seen: InFeatures) -> float:
    """Minus the distance between the mean features of images and of the reference; no source."""
    ours, theirs = (moments.gaussian()[0] for moments in (seen.images.moments, seen.reference.moments))
    return -float((ours - theirs).norm())
'''
MEASURED = [
    "train.images=64",
    "train.threads=1",
    "sampling.steps=2",
    "evaluate.n=40",
    "evaluate.every=32",
    "evaluate.n_during=40",
]


def test_a_metric(tmp_path: Path, quick: Quick) -> None:
    file = _experiment(tmp_path, METRIC, "evaluate: {metrics: [nearness]}")
    results = tmp_path / "results"
    done = quick("run", file, *MEASURED, "--results", results)
    assert done.returncode == 0, done.stderr
    first = (results / "latest").resolve()
    fid, mine = read_measurements(first / "result.json")
    assert (fid.metric, mine.metric, mine.higher, mine.protocol.metric) == (
        "FID", "nearness", True, "nearness (of the mean features)",
    )  # fmt: skip
    assert mine.value < mine.floor < 0, "held-out images are nearer"
    assert re.search(rf"^nearness +{mine.value:.2f} .* {mine.floor:.2f}$", done.stderr, re.M)
    assert mine.fingerprint in (first / "report.html").read_text()
    during = RunFolder(first).series("nearness/fashion_cnn")
    assert len(during) == 1, "after half of the images"
    assert during[0][1] < 0
    assert read_result(first / "result.json").by_name["nearness/fashion_cnn"] == mine.value
    evaluated = quick("evaluate", first, "-n", "40", "--steps", "2")
    assert "nearness" in evaluated.stdout, "of all metrics, as no option of evaluate names some"
    plugins.load_file(tmp_path / "mine.py")
    conforms(METRICS.part("nearness").make)


def test_a_metric_of_which_more_is_better_is_ranked_so_where_its_plugin_is_not_loaded(tmp_path: Path, quick: Quick) -> None:
    for name, value in (("worse", 1.0), ("better", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "resolved.yaml").touch()
        record = Measurement("unheard_of", "fashion_cnn", value, n=4, fingerprint="f00d", higher=True, digits=1)
        write_json(tmp_path / name / "result.json", plain(RunResult((record,))))
    done = quick("compare", "worse", "better", "--metric", "unheard_of", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()[1:3]] == ["better", "worse"]


def test_a_suite_has_the_metric_of_a_plugin(
    tmp_path: Path, forks: Forks, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _experiment(tmp_path, METRIC.replace("nearness", "closeness"), "")
    plan = {"about": "A test.", "experiments": [{"name": "a", "experiment": str(file)}], "seeds": [0], "set": MEASURED,
            "metrics": ["FID", "closeness"]}  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(plan))
    monkeypatch.setattr(commands, "subprocess", SimpleNamespace(Popen=forks.in_place_of_python))
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "small.yaml", "--reports", "reports"]) == 0
    assert "closeness ↑" in (tmp_path / "reports/small/report.md").read_text()
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(plan | {"metrics": ["closeness"]}))
    assert "closeness comes first, which ranks" in quick("bench", "small.yaml", cwd=tmp_path).stderr


def test_a_metric_that_fails_costs_no_value_but_its_own(tmp_path: Path, quick: Quick) -> None:
    plugin = METRIC.replace("-float(", "nothing - float(").replace("nearness", "remoteness").replace(", during=True", "")
    done = quick(
        "run", _experiment(tmp_path, plugin, "evaluate: {metrics: [remoteness]}"), *MEASURED, "--results", tmp_path / "r"
    )
    assert done.returncode == 0, done.stderr
    fid, mine = read_measurements(tmp_path / "r/latest/result.json")
    assert fid.value is not None
    assert mine.value is None
    assert "'remoteness' fails (plugin" in (mine.unavailable or "")
    assert "line 9): NameError" in (mine.unavailable or "")
