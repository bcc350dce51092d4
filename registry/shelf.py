"""The names that `registry.registry` had before; plugins may still import them from here."""

from registry.registry import OptionError, Part, Registry, stock

Shelf = Registry

__all__ = ["OptionError", "Part", "Shelf", "stock"]
