"""The code base: nothing goes in circles, what is imported is this checkout. `lint-imports` has the layers (setup.cfg)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LONG, ROOT

import ddpm_lab
import registry


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
PACKAGES = {name for name, file in MODULES.items() if file.name == "__init__.py"}
GRAPH = {name: _imports(file, set(MODULES)) - {name} for name, file in MODULES.items()}


def test_listing_and_checking_do_not_wait_for_slow_packages() -> None:
    """Each of these takes as long to import as torch, or longer."""
    slow = {"torchvision", "torchmetrics", "torch_fidelity", "wandb", "datasets", "matplotlib", "scipy", "torch._dynamo"}
    code = (
        "import sys, ddpm_lab.cli.main\nfrom ddpm_lab.cli import list as listing\n"
        f"list(listing.lines())\nprint({slow!r} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_imports_make_no_circle() -> None:
    # A part imports its registry from the package, and the package imports the part's file by name while it fills the
    # registry; the package's own lines above that are what a part may use. So parts count as one with their package.
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


def test_every_module_says_what_it_is() -> None:
    assert not [name for name, file in MODULES.items() if not ast.get_docstring(ast.parse(file.read_text()))]


IMPORTED_FIRST = """
import importlib, os, sys
import torch, pydantic, yaml, numpy, einops, tqdm, PIL.Image, jinja2  # no fork has to read these again
for name in sys.argv[1:]:
    if not os.fork():
        importlib.import_module(name)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(name)
"""


@pytest.mark.parametrize(
    "names", [sorted(PACKAGES), pytest.param(sorted(MODULES), marks=pytest.mark.slow)], ids=["packages", "all"]
)
def test_every_module_can_be_imported_first(names: list[str]) -> None:
    """A circle shows only where one begins at the wrong end."""
    names = [name for name in names if name != "ddpm_lab.__main__"]
    done = subprocess.run([sys.executable, "-c", IMPORTED_FIRST, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_packages_imported_are_those_of_this_checkout() -> None:
    assert Path(registry.__file__).parent == ROOT / "registry"
    assert Path(ddpm_lab.__file__).parent == ROOT / "ddpm_lab"


def test_no_file_names_this_machine_or_a_package_registry() -> None:
    for file in [*ROOT.glob("*.*"), *ROOT.glob("docs/*"), *ROOT.glob("experiments/**/*.yaml"), *MODULES.values()]:
        if file.is_file() and file.name != ".git":  # in a work tree beside the checkout it is a file, with a path in it
            text = file.read_text(errors="ignore")
            assert "/work/" not in text, file
            assert "pypi.org" not in text, file


def test_the_files_of_tests_that_come_first_are_there() -> None:
    assert [name for name in LONG if not (ROOT / "tests" / name).is_file()] == []
