"""What only wal-g's last words mean."""

from __future__ import annotations

import re

from pgdrill.errors import CouldNotVerify
from pgdrill.repository.tools.failure import Failure

NO_LIBSODIUM_HINT = (
    "install a wal-g that was built with libsodium, as its releases are; or encrypt with a PGP key"
    " (WALG_PGP_KEY_PATH), which every wal-g can"
)
NO_BROTLI_HINT = (
    "set repository.compression to lz4 or zstd; or install a wal-g that was built with brotli, as"
    " its releases are"
)
FAILURES = (
    Failure(
        # one that was built from its sources has no libsodium, unless the build was told to
        re.compile(r"wal-g was not compiled with libsodium"),
        CouldNotVerify,
        "no-libsodium",
        "a wal-g that can encrypt with WALG_LIBSODIUM_KEY",
        NO_LIBSODIUM_HINT,
    ),
    Failure(
        re.compile(r"Unknown compression method"),  # brotli, in a build without it
        CouldNotVerify,
        "no-compression",
        "a compression method that this wal-g has",
        NO_BROTLI_HINT,
    ),
    Failure(
        re.compile(r"encryption error|can't configure crypter"),
        CouldNotVerify,
        "no-key",
        "the key that encrypts and decrypts",
        "put the key where WALG_PGP_KEY_PATH (or WALG_LIBSODIUM_KEY_PATH) says, readable for this"
        " user",
    ),
    Failure(
        re.compile(r"jsontext: invalid UTF-8"),
        CouldNotVerify,
        "name-not-utf8",
        "names of databases and tables in UTF-8, for wal-g's list of files",
        "rename what is named otherwise (in a database in SQL_ASCII, or behind a pooler), or set"
        " WALG_WITHOUT_FILES_METADATA=true",
    ),
)


def crashed_when_refused(output: str) -> bool:
    """Return whether the output is of a crash upon the store's refusal to delete (3.0.8)."""
    return "DeleteObjects" in output and "SIGSEGV" in output
