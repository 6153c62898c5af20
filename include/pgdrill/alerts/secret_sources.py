"""Where the secrets of channels come from: the environment, or what Airflow's Connections bring."""

from __future__ import annotations

import os
from collections.abc import Callable

from pgdrill.alert_settings import AlertChannel, AlertPing
from pgdrill.alerts.channels.base import Credentials
from pgdrill.errors import ConfigError

SecretSource = Callable[[AlertChannel | AlertPing], Credentials]


def from_environment(wanted: AlertChannel | AlertPing) -> Credentials:
    """Return the secret that the variable of a channel or ping holds.

    Raises ConfigError where it is not set; one that needs none gets an empty one.
    """
    name = wanted.secret_variable
    if secret := os.environ.get(name, "").strip():
        return Credentials(secret)
    if not name and not wanted.conn_id:
        return Credentials()
    if not name:
        raise ConfigError(
            "no-alert-secret",
            f"alert channel {wanted.name}",
            found=f"only an Airflow connection ({wanted.conn_id}), and this is not Airflow",
            expected="the name of a variable with the secret, too",
            hint="set secret_variable in dr.toml, and the variable where the watch runs",
        )
    raise ConfigError(
        "no-alert-secret",
        f"alert channel {wanted.name}",
        found=f"variable {name} is {'empty' if name in os.environ else 'not set'} in this process",
        expected="the secret in it",
        hint=f"set {name} for this process (EnvironmentFile=); then `pgdrill alert test`",
    )
