"""Whose fault it was, told from what the tools really print."""

from __future__ import annotations

import re

import pytest

from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError, TimedOut, Unreachable
from pgdrill.host.process import Command, Completed, ProcessTimeout
from pgdrill.repository.failures import tool_failure, tool_timeout
from pgdrill.repository.tools.walg import HOPELESS

SAID = [
    # wal-g 3.0.8
    (
        (
            "Extraction error in part_001.tar.lz4: lz4: invalid frame checksum: got 793e5720;"
            " expected c3dfce3f"
        ),
        BackupFault,
        "corrupt-part",
    ),
    ("Extraction error in part_001.tar.lz4: unexpected EOF", BackupFault, "corrupt-part"),
    (
        "Interpret failed: copy failed: lz4: invalid source or destination buffer too short",
        BackupFault,
        "corrupt-part",
    ),
    (
        (
            "Barman cloud restore exception: LZ4F_decompress failed with code:"
            " ERROR_decompressionFailed"
        ),
        BackupFault,
        "corrupt-part",
    ),
    (
        "Extraction error in part_001.tar.lz4: read tcp: connection reset by peer",
        Unreachable,
        "storage-unreachable",
    ),
    ("lz4: bad magic number", BackupFault, "corrupt-part"),
    ("write /restore/base/5/16744: no space left on device", CouldNotVerify, "no-space"),
    (
        "Extraction error in part_001.tar.lz4: unexpected EOF: write: no space left on device",
        CouldNotVerify,
        "no-space",
    ),
    (
        "ServiceUnavailable: Service Unavailable | status code: 503, request id: , host id:",
        Unreachable,
        "storage-unreachable",
    ),
    (
        (
            "RequestError: send request failed caused by: dial tcp 127.0.0.1:9: connect: connection"
            " refused"
        ),
        Unreachable,
        "storage-unreachable",
    ),
    (
        "read tcp 127.0.0.1:5->127.0.0.1:3: read: connection reset by peer",
        Unreachable,
        "storage-unreachable",
    ),
    ("dial tcp: lookup s3.example: no such host", Unreachable, "storage-unreachable"),
    ("Forbidden: Forbidden status code: 403, request id:", CouldNotVerify, "storage-refused"),
    (
        "InvalidAccessKeyId: The Access Key Id you provided does not exist",
        CouldNotVerify,
        "storage-refused",
    ),
    ("SignatureDoesNotMatch: The request signature …", CouldNotVerify, "storage-refused"),
    (
        (
            "pg_start_backup() failed: ERROR: permission denied for function pg_backup_start"
            " (SQLSTATE 42501)"
        ),
        CouldNotVerify,
        "permission",
    ),
    (
        "PermissionError: [Errno 13] Permission denied: '/home/ops/.ssh/authorized_keys'",
        CouldNotVerify,
        "not-writable",
    ),
    ("OSError: [Errno 30] Read-only file system: '/etc/x'", CouldNotVerify, "not-writable"),
    (
        "ERROR: 2026/01/01 failed to open file: open /home/ops/x: permission denied",
        CouldNotVerify,
        "not-writable",
    ),
    ("ERROR: symlink /a /home/ops/x: read-only file system", CouldNotVerify, "not-writable"),
    (
        (
            "can't configure crypter: non-empty WALG_LIBSODIUM_KEY_PATH but wal-g was not compiled"
            " with libsodium"
        ),
        CouldNotVerify,
        "no-libsodium",
    ),
    ("upload: encryption error open /srv/key: no such file or directory", CouldNotVerify, "no-key"),
    # barman-cloud 3.19.1
    (
        "An error occurred (403) when calling the HeadBucket operation: Forbidden",
        CouldNotVerify,
        "storage-refused",
    ),
    (
        "An error occurred (503) when calling the GetObject operation (reached max retries: 4)",
        Unreachable,
        "storage-unreachable",
    ),
    (
        'Could not connect to the endpoint URL: "http://127.0.0.1:9/backups"',
        Unreachable,
        "storage-unreachable",
    ),
    (
        'Connection was closed before we received a valid response from endpoint URL: "http://…"',
        Unreachable,
        "storage-unreachable",
    ),
    (
        "Barman cloud restore exception: 98816 read, but total bytes expected is 5762355.",
        Unreachable,
        "storage-unreachable",
    ),
    ("Barman cloud restore exception: unexpected end of data", BackupFault, "corrupt-part"),
    ("Error -3 while decompressing data: incorrect header check", BackupFault, "corrupt-part"),
    ("CRC check failed 0x1 != 0x2", BackupFault, "corrupt-part"),
    # Of the server that is backed up: no fault of the store
    (
        (
            "pg_start_backup() failed: ERROR: canceling statement due to statement timeout"
            " (SQLSTATE 57014)"
        ),
        CouldNotVerify,
        "server-cancelled",
    ),
    (
        (
            "stop backup failed: FATAL: terminating connection due to transaction timeout (SQLSTATE"
            " 25P04)"
        ),
        CouldNotVerify,
        "server-cancelled",
    ),
    (
        "StopBackup: stop backup failed: ERROR: backup is not in progress (SQLSTATE 55000)",
        CouldNotVerify,
        "server-cancelled",
    ),
    (
        (
            "Backup failed uploading data (pg_backup_start command: canceling statement due to"
            " statement timeout)"
        ),
        CouldNotVerify,
        "server-cancelled",
    ),
    (
        (
            "failed to connect to `user=pgdrill database=x`: server error: FATAL: no pg_hba.conf"
            " entry (SQLSTATE 28000)"
        ),
        CouldNotVerify,
        "server-refused",
    ),
    (
        (
            "failed to connect to `user=pgdrill database=x`: 127.0.0.1:5432: dial error: dial tcp"
            " 127.0.0.1:5432: connect: connection refused"
        ),
        Unreachable,
        "server-unreachable",
    ),
    (
        (
            'Cannot connect to postgres: connection to server at "db", port 5432 failed: FATAL:  no'
            " such thing"
        ),
        CouldNotVerify,
        "server-refused",
    ),
    (
        (
            'Cannot connect to postgres: connection to server at "db", port 5432 failed: Connection'
            " refused"
        ),
        Unreachable,
        "server-unreachable",
    ),
    (
        'sentinel: marshal: jsontext: invalid UTF-8 within "/DatabasesByNames/x/tables_new"',
        CouldNotVerify,
        "name-not-utf8",
    ),
    (
        "RequestError: send request failed caused by: read tcp 127.0.0.1: i/o timeout, timed out",
        Unreachable,
        "storage-unreachable",
    ),
    # Words that look like more than they are
    ('FATAL: role "pgdrill" does not exist', CouldNotVerify, "tool-failed"),
    ("INFO: 2026/11/23 23:47:19.500 uploaded 503 files in 401 s", CouldNotVerify, "tool-failed"),
    ("panic: runtime error: index out of range", CouldNotVerify, "tool-failed"),
    ("", CouldNotVerify, "tool-failed"),
]


