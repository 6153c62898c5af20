"""A table of ``dr.toml``: what all of them have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pgdrill.documents import StrictModel

Seconds = Annotated[float, Field(gt=0)]


class Section(StrictModel):
    """A table of the file: unknown keys are refused, so that a typing error is not a silent
    default.
    """
