"""The house: imports point down, nothing goes in circles, what is imported is this checkout."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import ddpm_lab
import registry

# Lower rooms first. A module may import from its own row or from a row above it in this list, never from below.
FLOORS = [
    {"ddpm_lab.launcher", "ddpm_lab.openmp", "ddpm_lab.live_runs"},
    {"ddpm_lab.console", "ddpm_lab.distributed", "ddpm_lab.status", "ddpm_lab.testing", "ddpm_lab.names", "ddpm_lab.redaction"},
    {"ddpm_lab.yaml_loader", "ddpm_lab.files", "ddpm_lab.rng", "ddpm_lab.choice", "ddpm_lab.progress", "ddpm_lab.diffusion",
     "ddpm_lab.ema", "ddpm_lab.device", "ddpm_lab.bound", "ddpm_lab.muon", "ddpm_lab.post_hoc",
     "ddpm_lab.feed", "ddpm_lab.interval", "ddpm_lab.neighbours", "ddpm_lab.plots", "ddpm_lab.text",
     "ddpm_lab.records", "ddpm_lab.moments", "ddpm_lab.json_text", "ddpm_lab.stability"},
    {"ddpm_lab.optimizer", "ddpm_lab.buckets", "ddpm_lab.feature_statistics", "ddpm_lab.extrapolation",
     "ddpm_lab.memorisation"},
    {"ddpm_lab.experiment", "ddpm_lab.checkpoint", "ddpm_lab.run_folder", "ddpm_lab.environment", "ddpm_lab.pictures",
     "ddpm_lab.npz", "ddpm_lab.metrics", "ddpm_lab.reference"},
    {"ddpm_lab.overrides", "ddpm_lab.sweep_file"},
    {"ddpm_lab.recipe", "ddpm_lab.build", "ddpm_lab.fit", "ddpm_lab.follower", "ddpm_lab.tracking", "ddpm_lab.report",
     "ddpm_lab.listing", "ddpm_lab.sweep_report", "ddpm_lab.compare"},
    {"ddpm_lab.sample", "ddpm_lab.evaluate", "ddpm_lab.train", "ddpm_lab.held_out", "ddpm_lab.cost"},
    {"ddpm_lab.loaded", "ddpm_lab.check", "ddpm_lab.trial"},
    {"ddpm_lab.reconstruct", "ddpm_lab.export", "ddpm_lab.export.component", "ddpm_lab.export.unet", "ddpm_lab.export.dit",
     "ddpm_lab.export.scheduler", "ddpm_lab.export.autoencoder", "ddpm_lab.change"},
    {"ddpm_lab.curve"},
    {"ddpm_lab.run", "ddpm_lab.commands", "ddpm_lab.sweep"},
    {"ddpm_lab", "ddpm_lab.cli", "ddpm_lab.__main__"},
]  # fmt: skip


def _modules(package: str) -> dict[str, Path]:
    found = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = file
    return found


def _imports(file: Path, known: set[str]) -> set[str]:
    """The modules of the house that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name in known}
    return found


MODULES = {**_modules("registry"), **_modules("ddpm_lab")}
GRAPH = {name: _imports(file, set(MODULES)) - {name} for name, file in MODULES.items()}


def test_listing_and_checking_do_not_wait_for_slow_packages() -> None:
    """Each of these takes as long to import as torch, or longer."""
    slow = {"torchvision", "torchmetrics", "torch_fidelity", "wandb", "datasets", "matplotlib", "scipy", "torch._dynamo"}
    code = f"import sys, ddpm_lab.cli, ddpm_lab.listing; list(ddpm_lab.listing.lines()); print({slow!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_registry_never_imports_the_lab() -> None:
    assert not {
        name for name, imports in GRAPH.items() if name.startswith("registry") for i in imports if i.startswith("ddpm_lab")
    }


def test_nothing_in_the_house_imports_benchmarks_or_tests() -> None:
    for file in MODULES.values():
        assert "import benchmarks" not in (text := file.read_text())
        assert "from benchmarks" not in text


def test_imports_of_the_lab_point_down() -> None:
    height = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    lab = {name for name in MODULES if name.startswith("ddpm_lab")}
    assert lab == set(height), "each module of the lab has its floor"
    up = [(name, i) for name in lab for i in GRAPH[name] if i in height and height[i] > height[name]]
    assert not [pair for pair in up if pair[1] != "ddpm_lab"]


def test_imports_make_no_circle() -> None:
    # A part imports its shelf from the package, and the package imports the part's file by name while it stocks the
    # shelf; the package's own lines above that are what a part may use. So parts count as one with their package.
    graph = {name: {i for i in imports if not name.startswith(f"{i}.")} for name, imports in GRAPH.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for below in sorted(graph[name]):
                visit(below, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_can_be_imported_first(name: str) -> None:
    if name != "ddpm_lab.__main__":
        assert importlib.import_module(name).__doc__, "and says what it is"


def test_the_packages_imported_are_those_of_this_checkout() -> None:
    assert Path(registry.__file__).parent == ROOT / "registry"
    assert Path(ddpm_lab.__file__).parent == ROOT / "ddpm_lab"


def test_no_file_names_this_machine_or_a_package_registry() -> None:
    for file in [*ROOT.glob("*.*"), *ROOT.glob("docs/*"), *ROOT.glob("experiments/**/*.yaml"), *MODULES.values()]:
        if file.is_file():
            text = file.read_text(errors="ignore")
            assert "/work/" not in text, file
            assert "pypi.org" not in text, file