@pytest.mark.parametrize(("line", "kind", "reason"), SAID)
def test_the_last_words_tell_whose_fault_it_was(
    line: str, kind: type[PgdrillError], reason: str
) -> None:
    error = tool_failure("fetching backup base_1", Completed(1, "", ("INFO: starting", line), 1.0))
    assert (type(error), error.problem.reason) == (kind, reason)
    assert error.problem.thing == "fetching backup base_1"
    assert error.problem.hint
    assert error.retryable == (kind is Unreachable)


def test_a_signal_is_named() -> None:
    assert "SIGKILL" in str(tool_failure("x", Completed(-9, "", (), 1.0)))


@pytest.mark.parametrize(
    ("line", "kind"),
    [("connection reset by peer", Unreachable), ("INFO: Finished part 3", TimedOut)],
)
def test_a_hang_after_a_network_error_is_the_networks(line: str, kind: type[PgdrillError]) -> None:
    error = tool_timeout(
        "x",
        ProcessTimeout(Command(("wal-g",)), 61, "moved no byte for 60 s", (line,)),
        "an end",
        "mend it",
    )
    assert type(error) is kind
    assert "60 s" in error.problem.found


@pytest.mark.parametrize(
    ("line", "hopeless"),
    [
        ("Extraction error in part_001.tar.lz4: lz4: invalid frame checksum", True),
        ("Extraction error in part_001.tar.lz4: unexpected EOF", True),
        ("Extraction error in part_001.tar.lz4: io: read/write on closed pipe", True),
        (
            (
                "Extraction error in part_001.tar.br: extractOne: tar extract failed: archive/tar:"
                " invalid tar header"
            ),
            True,
        ),
        ("Extraction error in part_001.tar.lz4: write: no space left on device", True),
        # worth another try
        ("Extraction error in part_001.tar.lz4: read tcp: connection reset by peer", False),
        ("Finished extraction of part_001.tar.lz4", False),
    ],
)
def test_only_what_no_patience_mends_is_given_up_at_once(line: str, hopeless: bool) -> None:
    assert bool(re.search(HOPELESS, line)) == hopeless
