"""Airflow Connections as the library's credentials: where Airflow ends and
:class:`pgdrill.access.Credentials` begin.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

from pgdrill.errors import ConfigError

if TYPE_CHECKING:
    from pgdrill.access import Credentials
    from pgdrill.config import Cluster, RepositorySettings

logger = logging.getLogger(__name__)

# What libpq and the tools read by themselves where dr.toml names no connection.
SECRET_VARIABLES = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def credentials_of(cluster: Cluster) -> tuple[Cluster, Credentials]:
    """Return what a cluster's Connections bring, and the cluster completed by them.

    A Connection of the store may tell its region and endpoint. Without a ``conn_id`` the
    environment counts.
    """
    from pgdrill.access import Credentials

    for name in (*SECRET_VARIABLES, cluster.airflow.password_variable):
        mask_secret(os.environ.get(name, ""))
    postgres, standby, dump = (
        _postgres(conn_id, cluster, key)
        for key, conn_id in (
            ("server.conn_id", cluster.server.conn_id),
            ("server.standby_conn_id", cluster.server.standby_conn_id),
            ("dump.conn_id", cluster.dump.conn_id),
        )
    )
    environment: dict[str, str] = {}
    if conn_id := cluster.repository.conn_id:
        with _explained(conn_id, "aws", cluster, "repository.conn_id"):
            environment, repository = aws_variables(conn_id, cluster.repository)
            cluster = cluster.model_copy(update={"repository": repository})
    return cluster, Credentials(postgres, environment, standby, dump, _api(cluster))


def _api(cluster: Cluster) -> dict[str, str]:
    """Return address and login of Airflow's own API, where a Connection holds them."""
    from airflow.sdk import BaseHook

    conn_id = cluster.airflow.conn_id
    if not conn_id or not cluster.airflow.watched:
        return {}
    with _explained(conn_id, "http", cluster, "airflow.conn_id"):
        connection = BaseHook.get_connection(conn_id)
        _of_type(connection.conn_type, "http", conn_id)
    scheme, _, host = (connection.host or "").rpartition("://")
    scheme = scheme or connection.schema or "http"
    port = f":{connection.port}" if connection.port else ""
    mask_secret(connection.password or "")
    return {
        "url": f"{scheme}://{host.rstrip('/')}{port}" if host else "",
        "user": connection.login or "",
        "password": connection.password or "",
    }


def _postgres(conn_id: str, cluster: Cluster, key: str) -> dict[str, str]:
    if not conn_id:
        return {}
    with _explained(conn_id, "postgres", cluster, key):
        return postgres_keywords(conn_id)


def postgres_keywords(conn_id: str) -> dict[str, str]:
    """Return libpq keywords of a ``postgres`` connection: address, login, what its extra says of
    TLS, an IAM token as password.
    """
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from psycopg import ProgrammingError
    from psycopg.conninfo import make_conninfo

    hook = PostgresHook(postgres_conn_id=conn_id)
    connection = hook.get_connection(conn_id)
    _of_type(connection.conn_type, "postgres", conn_id)
    login, password, port = connection.login, connection.password, connection.port
    if connection.extra_dejson.get("iam"):
        login, password, port = hook.get_iam_token(connection)
    words = {
        "host": connection.host,
        "port": port,
        "user": login,
        "password": password,
        "dbname": connection.schema,
    }
    words |= {
        k: v
        for k, v in connection.extra_dejson.items()
        if k not in PostgresHook.ignored_extra_options
    }
    mask_secret(password or "")
    given = {key: str(value) for key, value in words.items() if value not in (None, "")}
    try:
        make_conninfo("", **given)
    except ProgrammingError as error:
        raise ConfigError(
            "bad-connection",
            f"Airflow connection {conn_id!r}",
            found=f"extra that libpq does not know ({error})",
            expected="libpq's keywords in its extra",
            hint="remove or correct that key of the extra",
        ) from None
    return given


def aws_variables(
    conn_id: str, repository: RepositorySettings
) -> tuple[dict[str, str], RepositorySettings]:
    """Return ``AWS_…`` variables of an ``aws`` connection (its role assumed), and the repository
    completed by its region and endpoint.

    What dr.toml says itself goes first. A connection without key, role or profile leaves the
    variables empty: tools then find the machine's role by themselves, and renew it, too.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    hook = AwsGenericHook(aws_conn_id=conn_id, client_type="s3")  # type: ignore[var-annotated]
    _of_type(hook.get_connection(conn_id).conn_type, "aws", conn_id)
    place = {}
    if not repository.endpoint_url and (
        endpoint := hook.conn_config.get_service_endpoint_url("s3")
    ):
        place["endpoint_url"] = endpoint
    if "region" not in repository.model_fields_set and hook.region_name:
        place["region"] = hook.region_name
    repository = repository.model_copy(update=place)
    given = hook.conn_config
    if not (given.aws_access_key_id or given.role_arn or given.profile_name):
        return {}, repository
    keys = hook.get_credentials()
    variables = {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
    mask_secret(keys.secret_key)
    if keys.token:
        mask_secret(keys.token)
        variables["AWS_SESSION_TOKEN"] = keys.token
        logger.info(
            "connection %s gives temporary keys; a backup or restore must end before they do"
            ' (longer ones: "assume_role_kwargs": {"DurationSeconds": 43200} in its extra)',
            conn_id,
        )
    else:
        variables["AWS_SESSION_TOKEN"] = ""  # not one left over in the environment
    return variables, repository


def _of_type(found: str | None, expected: str, conn_id: str) -> None:
    if found != expected:
        raise ConfigError(
            "bad-connection",
            f"Airflow connection {conn_id!r}",
            found=f"type {found!r}",
            expected=f"type {expected!r}",
            hint="change its type, or name another connection in dr.toml",
        )


@contextmanager
def _explained(conn_id: str, kind: str, cluster: Cluster, key: str) -> Iterator[None]:
    """A connection that is missing, or a provider that is not installed, says which key of dr.toml
    wants it.
    """
    thing = f"Airflow connection {conn_id!r} ([clusters.{cluster.name}] {key})"
    try:
        yield
    except AirflowNotFoundException:
        raise ConfigError(
            "no-connection",
            thing,
            found="no such connection",
            expected=f"one of type {kind}",
            hint=(
                f"add it (Admin > Connections, or AIRFLOW_CONN_{conn_id.upper()}), or correct {key}"
                " in dr.toml"
            ),
        ) from None
    except ImportError as error:
        raise ConfigError(
            "no-provider",
            thing,
            found=f"{error}",
            expected=f"Airflow's provider for {kind}",
            hint="pip install 'pgdrill[airflow]'",
        ) from None
    except AirflowException as error:
        raise ConfigError(
            "bad-connection",
            thing,
            found=f"{error}",
            expected="a connection that can be used",
            hint="correct the connection",
        ) from None
