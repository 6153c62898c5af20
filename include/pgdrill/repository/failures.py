"""The fault behind a tool's failure, told from its last words."""

from __future__ import annotations

import re

from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError, TimedOut, Unreachable
from pgdrill.host.process import Completed, ProcessTimeout
from pgdrill.repository.object_store import KEYS_HINT

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
# A refusal of a path, and not of a right of a database's role: in Python's words (barman-cloud) and
# in Go's (wal-g).
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
# a wal-g that was built from its sources has no libsodium, unless the build was told to
NO_LIBSODIUM = re.compile(r"wal-g was not compiled with libsodium")
NO_COMPRESSION = re.compile(r"Unknown compression method")  # brotli, in a build without it
NO_KEY = re.compile(r"encryption error|can't configure crypter")
NAMES = re.compile(r"jsontext: invalid UTF-8")
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
NO_LIBSODIUM_HINT = (
    "install a wal-g that was built with libsodium, as its releases are; or encrypt with a PGP key"
    " (WALG_PGP_KEY_PATH), which every wal-g can"
)
NO_BROTLI_HINT = (
    "set repository.compression to lz4 or zstd; or install a wal-g that was built with brotli, as"
    " its releases are"
)
# The meaning of the tool's last words: pattern, whose fault, reason, what was expected, the hint.
# The first that fits counts.
FAILURES: tuple[tuple[re.Pattern[str], type[PgdrillError], str, str, str], ...] = (
    (
        SPACE,
        CouldNotVerify,
        "no-space",
        "room on the disk",
        "make room, or set drill.work_directory to a larger disk",
    ),
    (
        NO_LIBSODIUM,
        CouldNotVerify,
        "no-libsodium",
        "a wal-g that can encrypt with WALG_LIBSODIUM_KEY",
        NO_LIBSODIUM_HINT,
    ),
    (
        NO_COMPRESSION,
        CouldNotVerify,
        "no-compression",
        "a compression method that this wal-g has",
        NO_BROTLI_HINT,
    ),
    (
        NO_KEY,
        CouldNotVerify,
        "no-key",
        "the key that encrypts and decrypts",
        (
            "put the key where WALG_PGP_KEY_PATH (or WALG_LIBSODIUM_KEY_PATH) says, readable for"
            " this user"
        ),
    ),
    (
        NAMES,
        CouldNotVerify,
        "name-not-utf8",
        "names of databases and tables in UTF-8, for wal-g's list of files",
        (
            "rename what is named otherwise (in a database in SQL_ASCII, or behind a pooler), or"
            " set WALG_WITHOUT_FILES_METADATA=true"
        ),
    ),
    (
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
    (
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
    (
        RIGHTS,
        CouldNotVerify,
        "permission",
        "the rights the README lists",
        (
            "grant them to pgdrill's role, in the database it connects to (rights on functions are"
            " per database)"
        ),
    ),
    (
        LOGIN,
        CouldNotVerify,
        "server-refused",
        "the tool let into the server as pgdrill is",
        LIKE_OURS,
    ),
    (
        SERVER_GONE,
        Unreachable,
        "server-unreachable",
        "the server that answered pgdrill a moment ago",
        "check that it runs, then try again",
    ),
    (
        NOT_CONNECTED,
        CouldNotVerify,
        "server-refused",
        "the tool let into the server as pgdrill is",
        LIKE_OURS,
    ),
    (NO_KEYS, CouldNotVerify, "no-keys", "permission to read", KEYS_HINT),
    (
        REFUSED,
        CouldNotVerify,
        "storage-refused",
        "permission to read",
        "check the keys (Airflow connection or AWS_… variables) and the bucket's policy",
    ),
    (
        NETWORK,
        Unreachable,
        "storage-unreachable",
        "an answer from the store",
        "check endpoint and network, then try again",
    ),
    (
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


def tool_failure(what: str, done: Completed) -> PgdrillError:
    """Return the error for a tool that gave up.

    What is not recognized is nobody's proven fault: could not verify.
    """
    text = "\n".join(done.last_lines)
    for pattern, fault, reason, expected, hint in FAILURES:
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
