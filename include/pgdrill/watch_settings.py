"""The table ``[watch]`` of ``dr.toml``: how ``pgdrill watch`` looks, and shows what it measures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from pgdrill.section import Section

LISTEN = "127.0.0.1:9842"
# an address with a colon in it stands in brackets
ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


class Watch(Section):
    """The service ``pgdrill watch``."""

    look_seconds: Annotated[float, Field(ge=5, le=60)] = Field(
        10,
        description="between looks at what is cheap; sooner where a promise would run out before",
    )
    heartbeat_seconds: Annotated[float, Field(ge=1, le=5)] = Field(
        5,
        description=(
            "between the heartbeats that it writes where drill.heartbeat is a column of"
            " pgdrill_heartbeat"
        ),
    )
    listen: str = Field(
        LISTEN, description="address:port where Prometheus asks for /metrics; empty: nowhere"
    )
    textfile: str = Field(
        "",
        description=(
            "file for node_exporter's textfile collector, written whole; it ends in .prom; empty:"
            " none"
        ),
    )

    @field_validator("listen")
    @classmethod
    def _address_and_port(cls, value: str) -> str:
        found = ADDRESS.fullmatch(value)
        if value and (found is None or not 0 < int(found["port"]) < 65536):
            raise ValueError("must be address:port, for example 127.0.0.1:9842")
        return value

    @field_validator("textfile")
    @classmethod
    def _whole_path(cls, value: str) -> str:
        if value and not (Path(value).is_absolute() and value.endswith(".prom")):
            raise ValueError("must be a whole path that ends in .prom")
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; None: nowhere."""
        found = ADDRESS.fullmatch(self.listen)
        return (found["host"].strip("[]"), int(found["port"])) if found else None
