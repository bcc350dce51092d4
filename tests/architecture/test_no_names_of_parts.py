"""The lab knows no part by name: what it needs to know of one, the part declares (docs/adding-a-part.md)."""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

from registry.plugins import REGISTRIES

LAB = ROOT / "ddpm_lab"
PARTS = [part for parts in REGISTRIES.values() for part in parts]
NAMES = {part.name for part in PARTS}
MODULES = {part.make.__module__ for part in PARTS if part.make.__module__.startswith("registry.")}

DEFAULT = "a default of the schema"
RATE = "a shape of the learning rate's decay, and no schedule of noise"
SWEEP = "a distribution of W&B's sweep files"
SPACE = "a value of `Weighting.space`, which is x0, eps or target"
PLAIN = "what a plain file of images is measured with where nobody says with what"
KIND = "a kind of path, and no schedule"
TRIED = "what objectives are tried with"
ARITHMETIC = "fp32 or bf16, and no metric"
# (file, name or module) -> why it may stand there.
EXCEPTIONS = {
    ("config/schema.py", "AdamW"): DEFAULT,
    ("config/schema.py", "classifier_free"): DEFAULT,
    ("config/schema.py", "constant"): DEFAULT,
    ("config/schema.py", "ddim"): DEFAULT,
    ("config/schema.py", "denoising"): DEFAULT,
    ("config/schema.py", "exponential"): DEFAULT,
    ("config/schema.py", "fixed_small"): DEFAULT,
    ("config/schema.py", "independent"): DEFAULT,
    ("config/schema.py", "uniform"): DEFAULT,
    ("config/learning_rate.py", "constant"): RATE,
    ("config/learning_rate.py", "cosine"): RATE,
    ("config/learning_rate.py", "linear"): RATE,
    ("sweeps/wandb_file.py", "constant"): SWEEP,
    ("sweeps/wandb_file.py", "uniform"): SWEEP,
    ("diffusion/process.py", "x0"): SPACE,
    ("testing/learning.py", "x0"): SPACE,
    ("testing/promises.py", "flow"): KIND,
    ("testing/objectives.py", "flow"): KIND,
    **{("testing/objectives.py", name): TRIED for name in ("constant", "fixed_small", "l2", "mlp", "uniform", "velocity")},
    ("testing/sampling.py", "fixed_small"): "the variance that samplers and options are tried with",
    ("cli/evaluate.py", "fashion_cnn"): PLAIN,
    ("cli/evaluate.py", "fashion_mnist"): PLAIN,
    ("cli/evaluate.py", "inception_v3"): "--inception-weights is an option of that extractor, by its name",
    ("export/scheduler.py", "trailing"): "diffusers' word for where its steps lie",
    ("runner/preflight.py", "precision"): ARITHMETIC,
    ("inference/trained_run.py", "precision"): ARITHMETIC,
    ("studies/explain/bench.py", "precision"): ARITHMETIC,
    ("studies/explain/causes.py", "precision"): ARITHMETIC,
    ("studies/explain/factors.py", "precision"): ARITHMETIC,
    ("evaluation/held_out_errors.py", "precision"): ARITHMETIC,
    ("evaluation/pixels.py", "memorisation"): "which held-out images are compared, a choice that values depend on",
    ("training/trial.py", "importance"): "what levels come with, in a message",
}


def _named(tree: ast.AST) -> Iterator[str]:
    """Every literal that is the name of a part, wherever it stands, and every module of a part that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            yield node.value
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def _found() -> set[tuple[str, str]]:
    files: list[Path] = sorted(LAB.rglob("*.py"))
    return {(str(file.relative_to(LAB)), name) for file in files for name in _named(ast.parse(file.read_text()))}


def test_no_part_is_known_by_name() -> None:
    assert _found() - set(EXCEPTIONS) == set(), "let the part declare it instead, or say here why not"


def test_no_exception_is_left_behind() -> None:
    assert set(EXCEPTIONS) - _found() == set(), "no longer needed"


def test_what_is_looked_for_is_found() -> None:
    lines = """
        if sampler.name == "ancestral": pass
        if name in ("power", "other"): pass
        ORDERS = {"heun": 2}
        match name:
            case "lms": pass
        REGISTRY.check("dit", {})
        from registry.backbones.mlp import MLP
    """
    found = set(_named(ast.parse(textwrap.dedent(lines))))
    assert found == {"ancestral", "power", "heun", "lms", "dit", "registry.backbones.mlp"}
