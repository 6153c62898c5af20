"""The fault behind a tool's failure, told from its last words."""

from __future__ import annotations

import functools
import re
from pkgutil import resolve_name

from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError, TimedOut, Unreachable
from pgdrill.host.process import Completed, ProcessTimeout
from pgdrill.repository.object_store import KEYS_HINT
from pgdrill.repository.tools.failure import Failure
from pgdrill.tool_facts import TOOLS

SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
REFUSED = re.compile(
    r"(status code: |\()40[13]\b|forbidden|access ?denied|invalidaccesskeyid|signaturedoesnotmatch",
    re.IGNORECASE,
)
NETWORK = re.compile(
    r"connection refused|no such host|dial tcp|(?<!statement )(?<!lock )(?<!session"
    r" )(?<!transaction )timed? ?out|could not connect|connection reset|broken pipe|"
    r"EndpointConnectionError|RequestError|(status code:"
    r" |\()50[0234]\b|ServiceUnavailable|SlowDown|name resolution|"
    r"connection was closed|IncompleteRead|bytes? expected is",
    re.IGNORECASE,
)
NO_KEYS = re.compile(
    r"NoCredentialProviders|Unable to locate credentials|PartialCredentials|no (EC2 )?IMDS role",
    re.IGNORECASE,
)
# A refusal of a path, and not of a right of a database's role: in Python's words and in Go's.
NOT_WRITABLE = re.compile(
    r"\[Errno (1|13|30)\]|"
    r"\b(open|mkdir|symlink|link|rename|remove|unlink|chmod|chown|lchown|chtimes|truncate)"
    r" /\S*( /\S*)?: "
    r"(permission denied|operation not permitted|read-only file system)",
    re.IGNORECASE,
)
# The tool's words about the server that it backs up: its driver's, or the server's own.
CANCELLED = re.compile(
    r"SQLSTATE (57014|25P0[34]|57P05)|due to"
    r" (statement|idle-session|idle-in-transaction|transaction|lock) timeout|"
    r"canceling statement due to|terminating connection due to|backup is not in progress",
    re.IGNORECASE,
)
LOGIN = re.compile(r"SQLSTATE (28...|3D000|53300)|server: FATAL|pg_hba\.conf", re.IGNORECASE)
NOT_CONNECTED = re.compile(
    r"postgres connection failed|failed to connect to `|psycopg2\.OperationalError|Cannot connect"
    r" to postgres",
    re.IGNORECASE,
)
SERVER_GONE = re.compile(
    r"(failed to connect to `|psycopg2\.OperationalError|Cannot connect to postgres).*"
    r"(connection refused|no such host|no such file|timed? ?out|timeout expired|connection reset)",
    re.IGNORECASE,
)
RIGHTS = re.compile(r"permission denied|must be superuser|authentication failed", re.IGNORECASE)
CORRUPT = re.compile(
    r"unexpected EOF|bad magic|lz4: |LZ4F_|while decompressing|checksum|corrupt|invalid header|not"
    r" a gzip|invalid tar|truncated|unexpected end of|"
    r"CRC check failed|incorrect (data|header) check|(backup|object|key)\b.*does not"
    r" exist|NoSuchKey",
    re.IGNORECASE,
)

