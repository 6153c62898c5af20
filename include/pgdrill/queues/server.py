"""A queue's server as it describes itself, and which one to copy: a replica where one keeps up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis import exceptions as failed

from pgdrill.errors import ConfigError, CouldNotVerify, Momentary, PgdrillError
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.address import Address
from pgdrill.queues.connection import Client, connect, explained, sentinel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What ``INFO`` says of a server. ``mode``: standalone, cluster or sentinel."""

    product: str  # redis, valkey
    version: str
    mode: str
    role: str
    info: dict[str, Any]

    @property
    def major(self) -> int:
        """The major version."""
        return major_of(self.version)

    @property
    def databases(self) -> tuple[int, ...]:
        """The numbers of the databases that hold keys."""
        return tuple(
            sorted(
                int(name[2:]) for name in self.info if name.startswith("db") and name[2:].isdigit()
            )
        )

    @property
    def keys(self) -> int:
        """The number of keys in all databases."""
        return sum(int(self.info[f"db{number}"]["keys"]) for number in self.databases)

    @property
    def keys_with_end(self) -> int:
        """The number of keys that expire, in all databases."""
        return sum(int(self.info[f"db{number}"]["expires"]) for number in self.databases)

    def number(self, name: str) -> int:
        """Return a number of INFO; 0 where the server does not tell it."""
        value = self.info.get(name, 0)
        return int(value) if isinstance(value, int | float) else 0


def major_of(version: str) -> int:
    """Return the major number of a version; 0 where it has none."""
    first = version.partition(".")[0]
    return int(first) if first.isdigit() else 0


def read_facts(client: Client) -> ServerFacts:
    """Read what a server says of itself."""
    info: dict[str, Any] = client.info("all")
    if info.get("server_name") == "valkey":
        product, version = "valkey", str(info.get("valkey_version", ""))
    else:
        product, version = "redis", str(info.get("redis_version", ""))
    return ServerFacts(
        product,
        version,
        str(info.get("redis_mode", "standalone")),
        str(info.get("role", "master")),
        info,
    )


def check_kind(facts: ServerFacts, address: Address, name: str) -> None:
    """Raise ConfigError for a Redis Cluster, and for a Sentinel in the place of a server."""
    if facts.mode == "cluster" or facts.number("cluster_enabled"):
        raise ConfigError(
            "redis-cluster",
            f"server of queue {name}, {address}",
            found="a node of a Redis Cluster, which holds some of the keys",
            expected="a single server, with replicas if you like",
            hint="give the queues a server of their own; several nodes have no common instant,"
            " and BullMQ needs each queue on one of them anyway",
        )
    if facts.mode == "sentinel":
        raise ConfigError(
            "sentinel",
            f"server of queue {name}, {address}",
            found="a Sentinel, which knows the servers and holds no key",
            expected="a server",
            hint=f'name it in [queues.{name}] as sentinels = ["{address}"], with sentinel_master:'
            " it is asked for a replica then",
        )


@dataclass(frozen=True, slots=True)
class Source:
    """The server to copy, and why it is this one."""

    address: Address
    facts: ServerFacts
    note: str = ""


def choose_source(access: QueueAccess) -> Source:
    """Return the server to copy: a replica that keeps up where there is one, else the primary.

    A configured server that is a replica itself has to keep up.
    """
    first = _asked_of_sentinels(access) if access.queue.sentinels else (access.address,)
    primary = None
    for address in first:
        facts = look(access, address)
        if facts.role == "master":
            primary = Source(address, facts)
        elif why := behind(facts, access.queue.replica_lag_seconds):
            if len(first) == 1:
                raise _lags(access, address, why)
            logger.warning("replica %s is passed over: %s", address, why)
        else:
            return Source(address, facts, "a replica")
    if primary is None:
        raise _lags(access, first[0], "none of the servers that Sentinel knows can be copied")
    return _one_of_its_replicas(access, primary) if access.queue.from_replica else primary


