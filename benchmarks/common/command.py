"""How every benchmark starts."""

from __future__ import annotations

from collections.abc import Callable

from registry.errors import BadInput


def execute(main: Callable[[], None]) -> None:
    """Run it; bad input prints a one-line error and exits with status 1."""
    try:
        main()
    except BadInput as error:
        raise SystemExit(str(error)) from None
