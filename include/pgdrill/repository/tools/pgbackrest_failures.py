"""What only pgBackRest's last words mean."""

from __future__ import annotations

import re

from pgdrill.errors import BackupFault, CouldNotVerify, Unreachable
from pgdrill.repository.tools.failure import Failure

FAILURES = (
    Failure(
        re.compile(r"do(es)? not match (the )?stanza|database version = .* does not match"),
        CouldNotVerify,
        "stanza-mismatch",
        "a stanza of this cluster and its major version",
        "after a pg_upgrade run `pgbackrest stanza-upgrade` with the variables that `pgdrill"
        " archive-command --environment` prints; else give the cluster a repository.url of its own",
    ),
    Failure(
        re.compile(r"unable to (load|open) .*(archive|backup)\.info"),
        CouldNotVerify,
        "no-stanza",
        "a stanza, which the first archived segment makes",
        "let archive_command be the line that `pgdrill archive-command` prints, then `SELECT"
        " pg_switch_wal()`",
    ),
    Failure(
        re.compile(r"unable to verify certificate|certificate verify failed|CryptoError.*cert"),
        CouldNotVerify,
        "storage-certificate",
        "a store whose certificate this host trusts",
        "name the certificate of its authority in SSL_CERT_FILE, for pgdrill and the server",
    ),
    Failure(
        re.compile(r"HostConnectError|unable to get address for|timeout connecting|unable to conn"),
        Unreachable,
        "storage-unreachable",
        "an answer from the store",
        "check endpoint and network, then try again",
    ),
    Failure(
        re.compile(
            r"decompressionFailed|unexpected eof in compressed|invalid checksum|FormatError|"
            r"actual checksum|checksum .* (expected|match)|inflate|(zst|gz|lz4) error|"
            r"unable to open missing file '[^']*/(bundle|pg_data|pg_tblspc)/|"
            r"unable to open missing file '[^']*backup\.manifest"
        ),
        BackupFault,
        "corrupt-part",
        "parts that unpack",
        "choose another backup; find out what changes the repository; take a new base backup",
    ),
    Failure(
        re.compile(r"duplicates found for WAL segment"),
        BackupFault,
        "wal-duplicate",
        "one object for each segment",
        "see which of them is production's, and delete the other",
    ),
)
