"""Which code trains a run: a hash of it, and whatever of the lab was replaced while it ran."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import ddpm_lab.diffusion
import ddpm_lab.training
import registry
from ddpm_lab.config.schema import Experiment

OURS = ("ddpm_lab", "registry")


def code_hashes(experiment: Experiment, plugins: Iterable[Path]) -> dict[str, str]:
    """12 hexadecimal digits for each piece of the code that trains: the `step` with its mathematics, each part, each plugin.

    Comments, docstrings and layout do not count, nor do parts that are not in use.
    """

    def hash_of(files: Iterable[Path]) -> str:
        return hashlib.sha256("\n".join(sorted(_bare(file.read_text()) for file in set(files))).encode()).hexdigest()[:12]

    found = {"step": hash_of(file for package in (ddpm_lab.diffusion, ddpm_lab.training) for file in _files(package))}
    for category, choice in experiment.parts:
        made = inspect.getfile(inspect.unwrap(category.part(choice.name).make))
        found[f"{category.kind} {choice.name}"] = hash_of(_with_imports(Path(made)))
    return found | {f"plugin {file.name}": hash_of([file]) for file in plugins}


def replaced() -> list[str]:
    """The functions of lab and registry that are not those of their own files, as `module.name`; none in an honest run."""
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] in OURS and _has_source(module)}
    return sorted({name for module in modules.values() for name in _replaced_in(module)})


def _files(package: ModuleType) -> list[Path]:
    return [file for folder in package.__path__ for file in Path(folder).glob("*.py")]


def _with_imports(file: Path) -> set[Path]:
    """A file and those of the registry that it imports, and so on."""
    found, todo = set[Path](), [file]
    while todo:
        if (file := todo.pop()) not in found:
            found.add(file)
            todo += _imports(file)
    return found


def _imports(file: Path) -> list[Path]:
    """The files of the registry that a file imports."""
    modules = map(sys.modules.get, _imported(file.read_text()))
    return [
        Path(module.__file__ or "")
        for module in modules
        if module is not None and module.__name__.split(".")[0] == registry.__name__ and _has_source(module)
    ]


# What follows is remembered by the text: parts share much of what they import, and a process may run more than once.
@functools.cache
def _imported(text: str) -> frozenset[str]:
    """The modules that it imports something from."""
    return frozenset(node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom))


@functools.cache
def _bare(text: str) -> str:
    """Its syntax, without docstrings and comments."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


class _Contents(NamedTuple):
    """What stands at the top of a module."""

    functions: tuple[str, ...]
    methods: dict[str, tuple[str, ...]]  # of each class
    imports: tuple[tuple[str, str, str], ...]  # from lab and registry: the module, the name there and the name here


@functools.cache
def _contents(text: str) -> _Contents:
    nodes = ast.parse(text).body
    return _Contents(
        tuple(node.name for node in nodes if isinstance(node, ast.FunctionDef)),
        {node.name: tuple(one.name for one in node.body if isinstance(one, ast.FunctionDef))
         for node in nodes if isinstance(node, ast.ClassDef)},
        tuple((node.module, alias.name, alias.asname or alias.name)
              for node in nodes if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS
              for alias in node.names),
    )  # fmt: skip


def _has_source(module: ModuleType) -> bool:
    return (getattr(module, "__file__", None) or "").endswith(".py")


def _replaced_in(module: ModuleType) -> Iterator[str]:
    file, here = module.__file__ or "", vars(module)
    contents = _contents(Path(file).read_text())
    yield from (f"{module.__name__}.{name}" for name in contents.functions if not _is_from(here.get(name), file))
    for name, methods in contents.methods.items():
        found = here.get(name)
        if not inspect.isclass(found) or found.__module__ != module.__name__:
            yield f"{module.__name__}.{name}"
        else:
            inside = vars(found)
            yield from (f"{module.__name__}.{name}.{one}" for one in methods if not _is_from(inside.get(one), file))
    for source, there, name in contents.imports:
        if here.get(name) is not getattr(sys.modules.get(source), there, None):
            yield f"{module.__name__}.{name}"


def _is_from(found: Any, file: str) -> bool:
    """Whether a function, in whatever a decorator made of it, was written in that file."""
    for name in ("__func__", "fget", "func"):  # of a static or class method, a property, a cached one
        found = getattr(found, name, None) or found
    code = getattr(inspect.unwrap(found), "__code__", None) if callable(found) else None
    return code is not None and Path(code.co_filename) == Path(file)
