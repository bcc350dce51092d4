"""The types in which parts declare their options; pydantic reads the bounds from them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST = 10**12  # far above any run, far below what overflows

Count = Annotated[int, Field(gt=0, le=LARGEST)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2**62)]
Channels = Annotated[int, Field(gt=0, le=64)]
Side = Annotated[int, Field(gt=0, le=4096)]  # pixels
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