LIKE_OURS = (
    "it gets the words of pgdrill's own connection: look for what its driver cannot do (GSS,"
    " channel binding, a key with a passphrase), and at pg_hba.conf"
)
# The meaning of any tool's last words. The first that fits counts; what only one tool says comes
# before them (:func:`_all_failures`).
NO_SPACE = Failure(
    SPACE,
    CouldNotVerify,
    "no-space",
    "room on the disk",
    "make room, or set drill.work_directory to a larger disk",
)
FAILURES = (
    Failure(
        CANCELLED,
        CouldNotVerify,
        "server-cancelled",
        "a session on the server that lasts as long as the backup",
        (
            "see in the server's log who ended it; where a pooler keeps pgdrill from setting it for"
            " itself, `ALTER ROLE pgdrill SET statement_timeout = 0` for server.dsn's role (and"
            " idle_session_timeout, transaction_timeout)"
        ),
    ),
    Failure(
        NOT_WRITABLE,
        CouldNotVerify,
        "not-writable",
        "files that it may write, or read",
        (
            "while a backup is unpacked the tool can write in the drill's folder alone: a path"
            " elsewhere is led to by the archive, so see who writes into the bucket and choose"
            " another backup; a path in drill.work_directory or in the data directory has to be"
            " this user's"
        ),
    ),
    Failure(
        RIGHTS,
        CouldNotVerify,
        "permission",
        "the rights the README lists",
        (
            "grant them to pgdrill's role, in the database it connects to (rights on functions are"
            " per database)"
        ),
    ),
    Failure(
        LOGIN,
        CouldNotVerify,
        "server-refused",
        "the tool let into the server as pgdrill is",
        LIKE_OURS,
    ),
    Failure(
        SERVER_GONE,
        Unreachable,
        "server-unreachable",
        "the server that answered pgdrill a moment ago",
        "check that it runs, then try again",
    ),
    Failure(
        NOT_CONNECTED,
        CouldNotVerify,
        "server-refused",
        "the tool let into the server as pgdrill is",
        LIKE_OURS,
    ),
    Failure(NO_KEYS, CouldNotVerify, "no-keys", "permission to read", KEYS_HINT),
    Failure(
        REFUSED,
        CouldNotVerify,
        "storage-refused",
        "permission to read",
        "check the keys (Airflow connection or AWS_… variables) and the bucket's policy",
    ),
    Failure(
        NETWORK,
        Unreachable,
        "storage-unreachable",
        "an answer from the store",
        "check endpoint and network, then try again",
    ),
    Failure(
        CORRUPT,
        BackupFault,
        "corrupt-part",
        "parts that unpack",
        "choose another backup; find out what changes the bucket; take a new base backup",
    ),
)

NOT_THERE = re.compile(r"\(404\)|status code: 404|NoSuchKey", re.IGNORECASE)


def says_absent(done: Completed, absent_code: int) -> bool:
    """Return whether a tool that fetches one file says that there is none.

    It says so by its code for that, or with the store's own words.
    """
    return done.code == absent_code or (
        done.code != 0 and bool(NOT_THERE.search("\n".join(done.last_lines)))
    )


@functools.cache
def _all_failures() -> tuple[Failure, ...]:
    named = (facts.failures for facts in TOOLS.values() if facts.failures)
    return (NO_SPACE, *(row for name in named for row in resolve_name(name)), *FAILURES)


def tool_failure(what: str, done: Completed) -> PgdrillError:
    """Return the error for a tool that gave up.

    What is not recognized is nobody's proven fault: could not verify.
    """
    text = "\n".join(done.last_lines)
    for pattern, fault, reason, expected, hint in _all_failures():
        if pattern.search(text):
            return fault(reason, what, found=done.ended, expected=expected, hint=hint)
    return CouldNotVerify(
        "tool-failed",
        what,
        found=done.ended,
        expected="exit code 0",
        hint="read the task's log above this line",
    )


def tool_timeout(what: str, error: ProcessTimeout, expected: str, hint: str) -> PgdrillError:
    """Return the error for a tool that had to be ended.

    It is the store's fault where the tool said so, or nothing came or went any more.
    """
    if NETWORK.search("\n".join(error.last_lines)):
        return Unreachable(
            "storage-unreachable",
            what,
            found=str(error),
            expected="an answer from the store",
            hint="check endpoint and network, then try again",
        )
    if error.stalled:
        return Unreachable("storage-stalled", what, found=str(error), expected=expected, hint=hint)
    return TimedOut("timeout", what, found=str(error), expected=expected, hint=hint)
