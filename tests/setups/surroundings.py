"""What surrounds the commands on an ordinary host: folders, variables, limits, and odd paths."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

from tests.setups.host import BARE_PATH, Host
from tests.setups.servers import work
from tests.setups.setup import Answer, Setup
from tests.setups.signing import dsn

FAMILY = "the host's environment"
ODD = 'our drills\' 100% "ü" $HOME; x\\n'
ODD_HOME = "it's 50% ü"
LONG = "/".join(["{home}", *["a-rather-long-name-of-a-folder" * 3] * 3])
JUNK = ("config.py", "errors.py", "text.py", "access.py", "backup.py")


def _shell(script: str) -> tuple[str, ...]:
    """Words that prepare something and then become the command."""
    return ("sh", "-c", f'{script} && exec "$@"', "sh")


def _mounted(options: str, then: str = "true") -> tuple[str, ...]:
    """A file system of its own at ``{home}/tmp``, which only the command sees."""
    return (
        "unshare",
        "--mount",
        *_shell(f"mount -t tmpfs -o {options} tmpfs {{home}}/tmp && {then}"),
    )


@cache
def mounts() -> bool:
    """This user may mount a file system that nobody else sees."""
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        os.geteuid() == 0 and not subprocess.run(words, capture_output=True, check=False).returncode
    )


def _tmp(made: Host) -> None:
    (made.home / "tmp").mkdir(mode=0o777)


def _junk(made: Host) -> None:
    folder = made.user_home / "another project"
    folder.mkdir()
    for name in JUNK:
        (folder / name).write_text("raise RuntimeError('a module of another project')\n")


def _odd_data(made: Host) -> None:
    """PGDATA in a folder with an odd name, behind a link that the server was started by."""
    (made.home / ODD).mkdir(mode=0o700)
    shutil.move(made.home / "primary", made.home / ODD / "data")
    (made.home / "primary").symlink_to(made.home / ODD / "data")


TMP = {"TMPDIR": "{home}/tmp"}
GONE = "cd $(mktemp -d) && rmdir $PWD"
FULL = "size=64k"
LIBPQ = {
    "PGOPTIONS": "-c search_path=pg_temp -c default_transaction_read_only=on",
    "PGHOST": "db.example.com",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "9",
    "PGDATABASE": "nowhere",
    "PGTARGETSESSIONATTRS": "any",
    "PGAPPNAME": "somebody's",
    "PGGSSENCMODE": "disable",
    "PGDATA": "/nowhere",
}
SETUPS = (
    Setup(
        FAMILY,
        "TMPDIR on a file system that is full",
        before=_tmp,
        environment=TMP,
        within=_mounted(FULL, "{ head -c 1M /dev/zero > {home}/tmp/full 2> /dev/null; true; }"),
        here=mounts,
        dump=True,
    ),
    Setup(
        FAMILY,
        "TMPDIR on a file system that is mounted noexec",
        before=_tmp,
        environment=TMP,
        within=_mounted("noexec,nosuid,nodev"),
        here=mounts,
        dump=True,
    ),
    Setup(FAMILY, "TMPDIR that is not there", environment={"TMPDIR": "{home}/nowhere"}),
    Setup(
        FAMILY,
        "umask 077",
        within=_shell("umask 077"),
        config=work("{home}/var/lib/drills"),
        dump=True,
    ),
    Setup(
        FAMILY,
        "umask 000",
        within=_shell("umask 000"),
        config=work("{home}/var/lib/drills"),
        dump=True,
    ),
    Setup(
        FAMILY, "a working directory that is gone", within=_shell("cd $(mktemp -d) && rmdir $PWD")
    ),
    Setup(
        FAMILY,
        "a job of cron's (env -i, PATH=/usr/bin:/bin, no HOME, no LANG), the tool elsewhere",
        bare=True,
        red=("tool", "tool-variables"),
        answer=Answer("backup", "tool-missing", "wal-g", "repository.binary"),
        here=lambda: shutil.which("wal-g", path=BARE_PATH) is None,
    ),
    Setup(
        FAMILY,
        "a job of cron's (env -i, PATH=/usr/bin:/bin, no HOME, no LANG), repository.binary named",
        bare=True,
        config={"repository": {"binary": shutil.which("wal-g") or "wal-g"}},
        dump=True,
    ),
    Setup(
        FAMILY,
        "a job of cron's (env -i, PATH=/usr/bin:/bin, no HOME, no LANG)",
        "barman-cloud",
        bare=True,
    ),
    Setup(FAMILY, "HOME not set", environment={"HOME": None}),
    Setup(FAMILY, "HOME that is not there", environment={"HOME": "/nonexistent"}),
    Setup(
        FAMILY, "HOME that cannot be written", "barman-cloud", environment={"HOME": "/sys/kernel"}
    ),
    *(
        Setup(FAMILY, f"{name}={value}", environment={name: value}, dump=True)
        for name, value in (
            ("LC_ALL", "xx_XX.UTF-8"),
            ("LANG", "xx"),
            ("TZ", "Asia/Kathmandu"),
            ("TZ", "Nowhere/At_All"),
        )
    ),
    Setup(
        FAMILY,
        "nothing but ASCII (LC_ALL=C, PYTHONUTF8=0, PYTHONCOERCECLOCALE=0)",
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        config=work("{home}/ünser"),
        dump=True,
    ),
    Setup(
        FAMILY,
        "port 5433, and PGPORT of another server in the environment",
        port=5433,
        environment={"PGPORT": "5999"},
        dump=True,
    ),
    Setup(
        FAMILY,
        "a DSN without a port, and PGPORT of another server in the environment",
        config=dsn("host={home} dbname=agents"),
        environment={"PGPORT": "5999"},
        red=("login",),
        answer=Answer("backup", "server-unreachable", "5999", "PGPORT"),
    ),
    Setup(
        FAMILY,
        "libpq's variables of another server (PGHOST, PGHOSTADDR, PGPORT, PGDATABASE, PGOPTIONS)",
        environment=LIBPQ,
        config=dsn("host={home} hostaddr='' port=5432 dbname=agents"),
        dump=True,
    ),
    Setup(
        FAMILY,
        "PGHOSTADDR of another server in the environment",
        environment={"PGHOSTADDR": "127.0.0.1", "PGCONNECT_TIMEOUT": "5"},
        red=("login",),
        answer=Answer("backup", "server-unreachable", "127.0.0.1", "PGHOSTADDR"),
    ),
    Setup(
        FAMILY,
        "PGSERVICE in the environment, of a service that no file has",
        environment={"PGSERVICE": "prod"},
        red=("login",),
        answer=Answer("backup", "login-refused", "none of that name", "PGSERVICE"),
    ),
    Setup(
        FAMILY,
        "PGSSLMODE=verify-full, PGREQUIREAUTH and PGCHANNELBINDING in the environment",
        environment={
            "PGSSLMODE": "verify-full",
            "PGREQUIREAUTH": "scram-sha-256",
            "PGCHANNELBINDING": "prefer",
        },
        dump=True,
    ),
    Setup(
        FAMILY,
        "everything in a folder with spaces, quotes, a percent sign and no ASCII",
        folder=ODD_HOME,
        dump=True,
    ),
    Setup(
        FAMILY,
        "everything in a folder with spaces, quotes, a percent sign and no ASCII",
        "barman-cloud",
        folder=ODD_HOME,
    ),
    Setup(FAMILY, f"a work directory called {ODD}", config=work(f"{{home}}/{ODD}"), dump=True),
    Setup(
        FAMILY,
        f"a data directory called {ODD}",
        before=_odd_data,
        config={"server": {"data_directory": f"{{home}}/{ODD}/data"}},
    ),
    Setup(FAMILY, "a work directory with a name of 300 bytes", config=work(LONG), dump=True),
    Setup(FAMILY, "a work directory with a name of 300 bytes", "barman-cloud", config=work(LONG)),
    Setup(
        FAMILY,
        "PYTHONPATH with modules of another project",
        before=_junk,
        environment={"PYTHONPATH": "{home}/nowhere:{home}/user/another project:{include}"},
    ),
    Setup(FAMILY, "PYTHONWARNINGS=error", environment={"PYTHONWARNINGS": "error"}, dump=True),
    Setup(FAMILY, "PYTHONOPTIMIZE=2", environment={"PYTHONOPTIMIZE": "2"}, dump=True),
    Setup(
        FAMILY,
        "LD_PRELOAD of a library that is gone",
        environment={"LD_PRELOAD": "/usr/lib/libgone.so"},
        dump=True,
    ),
    Setup(
        FAMILY,
        "a proxy that nobody answers at (HTTP_PROXY), NO_PROXY without the store",
        environment={"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        red=("list",),
        answer=Answer("backup", "storage-unreachable", "127.0.0.1", "HTTP_PROXY"),
    ),
    Setup(
        FAMILY,
        "a proxy that nobody answers at (HTTP_PROXY), NO_PROXY with the store",
        environment={
            "HTTP_PROXY": "http://127.0.0.1:9",
            "http_proxy": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        },
    ),
    *(
        Setup(
            FAMILY,
            "AWS_PROFILE that no file has, AWS_ENDPOINT_URL of another store",
            tool,
            environment={"AWS_PROFILE": "nowhere", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        )
        for tool in ("wal-g", "barman-cloud")
    ),
    Setup(FAMILY, "sixty-four open files (ulimit -n 64)", within=_shell("ulimit -n 64")),
)
