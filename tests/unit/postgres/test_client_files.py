"""Files and variables of this host by which libpq goes elsewhere than its user means."""

from __future__ import annotations

import pytest

from pgdrill.postgres.client_files import from_the_environment, passed_over

NO_SERVICE = 'definition of service "prod" not found'


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGSERVICEFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def test_variables_that_chose_the_address_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "5999")
    assert "PGPORT=5999 of the environment" in from_the_environment({"host": "db1"})
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.9")
    said = from_the_environment({"host": "db1"})
    assert "PGHOSTADDR=10.0.0.9 and PGPORT=5999" in said
    assert "unset them" in said


def test_what_the_connection_string_says_is_not_blamed_on_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPORT", "5999")
    assert from_the_environment({"host": "db1", "port": "5432"}) == ""


def test_a_service_of_the_environment_is_told_apart_from_the_connection_strings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_name = passed_over(NO_SERVICE, {"service": "prod"})
    assert by_name is not None
    assert "correct service= in server.dsn" in by_name[1]
    monkeypatch.setenv("PGSERVICE", "prod")
    by_variable = passed_over(NO_SERVICE, {"host": "db1"})
    assert by_variable is not None
    assert "unset PGSERVICE" in by_variable[1]
