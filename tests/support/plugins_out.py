"""The lab without what plugins add to it."""

from collections.abc import Iterator
from contextlib import contextmanager

from registry import plugins


@contextmanager
def plugins_out() -> Iterator[None]:
    """What plugins register meanwhile is taken out at the end: the next test, or command, may count the parts."""
    loaded, parts = plugins._loaded.copy(), {name: registry._parts.copy() for name, registry in plugins.REGISTRIES.items()}
    try:
        yield
    finally:
        plugins._loaded = loaded
        for name, registry in plugins.REGISTRIES.items():
            registry._parts = parts[name]
