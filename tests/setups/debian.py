"""Debian's own cluster (pg_createcluster), set up by the README's commands as an ordinary user."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator

from tests.setups.host import Done
from tests.setups.setup import Setup
from tests.way_in.readme import steps
from tests.way_in.site import NEEDED, PROGRAMS, Site, new_site
from tests.way_in.test_readme import as_here, configuration


class DebianHost:
    """That host, after the README's first five steps."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def follow(self) -> None:
        """All that the README says before the first backup."""
        site = self.site
        for block in steps()[1]:
            site.good(as_here(site, block))
        site.edit(configuration(site))
        folder, check = steps()[3]
        site.as_root(as_here(site, folder))
        for block in (*steps()[2], check, *steps()[4], *steps()[5]):
            site.good(as_here(site, block))

    def peer(self) -> None:
        """Over the socket, by a line of pg_ident.conf that says who pgdrill is."""
        site = self.site
        etc = f"{site.home}/etc/15/main"
        site.good(
            f"echo 'pgdrill {site.user} pgdrill' >> {etc}/pg_ident.conf; {{ echo 'local all pgdrill"
            f" peer map=pgdrill'; cat {etc}/pg_hba.conf; }} > {etc}/new; cat {etc}/new >"
            f" {etc}/pg_hba.conf; rm ~/.pgpass"
        )
        site.sql("SELECT pg_reload_conf()")
        site.edit({"host=localhost port": f"host={site.home}/sock port"})

    def pgdrill(self, *words: str) -> Done:
        """The real command, with ``--json``, as that user."""
        done = self.site.run(f"pgdrill {' '.join(words)} --json")
        try:
            said = json.loads(done.stdout)
        except ValueError:
            said = {}
        return Done(done.code, said, done.stderr)


def is_here() -> bool:
    """Debian's PostgreSQL 15 and its tools are installed."""
    return all(shutil.which(name) for name in NEEDED) and (PROGRAMS / "postgres").exists()


@contextlib.contextmanager
def debian(setup: Setup) -> Iterator[DebianHost]:
    """A running one, removed afterwards."""
    site = new_site()
    try:
        site.make()
        made = DebianHost(site)
        made.follow()
        if setup.debian == "peer":
            made.peer()
        yield made
    finally:
        site.remove()
