"""A plugin with the modules beside it that it imports: read once, hashed, and run as they were read.

Python's own import system would look into `sys.path`, take a .pyc that lies there, and read a module again when it is needed.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from registry.files import PLUGIN, read_file, required

OURS = {"ddpm_lab", "registry"}  # these, and Python's own modules, are never something beside a plugin


class Plugin(NamedTuple):
    """A plugin file and its sources: its own text first, then that of each module beside it, by the names of their files."""

    file: Path
    sources: Mapping[str, bytes]

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each source."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.sources.items()}

    @property
    def digest(self) -> str:
        """Of all sources, wherever they lie; of a plugin alone, that of its text."""
        own, *others = self.digests.values()
        return hashlib.sha256(" ".join([own, *sorted(others)]).encode()).hexdigest() if others else own


def read_plugin(file: Path) -> Plugin:
    """The plugin, and every module beside it that is imported anywhere in it, or in such a module.

    Raises:
        OSError, BadInput: one of them cannot be read.
    """
    sources, waiting = {file.name: read_file(required(file, PLUGIN), PLUGIN)}, [file.name]
    while waiting:
        for module in _imported(sources[waiting.pop()]):
            beside = file.with_name(f"{module}.py")
            if beside.name not in sources and beside.exists():
                sources[beside.name] = read_file(required(beside, PLUGIN), PLUGIN)
                waiting.append(beside.name)
    return Plugin(file, sources)


def run_plugin(plugin: Plugin) -> None:
    """Run it. An `import` of a module beside it, now or later, gives the module as it was read.

    Raises:
        BaseException: whatever the plugin raises.
    """
    _Modules(plugin).run(plugin.file.name)


class _Modules:
    def __init__(self, plugin: Plugin) -> None:
        self.plugin, self.known = plugin, dict[str, types.ModuleType]()

    def run(self, name: str) -> types.ModuleType:
        """The module of that source, run at the first time."""
        if name in self.known:
            return self.known[name]
        file = self.plugin.file.with_name(name)
        module = types.ModuleType(f"ddpm_lab_plugin_{file.stem}_{self.plugin.digests[name][:8]}", f"The plugin {file}.")
        module.__file__ = str(file)
        sys.modules[module.__name__] = self.known[name] = module  # before it runs, for modules that import each other
        if len(self.plugin.sources) > 1:
            vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._importing(builtins.__import__)}
        try:
            exec(compile(self.plugin.sources[name], file, "exec"), vars(module))
        except BaseException:
            del self.known[name]
            raise
        return module

    def _importing(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        def import_(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
            file = f"{name}.py"
            if level == 0 and _may_be_beside(name) and file in self.plugin.sources and file != self.plugin.file.name:
                return self.run(file)
            return usual(name, globals, locals, fromlist, level)

        return import_


def _imported(source: bytes) -> Iterator[str]:
    """The modules without a dot that a text imports, in functions too; none where it is not Python, which running it shows."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        yield from (name for name in names if _may_be_beside(name))


def _may_be_beside(name: str) -> bool:
    return name.isidentifier() and name not in OURS and name not in sys.stdlib_module_names
