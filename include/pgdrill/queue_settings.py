"""A table ``[queues.NAME]`` of ``dr.toml``: a Redis whose job queues are copied and proved."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pgdrill.section import Seconds, Section, store_url

QueueName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
ADDRESS = re.compile(r"[^\s:@/]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")


class Queue(Section):
    """A Redis (or Valkey) that holds queues of Bull or BullMQ."""

    cluster: str = Field(description="the PostgreSQL cluster it belongs to, of [clusters]")
    host: str = Field("localhost", description="address, or path of a Unix socket")
    port: int = Field(6379, ge=1, le=65535, description="of the server")
    conn_id: str = Field(
        "", description="Airflow connection (type redis): host, port, login and password, TLS"
    )
    username: str = Field("", description="ACL user; empty: the default user")
    password_variable: str = Field(
        "REDISCLI_AUTH", description="name of the environment variable that holds the password"
    )
    tls: bool = Field(False, description="connect by TLS")
    tls_ca_file: str = Field("", description="certificates to trust; empty: the system's")
    tls_cert_file: str = Field("", description="our own certificate, where the server asks for one")
    tls_key_file: str = Field("", description="its key")
    sentinels: tuple[str, ...] = Field(
        (), description='"host:port" of Sentinels, which are asked for a replica; empty: `host`'
    )
    sentinel_master: str = Field("mymaster", description="the name that they know it by")
    sentinel_password_variable: str = Field(
        "", description="name of the variable with the Sentinels' own password; empty: none"
    )
    prefix: str = Field("bull", min_length=1, description="BullMQ's prefix of all keys")
    url: str = Field(
        "",
        description="where snapshots are kept, s3:// or file://; empty: in queues/NAME below the"
        " cluster's repository url",
    )
    method: Literal["auto", "replication", "file", "keys"] = Field(
        "auto",
        description="how it is copied: by the replication protocol, by BGSAVE beside the server, or"
        " key by key (of no single instant); auto: the first that the server lets",
    )
    from_replica: bool = Field(True, description="copy a replica where there is one that keeps up")
    replica_lag_seconds: Seconds = Field(60, description="a replica further behind is not copied")
    may_be_empty: bool = Field(False, description="a server without any key is copied, too")
    bin_dir: str = Field(
        "", description="folder of redis-server and redis-cli, same major; empty: found on PATH"
    )
    heartbeat_key: str = Field(
        "pgdrill:heartbeat", description="a string with an ISO time that something sets, if it does"
    )
    schedule: str = Field("7 * * * *", description="cron, UTC")
    timeout_seconds: Seconds = Field(1800, description="for the copy, and for loading it")
    stall_seconds: Seconds = Field(120, description="no byte arriving for so long counts as a hang")
    hourly: int = Field(48, ge=1, description="hours of which the newest good snapshot is kept")
    daily: int = Field(35, ge=0, description="days of which the newest good snapshot is kept")
    name: str = Field("", exclude=True, description="set from the table's key")

    @field_validator("password_variable", "sentinel_password_variable")
    @classmethod
    def _name_not_password(cls, value: str) -> str:
        if value and not VARIABLE.fullmatch(value):
            raise ValueError(
                "is no variable's name (capitals, digits, _); the password never stands here"
            )
        return value

    @field_validator("host")
    @classmethod
    def _plain_host(cls, value: str) -> str:
        if not value.startswith("/") and ("@" in value or "/" in value or not value.strip()):
            raise ValueError("must be a host's name or address alone, or the path of a socket")
        return value

    @field_validator("sentinels")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not ADDRESS.fullmatch(one):
                raise ValueError('holds what is no "host:port"')
        return value

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        return value and store_url(value)

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Queue:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file come together")
        if self.tls and self.host.startswith("/"):
            raise ValueError("tls is for a host, and host is a socket's path")
        return self
