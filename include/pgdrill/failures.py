"""Whose fault it was when a tool failed, told from its last words."""

from __future__ import annotations

import re

from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError, TimedOut, Unreachable
from pgdrill.process import Completed, ProcessTimeout
from pgdrill.storage import KEYS_MEND

SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
REFUSED = re.compile(r"(status code: |\()40[13]\b|forbidden|access ?denied|invalidaccesskeyid|signaturedoesnotmatch", re.IGNORECASE)
NETWORK = re.compile(
    r"connection refused|no such host|dial tcp|timed? ?out|could not connect|connection reset|broken pipe|"
    r"EndpointConnectionError|RequestError|(status code: |\()50[0234]\b|ServiceUnavailable|SlowDown|name resolution|"
    r"connection was closed|IncompleteRead|bytes? expected is",
    re.IGNORECASE,
)
NO_KEYS = re.compile(r"NoCredentialProviders|Unable to locate credentials|PartialCredentials|no (EC2 )?IMDS role", re.IGNORECASE)
# Of a path, and no right of a database's role: as Python says it (barman-cloud), as Go does (wal-g).
NOT_WRITABLE = re.compile(
    r"\[Errno (1|13|30)\]|\b(open|mkdir|symlink|link|rename|remove|unlink|chmod|chown|lchown|chtimes|truncate) /\S*( /\S*)?: "
    r"(permission denied|operation not permitted|read-only file system)", re.IGNORECASE,
)  # fmt: skip
RIGHTS = re.compile(r"permission denied|must be superuser|authentication failed", re.IGNORECASE)
CORRUPT = re.compile(
    r"unexpected EOF|bad magic|lz4: |LZ4F_|while decompressing|checksum|corrupt|invalid header|not a gzip|invalid tar|truncated|unexpected end of|"
    r"CRC check failed|incorrect (data|header) check|(backup|object|key)\b.*does not exist|NoSuchKey",
    re.IGNORECASE,
)


NOT_THERE = re.compile(r"\(404\)|status code: 404|NoSuchKey", re.IGNORECASE)


def says_absent(done: Completed, absent_code: int) -> bool:
    """Whether a tool that fetches one file says that there is none: by its code for that, or with the store's own words."""
    return done.code == absent_code or (done.code != 0 and bool(NOT_THERE.search("\n".join(done.last_lines))))


def tool_failure(what: str, done: Completed) -> PgdrillError:
    """The error for a tool that gave up; what is not recognized is nobody's proven fault: could not verify."""
    text = "\n".join(done.last_lines)
    if SPACE.search(text):
        return CouldNotVerify(
            "no-space", what, found=done.ended, expected="room on the disk",
            mend="make room, or set drill.work_directory to a larger disk",
        )  # fmt: skip
    if REFUSED.search(text) or NO_KEYS.search(text):
        none = NO_KEYS.search(text)
        return CouldNotVerify(
            "no-keys" if none else "storage-refused", what, found=done.ended, expected="permission to read",
            mend=KEYS_MEND if none else "check the keys (Airflow connection or AWS_… variables) and the bucket's policy",
        )  # fmt: skip
    if NOT_WRITABLE.search(text) or RIGHTS.search(text):
        return _not_allowed(what, done, of_a_path=bool(NOT_WRITABLE.search(text)))
    if NETWORK.search(text):
        return Unreachable(
            "storage-unreachable", what, found=done.ended, expected="an answer from the store",
            mend="check endpoint and network, then try again",
        )  # fmt: skip
    if CORRUPT.search(text):
        return BackupFault(
            "corrupt-part", what, found=done.ended, expected="parts that unpack",
            mend="choose another backup; find out what changes the bucket; take a new base backup",
        )  # fmt: skip
    return CouldNotVerify(
        "tool-failed", what, found=done.ended, expected="exit code 0", mend="read the task's log above this line"
    )


def _not_allowed(what: str, done: Completed, *, of_a_path: bool) -> CouldNotVerify:
    if of_a_path:
        return CouldNotVerify(
            "not-writable", what, found=done.ended, expected="files that it may write, or read",
            mend="while a backup is unpacked the tool can write in the drill's folder alone: a path elsewhere is led to by the archive, so see who "
            "writes into the bucket and choose another backup; a path in drill.work_directory or in the data directory has to be this user's",
        )  # fmt: skip
    return CouldNotVerify(
        "permission", what, found=done.ended, expected="the rights the README lists",
        mend="grant them to pgdrill's role, in the database it connects to (rights on functions are per database)",
    )


def tool_timeout(what: str, error: ProcessTimeout, expected: str, mend: str) -> PgdrillError:
    """The error for a tool that had to be ended: the store's fault where the tool said so or nothing came or went any more."""
    if NETWORK.search("\n".join(error.last_lines)):
        return Unreachable("storage-unreachable", what, found=str(error), expected="an answer from the store",
                           mend="check endpoint and network, then try again")  # fmt: skip
    if error.stalled:
        return Unreachable("storage-stalled", what, found=str(error), expected=expected, mend=mend)
    return TimedOut("timeout", what, found=str(error), expected=expected, mend=mend)
