"""The secrets of alert channels from Airflow's Connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from pgdrill.errors import ConfigError

if TYPE_CHECKING:
    from pgdrill.alert_settings import AlertChannel, AlertPing
    from pgdrill.alerts.channels import Credentials


def from_connections(wanted: AlertChannel | AlertPing) -> Credentials:
    """Return the password, and the login, of a channel's Connection; without one the environment
    counts.
    """
    from pgdrill.alerts.channels import Credentials
    from pgdrill.alerts.secret_sources import from_environment

    if not wanted.conn_id:
        found = from_environment(wanted)
        if found.secret:
            mask_secret(found.secret)
        return found
    thing = f"Airflow connection {wanted.conn_id!r} of alert channel {wanted.name}"
    try:
        connection = BaseHook.get_connection(wanted.conn_id)
    except AirflowNotFoundException:
        raise ConfigError(
            "no-connection",
            thing,
            found="no such connection",
            expected="one whose password is the channel's secret",
            hint=f"add it (Admin > Connections, or AIRFLOW_CONN_{wanted.conn_id.upper()})",
        ) from None
    if not connection.password:
        raise ConfigError(
            "bad-connection",
            thing,
            found="no password",
            expected="the channel's secret as its password",
            hint="set the connection's password",
        )
    mask_secret(connection.password)
    return Credentials(connection.password, connection.login or "")
