"""The one file a user edits (``dr.toml``), typed. Every error names the file, the key and the hint.

Secrets never stand here: they come from Airflow Connections or the environment (see
:mod:`pgdrill.access`).
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from pgdrill.alert_settings import Alerts
from pgdrill.check_names import CHECK_NAMES
from pgdrill.errors import ConfigError
from pgdrill.queue_settings import Queue, QueueName
from pgdrill.section import Seconds, Section, store_url
from pgdrill.tool_facts import DEFAULT_TOOL, TOOLS, all_compressions, misfit
from pgdrill.watch_settings import Watch

CONFIG_VARIABLE = "PGDRILL_CONFIG"
MAY_HOLD_SECRETS = (
    *("dsn", "standby_dsn", "url", "reports_url", "endpoint_url", "api_key_variable"),
    *("secret_variable", "password_variable", "page_url", "runbook_url"),
)
CORRECT_IT = (
    "correct it there; the comments in include/dr.toml say what each key takes, and `pgdrill config"
    " check` whether it is right now"
)
OWN_PLACES = (
    "give each cluster a prefix of its own that lies in no other's (repository.url; then `pgdrill"
    " archive-command` anew for its server), reports_url and dump.url, too, where they are set; if"
    " the stores are different ones, name each one's endpoint_url; `pgdrill config check` says"
    " whether it is right now"
)
OF_FILE = ("clusters", "alerts", "watch", "queues")
OF_MODELS = ("model-current", "canary", "stale-text")
Deadline = Annotated[float, Field(ge=0)]
ClusterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
if TYPE_CHECKING:
    ToolName = str
    Compression = str
else:  # what the registry holds is known when this runs
    ToolName = Literal[tuple(TOOLS)]
    Compression = Literal[("", *all_compressions())]
# As libpq reads it: values in quotes or without, and a backslash before what is meant as it is. One
# way only to match each blank: with two, a string that does not match would be tried in every
# combination.
WORD = re.compile(
    r"""(?P<keyword>[^\s='"]+)\s*=\s*(?:'(?:[^'\\]|\\.)*'|(?!')(?:[^\s\\]|\\.)*(?=\s|$))\s*""",
    re.DOTALL,
)
DSN = re.compile(rf"\s*(?:{WORD.pattern.replace('?P<keyword>', '')})*", re.DOTALL)


class Server(Section):
    """The protected PostgreSQL server."""

    dsn: str = Field(
        "", description="libpq connection string without password; empty: from `conn_id`"
    )
    conn_id: str = Field(
        "", description="Airflow connection (type postgres) with host, port, login and password"
    )
    standby_dsn: str = Field(
        "", description="a standby to read baselines on; what it leaves out is as in `dsn`"
    )
    standby_conn_id: str = Field(
        "", description="Airflow connection (type postgres) of that standby"
    )
    data_directory: Path = Field(description="PGDATA, for base backups, on the host where they run")
    bin_dir: Path = Field(
        Path("/usr/lib/postgresql/18/bin"), description="PostgreSQL's programs, same major version"
    )
    superuser: str = Field(
        "postgres", description="the superuser's name inside the cluster (of a restored one, too)"
    )
    system_identifier: int | None = Field(
        None, description="from pg_controldata; guards against the wrong server"
    )
    queue: str = Field(
        "",
        description="Airflow queue of the worker beside the data directory; empty: the default one",
    )
    databases: tuple[str, ...] = Field(
        (),
        description="databases to check; empty: every one that allows connections, template1 too",
    )

    @field_validator("dsn", "standby_dsn")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if "password" in _dsn_keywords(value):
            raise ValueError(
                "holds a password; move it to the Airflow connection, PGPASSWORD or ~/.pgpass"
            )
        return value


def _dsn_keywords(dsn: str) -> set[str]:
    """The keywords of a libpq connection string.

    Not by psycopg: importing it takes longer than the rest of a DAG file's parsing, every thirty
    seconds.
    """
    if dsn.startswith(("postgresql://", "postgres://")):
        parts = urlsplit(dsn)
        return {
            *parse_qs(parts.query, keep_blank_values=True),
            *(["password"] if parts.password else []),
        }
    if not DSN.fullmatch(dsn):
        # Nothing of it is repeated: what could not be read may be part of a password.
        raise ValueError(
            "is no libpq connection string (host=… port=… user=… dbname=…); in quotes, write ' as"
            " \\' and \\ as \\\\"
        )
    return {word["keyword"] for word in WORD.finditer(dsn)}


def _http_base(value: str, hint: str = "") -> str:
    """The address of an API, without a slash at the end."""
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.query:
        raise ValueError(f"holds credentials or a query{hint}")
    if value and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise ValueError("must be http://host/… or https://host/…")
    return value.rstrip("/")


class RepositorySettings(Section):
    """Where a tool keeps base backups and WAL."""

    url: str = Field(description="s3://bucket/prefix, or file:///folder (not barman-cloud)")
    tool: ToolName = Field(DEFAULT_TOOL, description="the backup tool")
    binary: str = Field(
        "", description="path of the tool (or folder of barman-cloud-*); empty: found on PATH"
    )
    conn_id: str = Field(
        "", description="Airflow connection (type aws); empty: environment or the machine's role"
    )
    endpoint_url: str = Field("", description="for S3 stores other than AWS")
    region: str = Field("us-east-1", description="the bucket's AWS region")
    compression: Compression = Field(
        "",
        description="empty: "
        + ", ".join(f"{one.default_compression} with {one.name}" for one in TOOLS.values()),
    )
    streams: int = Field(
        0,
        ge=0,
        le=256,
        description="parallel requests for base backups; 0: chosen by cores and latency",
    )
    part_bytes: int = Field(
        0, ge=0, description="of a base backup's archives, before compression; 0: chosen by size"
    )
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        90,
        description=(
            "a job's lease in the store runs out if it is not renewed for so long (it is every"
            " third of that)"
        ),
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        return store_url(value)

    @field_validator("endpoint_url")
    @classmethod
    def _without_credentials(cls, value: str) -> str:
        if "@" in urlsplit(value).netloc:
            raise ValueError(
                "holds credentials; move them to the Airflow connection or AWS_… variables"
            )
        return value

    @model_validator(mode="after")
    def _fits_tool(self) -> RepositorySettings:
        if wrong := misfit(self.tool, self.url, self.compression, self.endpoint_url):
            raise ValueError(wrong)
        return self


class Backup(Section):
    """The weekly base backup."""

    schedule: str = Field("0 2 * * 0", description="cron, UTC")
    timeout_seconds: Seconds = Field(6 * 3600, description="for the whole base backup")
    deadline_seconds: Deadline = Field(
        0,
        description=(
            "a run that is not over so long after it was queued is told as late; 0: timeout_seconds"
        ),
    )
    stall_seconds: Seconds = Field(900, description="no file read on for so long counts as hanging")
    archive_wait_seconds: Seconds = Field(
        300, description="how long the last WAL segment may take to be archived"
    )
    delta_steps: int = Field(
        0,
        ge=0,
        description="delta backups between full ones, where the tool takes any; 0: always full",
    )


class Drill(Section):
    """The weekly restore drill, and what is promised."""

    schedule: str = Field("0 11 * * 5", description="cron, UTC")
    work_directory: Path = Field(
        Path("/var/lib/pgdrill"), description="where clusters are restored; needs the space"
    )
    rto_seconds: Seconds = Field(
        3600, description="promised: from a drill's start to correct vector search"
    )
    rpo_seconds: Seconds = Field(60, description="promised: work lost if production dies now")
    search_seconds: Seconds = Field(
        90, description="promised: from a running server to correct vector search"
    )
    timeout_seconds: Seconds = Field(
        4 * 3600, description="for the whole drill; the restored server ends then, too"
    )
    deadline_seconds: Deadline = Field(
        0,
        description=(
            "the same for a run of the drill; 0: rto_seconds, and what the last drill took besides"
        ),
    )
    handover_seconds: Seconds = Field(
        900, description="between the tasks of a drill nobody owns its server; then it ends"
    )
    stall_seconds: Seconds = Field(
        600, description="no byte arriving, or no WAL replayed, for so long counts as hanging"
    )
    durability: Literal["full", "fast"] = Field(
        "full", description="fast: without syncing, said so in the report"
    )
    fence: Literal["auto", "namespaces", "landlock", "none"] = Field(
        "auto",
        description=(
            "around restored servers, whose data may bring strangers' code; auto: the strongest"
            " that this host gives; none: without, said so in the report's first line"
        ),
    )
    fence_readable: tuple[Path, ...] = Field(
        (), description="folders outside /usr that PostgreSQL's programs here need to read"
    )
    allowed_libraries: tuple[str, ...] = Field(
        (),
        description=(
            "preload libraries that may be loaded into restored servers, besides those known to do"
            " nothing by themselves"
        ),
    )
    keep_free_bytes: int = Field(
        0,
        ge=0,
        description=(
            "of the work directory's file system, always; 0: 5 % of it, at least 1 GiB, at most"
            " 20 GiB"
        ),
    )
    priority: Literal["low", "normal"] = Field(
        "low", description="low: what a drill starts yields cores and disk to all others"
    )
    wal_fetch: Literal["auto", "tool"] = Field(
        "auto", description="auto: WAL is fetched ahead; tool: by the tool, one by one"
    )
    wal_spool_segments: int = Field(
        64, ge=1, le=10_000, description="how many segments may lie ready for replay"
    )
    wal_tool_sample: int = Field(
        50, ge=0, description="every n-th segment is also fetched by the tool and compared; 0: none"
    )
    baseline_table_bytes: int = Field(
        10 * 2**30, gt=0, description="tables above this size are only sampled"
    )
    baseline_bytes: int = Field(
        100 * 2**30,
        gt=0,
        description=(
            "read whole on production for one baseline; the largest tables are sampled instead"
        ),
    )
    state_tables: tuple[str, ...] = Field(
        (), description="tables that must be exactly as at the restore point"
    )
    statement_timeout_seconds: Seconds = Field(
        900, description="for each statement on production and in checks"
    )
    scheduled_target: Literal["alternate", "latest", "random"] = Field(
        "alternate",
        description="recovery target of scheduled drills; alternate: latest and random by turns",
    )
    without_production: int = Field(
        3,
        ge=0,
        description=(
            "drills in a row that may pass although nobody listens where production should be;"
            " after them none is green"
        ),
    )
    random_days: Annotated[float, Field(gt=0)] = Field(
        35, description="random instants are drawn from the last so many days"
    )
    heartbeat: str = Field(
        "", description="schema.table.column of a timestamptz that something writes all the time"
    )
    heartbeat_seconds: Seconds = Field(
        10, description="how often it is written; three times as long is not too long"
    )

    @field_validator("heartbeat")
    @classmethod
    def _three_names(cls, value: str) -> str:
        if value and (len(parts := value.split(".")) != 3 or not all(parts)):
            raise ValueError("must be schema.table.column, for example public.pgdrill_heartbeat.at")
        return value


class Retention(Section):
    """What is kept of backups, WAL and dumps. Each promise holds by itself; what none needs goes.

    Counts are of the newest days, weeks, months or years that have a backup, so that a pause in
    backing up deletes nothing.
    """

    window_days: float = Field(
        35, gt=0, description="every instant of so many days can be restored"
    )
    weekly: int = Field(13, ge=1, description="weeks of which the newest base backup is kept")
    daily: int = Field(
        0,
        ge=0,
        description="days of which the newest base backup is kept; 0: none beyond the window",
    )
    monthly: int = Field(0, ge=0, description="months of which the newest base backup is kept")
    yearly: int = Field(0, ge=0, description="years of which the newest base backup is kept")
    dumps_monthly: int = Field(
        12, ge=0, description="months of which the newest good logical dump is kept"
    )
    require_drill: bool = Field(
        True, description="never without the newest base backup that a drill has passed"
    )
    max_share: float = Field(
        0.3,
        gt=0,
        le=1,
        description="share of backups, or of bytes, that may go in one unattended run",
    )
    leftover_days: float = Field(
        7, ge=1, description="objects of no backup count as left behind after so long"
    )
    timeout_seconds: Seconds = Field(3600, description="for each command of the tool")
    deadline_seconds: Deadline = Field(
        0,
        description=(
            "a run that is not over so long after it was queued is told as late; 0: six "
            "commands' time"
        ),
    )
    stall_seconds: Seconds = Field(
        300, description="a command that moves no byte for so long counts as hanging"
    )


class Dump(Section):
    """The monthly logical dump, and the restore that makes it count."""

    schedule: str = Field("0 4 1 * *", description="cron, UTC")
    url: str = Field(
        "",
        description=(
            "where dumps are kept, s3:// or file://; empty: in dumps/ below the repository's url"
        ),
    )
    databases: tuple[str, ...] = Field(
        (), description="databases to dump; empty: those of server.databases"
    )
    dsn: str = Field(
        "",
        description=(
            "dump from another server (a standby) or role, without password; empty: server.dsn"
        ),
    )
    conn_id: str = Field(
        "", description="Airflow connection (type postgres) for it; empty: server.conn_id"
    )
    format: Literal["custom", "directory"] = Field(
        "custom", description="custom: streamed; directory: in parallel, by way of work_directory"
    )
    compression: Literal["", "zstd", "lz4", "gzip", "none"] = Field(
        "", description="empty: the best of zstd, lz4 and gzip that this pg_dump was built with"
    )
    role_passwords: bool = Field(
        False, description="dump the roles' password hashes too; needs a superuser"
    )
    jobs: int = Field(
        0, ge=0, le=256, description="parallel jobs of directory dumps and restores; 0: one a core"
    )
    maintenance_work_mem_bytes: int = Field(
        0, ge=0, description="for building vector indexes; 0: by index and memory"
    )
    lock_wait_seconds: Seconds = Field(
        60, description="how long the dump may wait for a table's lock"
    )
    timeout_seconds: Seconds = Field(
        6 * 3600, description="for the whole dump, and for each step of its restore"
    )
    deadline_seconds: Deadline = Field(
        0,
        description=(
            "a run that is not over so long after it was queued is told as late; 0: "
            "twice timeout_seconds"
        ),
    )
    stall_seconds: Seconds = Field(
        900, description="no byte read or written for so long counts as hanging"
    )

    @field_validator("dsn")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if "password" in _dsn_keywords(value):
            raise ValueError(
                "holds a password; move it to the Airflow connection, PGPASSWORD or ~/.pgpass"
            )
        return value

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        return value and store_url(value)


class VectorColumn(Section):
    """Thresholds for a vector column. Columns are found by themselves; one named here must
    exist."""

    database: str = Field("", description="empty: the first of server.databases")
    table: str = Field(description="schema-qualified where not in public")
    column: str = Field(description="of type vector, halfvec, sparsevec or bit")
    min_recall_at_10: float = Field(
        0.9, ge=0, le=1, description="share of the exact ten nearest the index finds"
    )
    max_recall_loss: float = Field(
        0.02, ge=0, le=1, description="how much less than on production the index may find"
    )
    probes: int = Field(50, ge=1, le=10_000, description="stored vectors searched for")
    allow_null: bool = Field(False, description="rows that are not embedded yet are meant")
    index_required: bool = Field(
        True, description="warn if no HNSW or IVFFlat index serves the column"
    )
    filter_column: str = Field(
        "", description="limits searches to a tenant; empty: what row security policies use"
    )
    query: str = Field(
        "",
        description=(
            "a search as the application writes it, $1 for the vector; empty: the usual shape"
        ),
    )


class Embeddings(Section):
    """Which model the running application embeds with, and who can embed a text again to prove
    it."""

    models: dict[str, str] = Field(
        {}, description='"table.column" (or "*" for all others) to "model@version"'
    )
    embedder: str = Field(
        "", description="empty: nothing is embedded again; http, or python:module:callable"
    )
    url: str = Field(
        "",
        description="for http: base URL of an OpenAI-compatible API; texts go to {url}/embeddings",
    )
    api_key_variable: str = Field(
        "", description="name of the environment variable that holds the key"
    )
    canary_rows: int = Field(
        20, ge=1, le=100_000, description="rows of each column that are embedded again"
    )
    tolerance: float = Field(
        0.01, gt=0, lt=1, description="cosine distance, and relative length, of the same text"
    )
    timeout_seconds: Seconds = Field(60, description="for each request, of up to 32 texts")

    @field_validator("models")
    @classmethod
    def _names_versions(cls, value: dict[str, str]) -> dict[str, str]:
        for column, model in value.items():
            if column != "*" and "." not in column:
                raise ValueError(f'{column!r} is no "table.column" and not "*"')
            if not all(model.rpartition("@")[::2]):
                raise ValueError(f"{column!r} names {model!r}, which is no model@version")
        return value

    @field_validator("embedder")
    @classmethod
    def _known_embedder(cls, value: str) -> str:
        if value not in ("", "http") and not re.fullmatch(r"python:\w+(\.\w+)*:\w+", value):
            raise ValueError("must be empty, http or python:module:callable")
        return value

    @field_validator("url")
    @classmethod
    def _http_without_credentials(cls, value: str) -> str:
        return _http_base(value, "; name the key's variable in api_key_variable")

    @field_validator("api_key_variable")
    @classmethod
    def _name_not_key(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError(
                "is no variable's name (capitals, digits, _); the key itself never stands here"
            )
        return value

    @model_validator(mode="after")
    def _http_has_url(self) -> Embeddings:
        if self.embedder == "http" and not self.url:
            raise ValueError("embedder http needs url")
        return self


class Deviation(Section):
    """A red answer that somebody knows and accepts for a while: it warns, with reason and date, and
    is red again after that.
    """

    check: str = Field(description="the check's name, as reports have it")
    object: str = Field(
        description="what the answer names, as reports have it; with * or ? any that fits"
    )
    reason: str = Field(min_length=1, description="why it is accepted; shown in each report")
    until: date = Field(description="the last day on which it is")
    model: str = Field(
        "",
        description=(
            'for checks of models: "model@version" that vectors may be of besides the running one'
        ),
    )

    @field_validator("check")
    @classmethod
    def _known_check(cls, value: str) -> str:
        if value not in CHECK_NAMES:
            near = difflib.get_close_matches(value, CHECK_NAMES, n=1)
            raise ValueError(
                "is no"
                f" check{f'; did you mean {near[0]}?' if near else '; `pgdrill checks` lists them'}"
            )
        return value

    @field_validator("object")
    @classmethod
    def _not_everything(cls, value: str) -> str:
        if not value.strip("*?. "):
            raise ValueError("accepts whatever the check finds, damage too; name the object")
        return value

    @model_validator(mode="after")
    def _model_where_one_is_looked_at(self) -> Deviation:
        if self.model and self.check not in OF_MODELS:
            raise ValueError(f"{self.check} looks at no models; {', '.join(OF_MODELS)} do")
        if self.model and not all(self.model.rpartition("@")[::2]):
            raise ValueError(f"names {self.model!r}, which is no model@version")
        return self


class ApplicationTest(Section):
    """Any command that tests the application, pointed at the restored cluster by PGHOST, PGPORT, …
    and DATABASE_URL.
    """

    command: tuple[str, ...] = Field(
        (), description="program and arguments, never a shell's line; empty: no such test"
    )
    database: str = Field("", description="for PGDATABASE; empty: the first of server.databases")
    user: str = Field(
        "",
        description=(
            "for PGUSER, a role of the restored cluster, no superuser; empty: one that reads and"
            " writes all data"
        ),
    )
    working_directory: Path = Field(
        Path(), description="where it runs; relative to this file's folder"
    )
    timeout_seconds: Seconds = Field(
        300, description="it is ended after that, and the drill could not verify"
    )
    required: bool = Field(
        True,
        description="a test that cannot be started, or takes too long, keeps a drill from green",
    )
    pass_environment: tuple[str, ...] = Field(
        (), description="names of variables it gets besides PATH, HOME and LANG"
    )

    @field_validator("pass_environment")
    @classmethod
    def _names_of_its_own(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is no variable's name")
            if name.startswith("PG") or name == "DATABASE_URL":
                raise ValueError(
                    f"{name} says where production is; pgdrill sets it to the restored cluster"
                )
        return value


class Health(Section):
    """From where on a look at this cluster's health is not ok. What is scheduled or promised
    elsewhere in the file is judged by that.
    """

    replay_lag_seconds: Seconds = Field(
        30, description="a standby that is further behind is critical"
    )
    wal_room_warning_seconds: Seconds = Field(
        86400, description="pg_wal is full in less, at the rate of now: a warning"
    )
    wal_room_critical_seconds: Seconds = Field(4 * 3600, description="and critical")
    slot_held_bytes: int = Field(
        10 * 2**30, gt=0, description="WAL held by a slot that nobody reads and nothing limits"
    )
    certificate_warning_days: float = Field(
        21, gt=0, description="a certificate ends in less: a warning"
    )
    certificate_critical_days: float = Field(3, gt=0, description="and critical")
    clock_seconds: Seconds = Field(
        10, description="this host's clock and the server's are further apart: a warning"
    )
    transaction_id_warning: float = Field(
        0.5, gt=0, lt=1, description="share of the transaction ids used since the last freeze"
    )
    transaction_id_critical: float = Field(0.75, gt=0, lt=1, description="and critical")
    backup_larger: float = Field(
        1.5, gt=1, description="times the size of base backups before: a leap"
    )
    backup_smaller: float = Field(0.5, gt=0, lt=1, description="and the other way")
    backup_slower: float = Field(
        3, gt=1, description="times as long as base backups before: a leap"
    )

    @model_validator(mode="after")
    def _worse_comes_later(self) -> Health:
        for name, other in (
            ("wal_room_critical_seconds", "wal_room_warning_seconds"),
            ("certificate_critical_days", "certificate_warning_days"),
            ("transaction_id_warning", "transaction_id_critical"),
        ):
            if getattr(self, name) > getattr(self, other):
                raise ValueError(f"{name} is more than {other}: it would never warn before")
        return self


class AirflowApi(Section):
    """How the Airflow that runs the cluster's DAGs is asked whether it still works."""

    watched: bool = Field(
        True, description="false: not asked; for clusters whose jobs something else starts"
    )
    conn_id: str = Field(
        "", description="Airflow connection (type http) with the API server's address, and a login"
    )
    url: str = Field(
        "", description="the same for who watches outside of Airflow: http://host:8080"
    )
    user: str = Field("", description="login there; it need only read")
    password_variable: str = Field(
        "", description="name of the environment variable that holds its password"
    )

    @field_validator("url")
    @classmethod
    def _http_without_credentials(cls, value: str) -> str:
        return _http_base(value)

    @field_validator("password_variable")
    @classmethod
    def _name_not_password(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError(
                "is no variable's name (capitals, digits, _); the password never stands here"
            )
        return value


class Cluster(Section):
    """What is protected: one server with its repository, drill and vector columns."""

    server: Server
    repository: RepositorySettings
    reports_url: str = Field(
        "", description="report store, s3:// or file://; empty: beside the backups"
    )
    backup: Backup = Backup()
    drill: Drill = Drill()
    retention: Retention = Retention()
    dump: Dump = Dump()
    vectors: tuple[VectorColumn, ...] = ()
    embeddings: Embeddings = Embeddings()
    deviations: tuple[Deviation, ...] = ()
    checks_directory: Path = Field(
        Path("checks"), description="folder of your own *.sql; relative to this file's folder"
    )
    application_test: ApplicationTest = ApplicationTest()
    health: Health = Health()
    airflow: AirflowApi = AirflowApi()
    owner: str = Field("data-platform", description="shown in the Airflow UI")
    name: str = Field("", exclude=True, description="set from the table's key")
    home: Path = Field(Path(), exclude=True, description="set to the file's folder")
    work_directories: tuple[Path, ...] = Field(
        (), exclude=True, description="set to those of every cluster of the file"
    )
    queues: tuple[Queue, ...] = Field(
        (), exclude=True, description="set to the file's queues that belong to it"
    )

    @field_validator("reports_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        return value and store_url(value)

    @property
    def state_directory(self) -> Path:
        """Locks, running drills and local copies of reports of this cluster."""
        return self.drill.work_directory / self.name


class Settings(Section, arbitrary_types_allowed=True):
    """The whole file: the clusters that can be used, and what is wrong with each of the others."""

    clusters: dict[ClusterName, Cluster] = Field(min_length=1)
    alerts: Alerts = Alerts()
    watch: Watch = Watch()
    queues: dict[QueueName, Queue] = Field({})
    source: Path = Field(Path("dr.toml"), exclude=True)
    wrong: dict[str, ConfigError] = Field(
        {},
        exclude=True,
        description="set to the errors by cluster; by none: of the file's other tables",
    )

    @property
    def names(self) -> list[str]:
        """Every cluster that the file names, those that are wrong, too."""
        return sorted({*self.clusters, *filter(None, self.wrong)})

    def cluster(self, name: str) -> Cluster:
        """The cluster of that name. Raises what is wrong with it; another's fault is none of
        its."""
        if name and name in self.wrong:
            raise self.wrong[name]
        if name not in self.clusters:
            besides = f" ({self.wrong[''].problem.found})" if "" in self.wrong else ""
            raise ConfigError(
                "unknown-cluster",
                f"cluster {name!r}",
                found=f"only {', '.join(self.names)}{besides}",
                expected=f"a table [clusters.{name}] in {self.source}",
                hint="correct the name or add the table",
            )
        everywhere = {
            "work_directories": tuple(
                {one.drill.work_directory: None for one in self.clusters.values()}
            ),
            "queues": tuple(one for one in self.queues.values() if one.cluster == name),
        }
        return self.clusters[name].model_copy(update=everywhere)

    def queue(self, name: str) -> Queue:
        """The queue of that name. Raises what is wrong with the file's tables where it is none."""
        if name in self.queues:
            return self.queues[name]
        besides = f" ({self.wrong[''].problem.found})" if "" in self.wrong else ""
        raise ConfigError(
            "unknown-queue",
            f"queue {name!r}",
            found=f"only {', '.join(sorted(self.queues))}{besides}"
            if self.queues
            else besides[2:-1] or "none",
            expected=f"a table [queues.{name}] in {self.source}",
            hint="correct the name or add the table",
        )


def config_path() -> Path:
    """``$PGDRILL_CONFIG``, or ``include/dr.toml`` of the Airflow home or of the project."""
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    homes = (os.environ.get("AIRFLOW_HOME"), Path(__file__).parents[2])
    candidates = [Path(home) / "include" / "dr.toml" for home in homes if home]
    return next((path for path in candidates if path.exists()), candidates[-1])


def load(path: Path | None = None) -> Settings:
    """Read and check the file."""
    path = path or config_path()
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            "config-missing",
            str(path),
            found=f"{error.strerror or error}",
            expected="a readable configuration",
            hint=f"write one with `pgdrill init`, or name it with --config or {CONFIG_VARIABLE}",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "config-syntax",
            str(path),
            found=f"no valid TOML: {error}",
            expected="TOML 1.0 in UTF-8",
            hint="correct the line that the message names",
        ) from error
    return parse(data, path)


def parse(data: dict[str, Any], path: Path) -> Settings:
    """Check what was read. A cluster that is wrong is left out, with its error in ``wrong``; it
    raises where none is right.

    All problems are named at once.
    """
    tables = data.get("clusters", {})
    if not isinstance(tables, dict) or not tables:
        return _checked(data, path)
    clusters: dict[str, Cluster] = {}
    wrong: dict[str, ConfigError] = {}
    for name, table in tables.items():
        own = (
            {**table, "home": path.absolute().parent, "name": name}
            if isinstance(table, dict)
            else table
        )
        try:
            clusters |= _checked({"clusters": {name: own}}, path).clusters
        except ConfigError as error:
            wrong[name] = error
    for name, found in _shared_places(clusters).items():
        del clusters[name]
        wrong[name] = _invalid(
            path, found, expected="places in the store that are each cluster's own", hint=OWN_PLACES
        )
    unknown = [f"[{key}] {_unknown(key)}" for key in data if key not in OF_FILE]
    alerts, problems = _alerts(data.get("alerts", {}), {*clusters, *wrong})
    watch, of_watch = _watch(data.get("watch", {}))
    queues, of_queues = _queues(data.get("queues", {}), {*clusters, *wrong})
    if problems := [*unknown, *problems, *of_watch, *of_queues]:
        wrong[""] = _invalid(path, problems)
    if not clusters:
        raise _invalid(
            path,
            [error.problem.found for error in wrong.values()],
            hint=next(iter(wrong.values())).problem.hint,
        )
    return Settings.model_construct(
        clusters=clusters, alerts=alerts, watch=watch, queues=queues, source=path, wrong=wrong
    )


def _queues(table: Any, clusters: set[str]) -> tuple[dict[str, Queue], list[str]]:
    """The queues that can be used, and what is wrong with the others, which keep none from it."""
    if not isinstance(table, dict):
        return {}, ["[queues] has to be a table: write [queues.NAME]"]
    kept: dict[str, Queue] = {}
    problems: list[str] = []
    for name, one in table.items():
        try:
            own = {**one, "name": name} if isinstance(one, dict) else one
            found = TypeAdapter(dict[QueueName, Queue]).validate_python({name: own})[name]
        except ValidationError as error:
            problems += [f"[{_key(('queues', *e['loc']))}] {_explain(e)}" for e in error.errors()]
            continue
        if found.cluster not in clusters:
            problems.append(f"[queues.{name}.cluster] {found.cluster!r} is no cluster of this file")
        elif found.url and any(_place(found.url) == _place(other.url) for other in kept.values()):
            problems.append(f"[queues.{name}.url] is another queue's place, too")
        else:
            kept[name] = found
    return kept, problems


def _watch(table: Any) -> tuple[Watch, list[str]]:
    """How the service watches; as without the table where that is wrong."""
    try:
        return Watch.model_validate(table), []
    except ValidationError as error:
        found = [f"[{_key(('watch', *one['loc']))}] {_explain(one)}" for one in error.errors()]
        return Watch(), found


def _alerts(table: Any, clusters: set[str]) -> tuple[Alerts, list[str]]:
    """Who is told of what. A channel that is wrong is left out, and keeps no other from telling."""
    if not isinstance(table, dict):
        return Alerts(), ["[alerts] has to be a table"]
    kept, problems = dict(table), []
    for key in ("channels", "pings"):
        listed = table.get(key, [])
        if not isinstance(listed, list):
            problems.append(f"[alerts.{key}] has to be a list: write [[alerts.{key}]]")
            listed = []
        kept[key] = []
        for number, one in enumerate(listed):
            found = _alert_problems({key: [one]}, number) or _strangers(key, number, one, clusters)
            if not found and key == "channels" and any(one["name"] == a["name"] for a in kept[key]):
                found = [f"[alerts.channels.{number}.name] {one['name']!r} is there twice"]
            problems += found
            kept[key] += [] if found else [one]
    if found := _alert_problems(kept, 0):
        lists = {key: kept[key] for key in ("channels", "pings")}
        return Alerts.model_validate(lists), [*problems, *found]
    return Alerts.model_validate(kept), problems


def _alert_problems(table: dict[str, Any], number: int) -> list[str]:
    try:
        Alerts.model_validate(table)
    except ValidationError as error:
        return [
            f"[{_key(('alerts', *_numbered(one['loc'], number)))}] {_explain(one)}"
            for one in error.errors()
        ]
    return []


def _numbered(location: tuple[int | str, ...], number: int) -> tuple[int | str, ...]:
    """A place in the only channel or ping of a table as that in the whole list."""
    return (*location[:1], number, *location[2:]) if location[1:2] == (0,) else location


def _strangers(key: str, number: int, one: dict[str, Any], clusters: set[str]) -> list[str]:
    """Names of clusters in a channel or ping that the file does not have."""
    names = one.get("clusters", []) if key == "channels" else [one["cluster"]]
    word = "clusters" if key == "channels" else "cluster"
    return [
        f"[alerts.{key}.{number}.{word}] {name!r} is no cluster of this file"
        for name in names
        if name not in clusters
    ]


def _checked(data: dict[str, Any], path: Path) -> Settings:
    try:
        return Settings.model_validate({**data, "source": path})
    except ValidationError as error:
        raise _invalid(
            path, [f"[{_key(e['loc'])}] {_explain(e)}" for e in error.errors()]
        ) from None


def _shared_places(clusters: Mapping[str, Cluster]) -> dict[str, list[str]]:
    """Clusters whose backups would lie among another's, with words that name both.

    Nothing of a URL is repeated.
    """
    found: dict[str, list[str]] = {}
    for one, other in itertools.permutations(clusters.values(), 2):
        if one.repository.endpoint_url != other.repository.endpoint_url:
            continue
        mine, theirs = _place(one.repository.url), _place(other.repository.url)
        if mine == theirs:
            words = [f"[clusters.{one.name}.repository.url] is cluster {other.name}'s place, too"]
        elif mine[: len(theirs)] == theirs:
            words = [f"[clusters.{one.name}.repository.url] lies in cluster {other.name}'s"]
        elif theirs[: len(mine)] == mine:
            words = [f"[clusters.{one.name}.repository.url] has cluster {other.name}'s in it"]
        else:
            words = []
        pairs = {
            "reports_url": (one.reports_url, other.reports_url),
            "dump.url": (one.dump.url, other.dump.url),
        }
        words += [
            f"[clusters.{one.name}.{key}] is cluster {other.name}'s place, too"
            for key, (own, of_other) in pairs.items()
            if own and of_other and _place(own) == _place(of_other)
        ]
        if words:
            found.setdefault(one.name, []).extend(words)
    return found


def _place(url: str) -> tuple[str, ...]:
    """What a store's URL means, part by part: empty parts count for nothing, nor do ``.`` and
    ``..`` of a folder.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return ("file", *Path(os.path.normpath(parts.path)).parts[1:])
    return (parts.scheme, parts.netloc, *filter(None, parts.path.split("/")))


def _invalid(
    path: Path,
    found: Iterable[str],
    *,
    expected: str = "known keys with fitting values",
    hint: str = CORRECT_IT,
) -> ConfigError:
    return ConfigError(
        "config-invalid", str(path), found="; ".join(found), expected=expected, hint=hint
    )


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part != "[key]") or "file"


def _explain(error: Any) -> str:
    key = str(error["loc"][-1]) if error["loc"] else ""
    match error["type"]:
        case "extra_forbidden":
            return _unknown(key)
        case "missing":
            return "is missing"
        case "string_pattern_mismatch":
            return (
                "is no channel's name: lower-case letters, digits, _ and -"
                if key == "name"
                else "is no cluster name: lower-case letters, digits and _ (it becomes part of DAG"
                " ids and folders)"
            )
        case "tuple_type" | "list_type":
            given = (
                [error["input"]]
                if isinstance(error.get("input"), str) and key not in MAY_HOLD_SECRETS
                else ["first", "second"]
            )
            return f"has to be a list, for example {key} = {json.dumps(given, ensure_ascii=False)}"
        case "too_short":
            return "holds no cluster: add a table [clusters.<name>]"
    given = error.get("input")
    # What a person wrote may hold a password, or credentials in a URL: those values are never
    # repeated.
    shown = isinstance(given, str | int | float | bool) and key not in MAY_HOLD_SECRETS
    return f"{error['msg'].removeprefix('Value error, ')}{f' (found {given!r})' if shown else ''}"


def _unknown(key: str) -> str:
    # which another table may have
    near = difflib.get_close_matches(key, _known_keys() - {key}, n=1)
    return "is no known key" + (f"; did you mean {near[0]}?" if near else "")


def _known_keys() -> set[str]:
    return {name for section in Section.__subclasses__() for name in section.model_fields} - {
        "name",
        "home",
        "source",
        "work_directories",
        "wrong",
    }
