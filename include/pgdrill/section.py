"""A table of ``dr.toml``: what all of them have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the file: unknown keys are refused, so that a typing error is not a silent
    default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
