"""The types in which parts declare their options; pydantic reads the bounds from them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST = 2**63 - 1  # what fits into the integers of tensors
MANY = 10**12  # far above any run, far below what overflows when it is multiplied

Count = Annotated[int, Field(gt=0, le=MANY)]
NonNegativeInt = Annotated[int, Field(ge=0, le=LARGEST)]
Side = Annotated[int, Field(gt=0, le=4096)]  # pixels
Positive = Annotated[float, Field(gt=0, le=1e38)]  # float32 ends at 3e38
NonNegative = Annotated[float, Field(ge=0, le=1e38)]
Fraction = Annotated[float, Field(ge=0, le=1)]
LogSNR = Annotated[float, Field(ge=-100, le=100)]
