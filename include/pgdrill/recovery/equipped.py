"""A check that this host has the locales and the extensions' libraries of the cluster to restore.

It runs before a byte is fetched. What this host lacks says nothing of the backup, though every
index on text and every vector would look broken without it. Where the answer is not known, the
restored server gives it.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from pgdrill.baseline import Baseline
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.binaries import Binaries
from pgdrill.postgres.libraries import preloaded

logger = logging.getLogger(__name__)

SHOWN = 5
LC_COLLATE_MASK, LC_CTYPE_MASK = 1 << 3, 1 << 0  # of glibc and musl alike
# production looks in other places, too
ELSEWHERE = ("dynamic_library_path", "extension_control_path")


class Holds(Protocol):
    """The contents of a cluster, as a baseline tells them, or its catalogs now."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that are always kept, by name."""

    @property
    def configured(self) -> Mapping[str, str]:
        """The settings that somebody set, by name."""

    @property
    def database_forms(self) -> Mapping[str, str]:
        """The encoding and locale of every database."""

    @property
    def databases(self) -> Mapping[str, HoldsExtensions]:
        """The databases that were looked into."""


class HoldsExtensions(Protocol):
    """The extensions of one database."""

    @property
    def extensions(self) -> Mapping[str, str]:
        """The version of each extension: name -> version."""


def check_equipped(
    binaries: Binaries,
    known: Iterable[Baseline | None],
    databases: Collection[str],
    allowed: Collection[str],
) -> None:
    """Raise ``host-not-equipped`` if this host lacks anything that the cluster needs.

    The first of ``known`` that tells its contents is compared with the host. ``databases``: () for
    all.
    """
    lacks: dict[str, str] = {}
    looked = [baseline for baseline in known if baseline]
    for baseline in looked[:1]:
        lacks |= dict(_of_cluster(binaries, baseline, databases, allowed))
    # one taken for a target of the past holds none
    for baseline in [one for one in looked if one.databases][:1]:
        lacks |= dict(_extensions(binaries, baseline, databases))
    if lacks:
        raise not_equipped(binaries, lacks)


def lacking(
    binaries: Binaries, cluster: Holds, databases: Collection[str], allowed: Collection[str]
) -> dict[str, str]:
    """Return what this host lacks of what the cluster needs: thing -> why.

    ``databases``: () for all.
    """
    return {
        **dict(_of_cluster(binaries, cluster, databases, allowed)),
        **dict(_extensions(binaries, cluster, databases)),
    }


def not_equipped(binaries: Binaries, lacking: Mapping[str, str]) -> CouldNotVerify:
    """Return the error that names what is lacking."""
    shown = "; ".join(f"{thing}: {why}" for thing, why in list(lacking.items())[:SHOWN])
    more = f"; and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    return CouldNotVerify(
        "host-not-equipped",
        f"this host, with PostgreSQL in {binaries.folder}",
        found=f"{shown}{more}",
        expected="production's locales and libraries",
        hint=(
            "install the same packages as on production (the extension's for this PostgreSQL;"
            " locales: `locale -a`, Debian: dpkg-reconfigure locales), or set server.bin_dir to the"
            " PostgreSQL that has them"
        ),
    )


def _of_cluster(
    binaries: Binaries, cluster: Holds, databases: Collection[str], allowed: Collection[str]
) -> Iterator[tuple[str, str]]:
    yield from _locales(binaries, cluster, databases)
    yield from _preloaded(binaries, cluster, allowed)


def _locales(
    binaries: Binaries, baseline: Holds, databases: Collection[str]
) -> Iterator[tuple[str, str]]:
    for name, form in baseline.database_forms.items():
        _, collate, ctype, provider, *_ = (*form.split(", "), "", "", "")
        if (databases and name not in databases) or "no connections" in form:
            continue
        for mask, locale in ((LC_COLLATE_MASK, collate), (LC_CTYPE_MASK, ctype)):
            if locale and not has_locale(mask, locale):
                yield f"locale {locale} of database {name}", "not on this host"
        if provider == "i" and b"libicui18n" not in Path(binaries.path("postgres")).read_bytes():
            yield f"ICU of database {name}", "this PostgreSQL was built without it"


def has_locale(mask: int, name: str) -> bool:
    """Return whether the C library knows a locale. The process's own locale does not change."""
    libc = ctypes.CDLL(None)
    libc.newlocale.restype = ctypes.c_void_p
    libc.newlocale.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
    libc.freelocale.argtypes = [ctypes.c_void_p]
    made = libc.newlocale(mask, name.encode(), None)
    if made:
        libc.freelocale(made)
    return bool(made)


def _places(binaries: Binaries, baseline: Holds) -> tuple[Path, Path] | None:
    """Return the folder of libraries and the folder of extensions' files.

    None where production looks in other folders, too, or this PostgreSQL does not say.
    """
    return None if set(ELSEWHERE) & baseline.configured.keys() else binaries.places


def _preloaded(
    binaries: Binaries, baseline: Holds, allowed: Collection[str]
) -> Iterator[tuple[str, str]]:
    if places := _places(binaries, baseline):
        for name in filter(
            None,
            preloaded(baseline.settings.get("shared_preload_libraries", ""), allowed).split(","),
        ):
            if "/" not in name and not _library(places[0], name):
                yield f"library {name} (shared_preload_libraries)", f"not in {places[0]}"


def _extensions(
    binaries: Binaries, baseline: Holds, databases: Collection[str]
) -> Iterator[tuple[str, str]]:
    if (places := _places(binaries, baseline)) is None:
        return
    libraries, share = places
    for database, state in baseline.databases.items():
        for extension in state.extensions if not databases or database in databases else ():
            control = share / "extension" / f"{extension}.control"
            if not control.is_file():
                yield f"extension {extension} of database {database}", f"no {control}"
            elif (module := _module(control)) and not _library(libraries, module):
                yield (
                    f"extension {extension} of database {database}",
                    f"no {module}.so in {libraries}",
                )


def _module(control: Path) -> str:
    """Return the library in ``$libdir`` that a control file names, or an empty string."""
    for line in control.read_text(errors="replace").splitlines():
        key, _, value = line.partition("=")
        path = value.strip().strip("'")
        if key.strip() == "module_pathname" and path.startswith("$libdir/"):
            return path.removeprefix("$libdir/")
    return ""


def _library(folder: Path, name: str) -> bool:
    return any((folder / one).is_file() for one in (name, f"{name}.so"))
