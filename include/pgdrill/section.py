"""A table of ``dr.toml``: what all of them have in common."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from pgdrill.documents import StrictModel

Seconds = Annotated[float, Field(gt=0)]


class Section(StrictModel):
    """A table of the file: unknown keys are refused, so that a typing error is not a silent
    default.
    """


def store_url(value: str) -> str:
    """The URL of a store in the one form that is compared and handed to tools: scheme in small
    letters, no slash at the end.
    """
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError(
            "holds credentials; move them to the Airflow connection or AWS_… variables"
        )
    if parts.scheme not in ("s3", "file") or not (parts.netloc or parts.path.strip("/")):
        raise ValueError("must be s3://bucket/prefix or file:///folder")
    return f"{parts.scheme}:{value.partition(':')[2]}".rstrip("/")
