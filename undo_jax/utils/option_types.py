"""Types of options: numbers in the range of what can be meant, checked by records."""

from typing import Annotated

import pydantic

from undo_jax.utils.records import LARGEST_NUMBER

NotNegative = Annotated[float, pydantic.Field(ge=0, le=LARGEST_NUMBER)]
Positive = Annotated[float, pydantic.Field(gt=0, le=LARGEST_NUMBER)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Count = Annotated[int, pydantic.Field(ge=1, le=int(LARGEST_NUMBER))]
