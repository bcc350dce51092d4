"""What one package of the lab gives to another is a record, or a tree of values under the one name that says which kind."""

import ast
from collections.abc import Iterator

from conftest import ROOT

LAB = ROOT / "ddpm_lab"
# A YAML file before a schema has checked it; JSON for other programs; options of a part; what torch saves.
NAMED = ("Tree", "Json", "Options", "StateDict")
LOOSE = ("dict[str, Any]", "Mapping[str, Any]", "dict[str, object]", "Mapping[str, object]")


def _modules() -> dict[str, ast.Module]:
    files = [file for file in LAB.rglob("*.py") if file.name != "__init__.py"]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): ast.parse(file.read_text()) for file in files}


def _package(module: str) -> str:
    return module.split(".")[1]


def _shared(modules: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """(module, name) of what a module of another package imports."""
    return {
        (node.module, alias.name)
        for module, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in modules and _package(node.module) != _package(module)
        for alias in node.names
    }


def _loose(node: ast.AST, place: str) -> Iterator[str]:
    """Signatures and fields of a definition, its private methods aside, in which a loose mapping stands."""
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        hints = [*(one.annotation for one in arguments), node.returns]
        yield from (place for hint in hints if hint is not None and any(form in ast.unparse(hint) for form in LOOSE))
    elif isinstance(node, ast.AnnAssign) and any(form in ast.unparse(node.annotation) for form in LOOSE):
        yield place
    elif isinstance(node, ast.ClassDef):
        for one in node.body:
            name = str(getattr(one, "name", "")) or ast.unparse(getattr(one, "target", one))
            if name == "__init__" or not name.startswith("_"):
                yield from _loose(one, f"{place}.{name}")


def test_no_loose_mapping_crosses_a_package() -> None:
    modules = _modules()
    shared = _shared(modules)
    assert len(shared) > 100, "the test sees what packages import of each other"
    found = {
        place
        for module, tree in modules.items()
        for node in tree.body
        if (module, getattr(node, "name", "")) in shared
        for place in _loose(node, f"{module}.{node.name}")  # type: ignore[attr-defined]
    }
    assert found == set(), f"make it a record, or say which tree it is: {', '.join(NAMED)}"