def _one_of_its_replicas(access: QueueAccess, primary: Source) -> Source:
    """Return a replica that the primary knows and that is reached from here, else the primary."""
    notes = []
    run = primary.facts.info.get("master_replid")
    for address in _replicas(primary.facts):
        try:
            facts = look(access, address)
        except PgdrillError as error:
            notes.append(f"{address}: {error.problem.found}")
            continue
        if why := behind(facts, access.queue.replica_lag_seconds):
            notes.append(f"{address}: {why}")
        elif facts.info.get("master_replid") != run:
            notes.append(f"{address}: a replica of another server")
        else:
            return Source(address, facts, "a replica")
    note = f"the primary; no replica could be copied ({'; '.join(notes)})" if notes else ""
    return Source(primary.address, primary.facts, note or "the primary: it has no replica")


def look(access: QueueAccess, address: Address) -> ServerFacts:
    """Connect, and read what kind of server it is. Raises where it cannot be copied or reached."""
    with explained(f"server of queue {access.name}, {address}"), connect(access, address) as client:
        facts = read_facts(client)
    check_kind(facts, address, access.name)
    return facts


def behind(facts: ServerFacts, most_seconds: float) -> str:
    """Return why a replica is not as new as its primary; empty where it keeps up."""
    if facts.role == "master":
        return "it is a primary by now"
    link = str(facts.info.get("master_link_status", "down"))
    if link != "up":
        seconds = facts.number("master_link_down_since_seconds")
        return f"its link to the primary is {link}, for {seconds} s"
    if facts.number("master_sync_in_progress"):
        return "it is being synchronized"
    silent = facts.number("master_last_io_seconds_ago")
    return f"it has heard nothing from its primary for {silent} s" if silent > most_seconds else ""


def _lags(access: QueueAccess, address: Address, why: str) -> CouldNotVerify:
    return Momentary(
        "replica-behind",
        f"replica of queue {access.name}, {address}",
        found=why,
        expected=f"a replica within {access.queue.replica_lag_seconds:g} s of its primary",
        hint="mend its replication (INFO replication there), or name the primary in"
        f" queues.{access.name}.host",
    )


def _replicas(facts: ServerFacts) -> Iterator[Address]:
    """Yield the replicas that a primary knows, those that are online."""
    for name in sorted(facts.info):
        one = facts.info[name]
        if name.startswith("slave") and isinstance(one, dict) and one.get("state") == "online":
            yield Address(str(one["ip"]), int(one["port"]))


def _asked_of_sentinels(access: QueueAccess) -> tuple[Address, ...]:
    """Return the replicas that a Sentinel holds for well, then the primary."""
    name, troubles = access.queue.sentinel_master, []
    for text in access.queue.sentinels:
        address = Address.parse(text)
        client = sentinel(access, address)
        try:
            known = client.execute_command("SENTINEL", "REPLICAS", name)
            primary = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        except failed.RedisError as error:
            troubles.append(f"{address}: {error}")
            continue
        finally:
            client.close()
        replicas = [_address(one) for one in map(_as_words, known) if _well(one)]
        found = tuple(replicas) if access.queue.from_replica else ()
        host, port = (_text(one) for one in primary)
        return (*found, Address(host, int(port)))
    raise CouldNotVerify(
        "no-sentinel",
        f"Sentinels of queue {access.name}",
        found="; ".join(troubles)[:500],
        expected=f"one that knows {name!r}",
        hint="check sentinels, sentinel_master and sentinel_password_variable",
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _as_words(one: Any) -> dict[str, str]:
    if isinstance(one, dict):
        return {_text(key): _text(value) for key, value in one.items()}
    flat = [_text(word) for word in one]
    return dict(zip(flat[::2], flat[1::2], strict=False))


def _well(one: dict[str, str]) -> bool:
    flags = set(one.get("flags", "").split(","))
    return (
        not flags & {"s_down", "o_down", "disconnected"} and one.get("master-link-status") == "ok"
    )


def _address(one: dict[str, str]) -> Address:
    return Address(one["ip"], int(one["port"]))
