"""``pgdrill init`` as an ordinary user beside Debian's PostgreSQL, in a clone: what it writes leads
to a green backup.
"""

from __future__ import annotations

import re

from pgdrill.config import load
from tests.way_in.site import PROGRAMS, Site


def test_two_commands_lead_to_a_backup(site: Site) -> None:
    """The server is found by the socket, as its owner; the work directory is one that this user may
    have.
    """
    site.good(f"cp -r {site.home}/source {site.home}/pgdrill; mkdir {site.home}/user/store")
    pgdrill, major = f"{site.home}/pgdrill-program", PROGRAMS.parent.name
    port = site.good("pg_lsclusters --no-header | awk '{print $3}'").strip()
    dsn = f"'host={site.home}/sock port={port} dbname=agents'"
    said = site.good(f"{pgdrill} init --yes --dsn {dsn} --repository file://{site.home}/user/store")
    assert f"is now {site.config}.example" in said
    found = load(site.config).cluster("agents")
    assert (found.server.data_directory, found.server.bin_dir) == (site.data, PROGRAMS)
    assert found.server.superuser == site.user
    assert found.drill.work_directory == site.home / "user" / ".local" / "state" / "pgdrill"
    red = set(re.findall(r"^  red +([a-z-]+)", said, re.MULTILINE))
    assert red == {"archive-mode"}, said  # nobody has set it yet
    etc = f"{site.home}/etc/{major}/main"
    site.good(
        f"{pgdrill} archive-command --conf > {etc}/conf.d/pgdrill.conf; "
        f"{pgdrill} archive-command --environment >> {etc}/environment; "
        f"pg_ctlcluster {major} main restart"
    )
    assert "listed, whole" in site.good(f"{pgdrill} backup")
