"""The tables ``[alerts]`` of ``dr.toml``: who is told of what, and by which channel.

Secrets never stand here: a channel names the environment's variable, or Airflow's Connection, that
holds its secret.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pgdrill.section import Seconds, Section

ChannelKind = Literal["smtp", "slack", "pagerduty", "webhook", "apprise"]
ChannelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
NEEDS: dict[str, tuple[str, ...]] = {
    "smtp": ("host", "sender", "to"),
    "slack": (),
    "pagerduty": (),
    "webhook": ("url",),
    "apprise": (),
}
OWN: dict[str, tuple[str, ...]] = {
    "smtp": ("host", "port", "security", "user", "sender", "to"),
    "slack": ("url", "channel"),
    "pagerduty": ("url",),
    "webhook": ("url",),
    "apprise": (),
}
PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
SLACK_URL = "https://slack.com/api"
PING_URL = "https://hc-ping.com"
ADDRESS = re.compile(r"[^\s<>,;:\"()\[\]\\@]+@[^\s<>,;:\"()\[\]\\@]+")


def _http(value: str) -> str:
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("holds credentials or a query; name the secret's variable instead")
    if value and (
        parts.scheme not in ("http", "https") or not parts.netloc or re.search(r"[\s<>|\"']", value)
    ):
        raise ValueError("must be http://host/… or https://host/…")
    return value.rstrip("/")


def _variable(value: str) -> str:
    if value and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError(
            "is no variable's name (capitals, digits, _); the secret never stands here"
        )
    return value


class AlertChannel(Section):
    """A way by which somebody is told. The order counts: what a channel fails to send goes by the
    next one.
    """

    name: ChannelName = Field(
        description="lower-case letters, digits, _ and -; `pgdrill alert test NAME` tries it"
    )
    type: ChannelKind = Field(description="which kind of channel it is")
    severities: tuple[Literal["critical", "warning", "unknown"], ...] = Field(
        ("critical", "warning", "unknown"),
        description="what it tells; unknown: that something cannot be looked at",
    )
    clusters: tuple[str, ...] = Field((), description="of which clusters; empty: of all")
    secret_variable: str = Field(
        "",
        description=(
            "name of the environment variable with its secret: SMTP password; Slack webhook URL or"
            " bot token; PagerDuty routing key; key that signs the webhook; Apprise URLs"
        ),
    )
    conn_id: str = Field(
        "", description="Airflow connection whose password is that secret; it counts in Airflow"
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = Field(
        10, description="for each of up to three tries, the whole answer included"
    )
    url: str = Field(
        "",
        description=(
            "webhook: where alerts are posted; pagerduty, slack (bot token): another address of"
            " the API"
        ),
    )
    host: str = Field("", description="smtp: the server's name")
    port: int = Field(
        0, ge=0, le=65535, description="smtp: its port; 0: 587 with starttls, 465 with tls, 25"
    )
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="smtp: without it nothing is sent; none: in clear, no password"
    )
    user: str = Field("", description="smtp: login; empty: none, and no secret")
    sender: str = Field("", description="smtp: address that mails come from")
    to: tuple[str, ...] = Field((), description="smtp: addresses that they go to")
    channel: str = Field(
        "", description="slack: channel's id, with a bot token; empty: the secret is a webhook URL"
    )

    @field_validator("url")
    @classmethod
    def _http_without_credentials(cls, value: str) -> str:
        return _http(value)

    @field_validator("secret_variable")
    @classmethod
    def _name_not_secret(cls, value: str) -> str:
        return _variable(value)

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if address and not ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is no mail address such as backups@example.org")
        return value

    @model_validator(mode="after")
    def _fits_type(self) -> AlertChannel:
        if not self.severities:
            raise ValueError("severities names none, so it would tell nothing")
        for name in NEEDS[self.type]:
            if not getattr(self, name):
                raise ValueError(f"type {self.type} needs {name}")
        of_others = {name for names in OWN.values() for name in names} - set(OWN[self.type])
        for name in sorted(of_others & self.model_fields_set):
            raise ValueError(f"type {self.type} takes no {name}")
        if (self.type != "smtp" or self.user) and not (self.secret_variable or self.conn_id):
            raise ValueError("needs secret_variable or conn_id, which says where its secret is")
        if self.type == "smtp" and self.security == "none" and self.user:
            raise ValueError("would send a password in clear; choose security starttls or tls")
        return self


class AlertPing(Section):
    """A sign of life for one promise, by the API of healthchecks: it is sent only while the promise
    is kept, and whoever misses it tells you.
    """

    cluster: str = Field(description="the cluster")
    promise: str = Field(description="the health check whose promise it is, for example archiver")
    secret_variable: str = Field(
        "",
        description=(
            "name of the environment variable with the project's ping key, or with a whole ping URL"
        ),
    )
    conn_id: str = Field(
        "", description="Airflow connection whose password that is; it counts in Airflow"
    )
    url: str = Field(
        PING_URL, description="where a ping key is valid; the check's slug is CLUSTER-PROMISE"
    )
    every_seconds: Annotated[float, Field(ge=15)] = Field(60, description="no more often than that")
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = Field(10, description="for each ping")

    @field_validator("url")
    @classmethod
    def _http_without_credentials(cls, value: str) -> str:
        return _http(value)

    @field_validator("secret_variable")
    @classmethod
    def _name_not_secret(cls, value: str) -> str:
        return _variable(value)

    @model_validator(mode="after")
    def _has_a_secret(self) -> AlertPing:
        if not (self.secret_variable or self.conn_id):
            raise ValueError("needs secret_variable or conn_id, which says where its secret is")
        return self

    @property
    def name(self) -> str:
        """What it is called in counts and errors."""
        return f"ping {self.cluster}-{self.promise}"


class Alerts(Section):
    """When somebody is told. Without a channel nobody is, and alerts are only remembered."""

    bad_looks: int = Field(1, ge=1, le=100, description="looks in a row that open an alert")
    good_looks: int = Field(2, ge=1, le=100, description="looks in a row that end it")
    unknown_looks: int = Field(
        3, ge=1, le=100, description="looks in a row that could not be made, and are an alert"
    )
    repeat_seconds: Seconds = Field(
        86400, description="what lasts is told again after so long, unless it is acknowledged"
    )
    page_url: str = Field("", description="address of your page of backups; a link in each message")
    runbook_url: str = Field(
        "", description="address of your runbook; #CHECK is added to it in each message"
    )
    channels: tuple[AlertChannel, ...] = ()
    pings: tuple[AlertPing, ...] = ()

    @field_validator("page_url", "runbook_url")
    @classmethod
    def _http_address(cls, value: str) -> str:
        return _http(value)
