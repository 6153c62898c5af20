"""The process that fetches ahead for a drill, and its order for a planned restore."""

from __future__ import annotations

import os
from pathlib import Path

from pgdrill.access import Access
from pgdrill.host.priority import low_priority_words
from pgdrill.recovery.preflight import Plan
from pgdrill.recovery.wal_prefetch.client import Places, WalAhead
from pgdrill.recovery.wal_prefetch.order import Order, ToolWords
from pgdrill.recovery.workspace import Workspace

SUFFIXES = {"lz4": ".lz4", "zstd": ".zst", "brotli": ".br", "gzip": ".gz", "none": ""}


def wal_ahead(access: Access, workspace: Workspace, *, owner: int | None = None) -> WalAhead:
    """Return the prefetcher of WAL for a drill, not yet started.

    ``owner``: the user the restored server runs as, if that is another one.
    """
    places = Places(
        workspace.spool,
        workspace.incoming,
        workspace.configuration / "spool.sh",
        workspace.wal_pid_file,
    )
    return WalAhead(
        places,
        {**access.environment, **access.tool.wal_environment(workspace.home)},
        settle_seconds=access.cluster.drill.stall_seconds,
        owner=owner,
        before=low_priority_words(access.cluster.drill.priority),
    )


def order_for(
    access: Access, workspace: Workspace, plan: Plan, segment_bytes: int, *, sparse: bool = True
) -> Order:
    """Return the order for a planned restore: what is to be fetched, from where, how far ahead.

    ``sparse`` is for clusters that are thrown away: a server that recycles a segment with a hole
    finds out late that its disk is full.
    """
    tool, where, drill = access.tool, access.cluster.repository, access.cluster.drill
    alone = drill.wal_fetch == "tool"  # one by one, each when recovery asks for it
    access.repository.equip(workspace.home, plan.backup)
    keys = access.repository.wal_keys
    bulk = tool.wal_bulk(segment_bytes)
    words = ToolWords(
        tool.name,
        tool.wal_fetch(),
        tool.wal_absent_code,
        tool.exit_codes,
        tool.one_wal_environment(Path("{into}")),
        bulk.argv,
        bulk.environment,
        bulk.folder,
    )
    return Order(
        spool=str(workspace.spool),
        incoming=str(workspace.incoming),
        url=where.url,
        endpoint_url=where.endpoint_url,
        region=where.region,
        keys=keys,
        names=tool.archived_name.pattern,
        suffix=SUFFIXES[where.compression or tool.default_compression],
        readable=not alone and not tool.encrypts({**os.environ, **tool.environment()}),
        tool=words,
        system_identifier=plan.backup.system_identifier,
        major_version=plan.backup.major_version,
        segment_bytes=segment_bytes,
        start_lsn=plan.backup.start_lsn,
        stop_lsn=plan.stop_lsn,
        timeline=plan.timeline,
        history=plan.history,
        ahead_segments=0 if alone else drill.wal_spool_segments,
        tool_sample=drill.wal_tool_sample,
        sparse=sparse,
    )
