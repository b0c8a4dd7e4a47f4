"""The kinds of values that recipes hold, and how variants are named."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

FORMAT = 1
SEPARATOR = "@"  # a variant of a stage is named STAGE@LABEL
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]  # what numpy's and scikit-learn's generators take
Unit = Literal["slice", "volume", "patch", "patch3d"]
Draw = Literal["uniform", "positive"]
Positive = Annotated[float, Gt(0)]
Area = Annotated[float, Gt(0), Le(1)]
Side = Annotated[int, Gt(0)]
