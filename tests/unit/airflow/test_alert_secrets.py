"""The secret of a channel is its Connection's password, inside Airflow."""

from __future__ import annotations

import pytest

from pgdrill.airflow.alert_secrets import from_connections
from pgdrill.alert_settings import AlertChannel
from pgdrill.errors import ConfigError


def channel(**more: str) -> AlertChannel:
    return AlertChannel.model_validate({"name": "pager", "type": "pagerduty", **more})


def test_a_connection_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PAGER", "generic://me:routing-key@")
    monkeypatch.setenv("PAGER_KEY", "other-key")
    found = from_connections(channel(conn_id="pager", secret_variable="PAGER_KEY"))
    assert (found.secret, found.user) == ("routing-key", "me")
    assert "routing-key" not in repr(found)


def test_without_a_connection_the_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER_KEY", "other-key")
    assert from_connections(channel(secret_variable="PAGER_KEY")).secret == "other-key"


def test_a_connection_without_a_password_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PAGER", "generic://host")
    with pytest.raises(ConfigError, match=r"'pager' of alert channel pager: found no password"):
        from_connections(channel(conn_id="pager"))
