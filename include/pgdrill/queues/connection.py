"""Connections to a queue's server, and what its refusals mean."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import redis
from redis import exceptions as failed
from redis.backoff import NoBackoff
from redis.retry import Retry

from pgdrill.errors import CouldNotVerify, Gone, Refused, Unreachable
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.address import Address

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
# What it answers is bytes where nothing is decoded, which its own types do not know.
Client = Any
ONCE = Retry(NoBackoff(), 0)  # whether to try again is the job's to say


def connect(access: QueueAccess, address: Address, database: int = 0) -> Client:
    """Return a client of the server at an address. Nothing is decoded: keys may be any bytes."""
    queue = access.queue
    words: dict[str, Any] = {
        "db": database,
        "username": access.username or None,
        "password": access.password or None,
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "client_name": "pgdrill",
        "retry": ONCE,
        "protocol": 2,
    }
    if address.is_socket:
        return redis.Redis(unix_socket_path=address.host, **words)
    if access.tls:
        words |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": queue.tls_ca_file or None,
            "ssl_certfile": queue.tls_cert_file or None,
            "ssl_keyfile": queue.tls_key_file or None,
        }
    return redis.Redis(host=address.host, port=address.port, **words)


def sentinel(access: QueueAccess, address: Address) -> Client:
    """Return a client of a Sentinel."""
    name = access.queue.sentinel_password_variable
    words: dict[str, Any] = {"ssl": True} if access.tls else {}
    if access.tls and access.queue.tls_ca_file:
        words["ssl_ca_certs"] = access.queue.tls_ca_file
    return redis.Redis(
        host=address.host,
        port=address.port,
        password=(os.environ.get(name) or None) if name else None,
        socket_timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=ONCE,
        protocol=2,
        **words,
    )


def cli_words(access: QueueAccess, address: Address) -> tuple[list[str], dict[str, str]]:
    """Return redis-cli's arguments for an address, and the environment with the password."""
    words = (
        ["-s", address.host] if address.is_socket else ["-h", address.host, "-p", str(address.port)]
    )
    if access.username:
        words += ["--user", access.username]
    queue = access.queue
    if access.tls and not address.is_socket:
        words.append("--tls")
        for option, value in (
            ("--cacert", queue.tls_ca_file),
            ("--cert", queue.tls_cert_file),
            ("--key", queue.tls_key_file),
        ):
            words += [option, value] if value else []
    return words, {"REDISCLI_AUTH": access.password} if access.password else {}


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise what the server, or the way to it, refuses in this block in words."""
    try:
        yield
    except failed.RedisError as error:
        raise _in_words(what, error) from None


# What a server says, or the way to it: whose error, reason, what was expected, and the hint. The
# first whose words or class fit.
ANSWERS: tuple[tuple[str, type[Exception], type[CouldNotVerify], str, str, str], ...] = (
    (
        "without any password configured",
        failed.RedisError,
        Refused,
        "login-refused",
        "a server that wants the password that is given",
        "take the password away where it has none; a Sentinel, which is no server, is named as"
        ' sentinels = ["HOST:PORT"], with sentinel_master',
    ),
    (
        r"NOAUTH|WRONGPASS|invalid (username-)?password",
        failed.AuthenticationError,
        Refused,
        "login-refused",
        "a login",
        "correct the user or the password: the Airflow connection that conn_id names, or the"
        " variable that password_variable names (REDISCLI_AUTH), where this job runs",
    ),
    (
        "NOPERM",
        failed.NoPermissionError,
        Refused,
        "no-right",
        "a user with the rights for it",
        "give the user what docs/how-to/queues.md lists (ACL SETUSER)",
    ),
    (
        "^LOADING",
        failed.BusyLoadingError,
        Unreachable,
        "server-loading",
        "a server that has loaded its data",
        "try again in a while",
    ),
    (
        "(?i)refused|no such file",
        failed.ConnectionError,
        Gone,
        "server-unreachable",
        "a connection",
        "check that it runs, its host and port, and whether it wants TLS (tls = true)",
    ),
)


def _in_words(what: str, error: failed.RedisError) -> CouldNotVerify:
    said = " ".join(str(error).split())[:300] or type(error).__name__
    for words, kind, ours, reason, expected, hint in ANSWERS:
        fits, made = re.search(words, said), ours
        if kind is failed.ConnectionError:
            if not isinstance(error, failed.ConnectionError | failed.TimeoutError):
                continue
            made = ours if fits else Unreachable
        elif not fits and (kind is failed.RedisError or not isinstance(error, kind)):
            continue
        return made(reason, what, found=said, expected=expected, hint=hint)
    return CouldNotVerify(
        "server-refused",
        what,
        found=said,
        expected="an answer",
        hint="see the server's log; docs/how-to/queues.md lists what its user has to be let",
    )
