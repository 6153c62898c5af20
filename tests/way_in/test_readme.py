"""README.md from a clone to the first green drill, by the commands it prints, on Debian's
PostgreSQL, as an ordinary user.

Whatever a newcomer may have left out or mistyped is met on the way, and mended by the hint of the
error itself.
"""

from __future__ import annotations

import json
import re

import pytest

from pgdrill.reports.model import Report
from tests.way_in.readme import steps
from tests.way_in.site import PROGRAMS, VERSION, Site

BACKUP = "pgdrill backup agents --json"
COMMANDS = re.compile(r"`([^`]+)`")


def host(site: Site) -> dict[str, str]:
    """Everything in which this host is not the README's: what is printed there -> what is typed
    here.
    """
    return {
        "git clone THIS-REPOSITORY pgdrill": f"cp -r {site.home}/source pgdrill",
        "cd pgdrill\n": f"mv pgdrill {site.home}/pgdrill; cd {site.home}/pgdrill\n",
        # as the tests were set up
        "make setup": (
            f"mkdir -p .venv/bin .local/bin && cp {site.home}/pgdrill-program .venv/bin/pgdrill"
        ),
        "AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…": (
            f"AWS_ACCESS_KEY_ID={site.s3.access_key} AWS_SECRET_ACCESS_KEY={site.s3.secret_key}"
        ),
        "-o postgres /var/lib/pgdrill": f"-o {site.user} {site.work}",
        "PASSWORD '…'": "PASSWORD '{}'".format(site.password.replace("'", "''")),
        "'localhost:*:*:pgdrill:…'": "'localhost:*:*:pgdrill:{}'".format(
            _in_pgpass(site).replace("'", "'\\''")
        ),
        "/etc/postgresql/18/main": f"{site.home}/etc/{VERSION}/main",
        "systemctl restart postgresql@18-main": f"pg_ctlcluster {VERSION} main restart",
    }


def configuration(site: Site) -> dict[str, str]:
    """The lines of dr.toml in which this host is not the example."""
    return {
        '"host=localhost dbname=agents user=pgdrill"': (
            f'"host=localhost port={port(site)} dbname=agents user=pgdrill"'
        ),
        '"/var/lib/postgresql/18/main"': f'"{site.data}"',
        '# bin_dir = "/usr/lib/postgresql/18/bin"': f'bin_dir = "{PROGRAMS}"',
        '# superuser = "postgres"': f'superuser = "{site.user}"',
        '"s3://example-backups/agents"': f'"s3://{site.s3.bucket}/agents"',
        '# endpoint_url = ""': f'endpoint_url = "{site.s3.endpoint_url}"',
        '# work_directory = "/var/lib/pgdrill"': f'work_directory = "{site.work}"',
    }


def port(site: Site) -> str:
    return site.good("pg_lsclusters --no-header | awk '{print $3}'").strip()


def _in_pgpass(site: Site) -> str:
    return re.sub(r"([\\:])", r"\\\1", site.password)


def as_here(site: Site, block: str) -> str:
    for printed, typed in host(site).items():
        block = block.replace(printed, typed)
    assert "…" not in block, f"README.md leaves something open here: {block}"
    return block


def follow_readme(site: Site, number: int) -> list[str]:
    """A step's blocks; what each printed."""
    return [site.good(as_here(site, block)) for block in steps()[number]]


def meets(site: Site, reason: str, command: str = BACKUP, *, code: int = 2) -> str:
    """The hint of the error that a command ends with."""
    done = site.run(command)
    assert done.code == code, f"{command}: {done.code}\n{done.stdout}\n{done.stderr}"
    problem = done.problem
    assert problem["reason"] == reason, problem
    assert all(problem.values()), problem
    assert site.password not in done.stdout + done.stderr
    assert site.s3.secret_key not in done.stdout + done.stderr
    return problem["hint"]


@pytest.mark.timeout(900)  # some twenty commands, each a process of its own
def test_the_readme_leads_from_a_clone_to_a_green_drill(site: Site) -> None:
    follow_readme(site, 1)
    site.edit(configuration(site))
    a_work_directory_that_nobody_made(site)
    keys_that_are_not_there(site)
    follow_readme(site, 2)
    _, check = follow_readme(site, 3)
    assert "is valid: 1 cluster" in check
    a_socket_that_asks_the_operating_system(site)
    a_password_that_is_not_there_or_wrong(site)
    assert "archive-command" in meets(site, "archiving-off", code=1)
    *_, restart = steps()[5]
    for block in steps()[5][:-1]:
        site.good(as_here(site, block))
    site.good(as_here(site, restart))
    nothing_to_restore_yet(site)
    rights_that_are_lacking(site)

    (said,) = follow_readme(site, 6)
    for words in ("listed, whole,", "every instant from", "PASSED"):
        assert words in said, said
    report = newest(site)
    assert {result.name for result in report.results if result.status == "warn"} == {
        "page-checksums"
    }
    no_checksums(site, report)

    # no pgvector on this host
    assert "no-vector-column" in site.run(steps()[7][0].partition(" | psql")[0] + " --json").stdout
    follow_readme(site, 8)


def a_work_directory_that_nobody_made(site: Site) -> None:
    hint = COMMANDS.findall(meets(site, "work-directory"))[0]
    assert hint == as_here(site, steps()[3][0])
    site.as_root(hint)
    site.work.chmod(0o500)
    hint = COMMANDS.findall(meets(site, "work-directory"))[0]
    site.as_root(hint)


def keys_that_are_not_there(site: Site) -> None:
    hint = meets(site, "no-keys")
    assert "AWS_ACCESS_KEY_ID" in hint
    assert "repository.conn_id" in hint
    assert "AWS_SECRET_ACCESS_KEY" in meets(site, "half-a-key", f"AWS_ACCESS_KEY_ID=half {BACKUP}")


def a_socket_that_asks_the_operating_system(site: Site) -> None:
    """Debian's own pg_hba.conf: over the socket, one has to be the operating system's user of that
    name.
    """
    create_role(site)
    site.edit({"host=localhost port": f"host={site.home}/sock port"})
    hint = COMMANDS.findall(meets(site, "login-refused"))
    assert hint[0] == "host=localhost user=pgdrill"
    site.edit({f"host={site.home}/sock port": hint[0].split()[0] + " port"})


def create_role(site: Site) -> None:
    site.good(as_here(site, steps()[4][0]).partition("\necho")[0])


def a_password_that_is_not_there_or_wrong(site: Site) -> None:
    hint = meets(site, "login-refused")
    assert "PGPASSWORD" in hint
    assert "Connection agents_postgres" in hint
    meets(site, "login-refused", f"PGPASSWORD=wrong {BACKUP}")
    line = next(words for words in COMMANDS.findall(hint) if words.endswith(":PASSWORD"))
    site.good(
        f"cat >> ~/.pgpass <<'EOF'\n{line.replace('PASSWORD', _in_pgpass(site))}\nEOF\nchmod 0600"
        " ~/.pgpass"
    )
    # the README's own line: the same for any port
    site.good(as_here(site, steps()[4][0]).partition("\nSQL\n")[2])


def nothing_to_restore_yet(site: Site) -> None:
    empty = site.run("pgdrill window agents")
    assert (empty.code, "pgdrill backup" in empty.stdout + empty.stderr) == (2, True), empty
    drill = site.run("pgdrill drill agents --json")
    report = Report.model_validate_json(drill.stdout)
    assert report.restore.trouble, report.summary
    assert (drill.code, report.restore.trouble.reason) == (1, "no-backups"), report.summary
    assert "NO BACKUP" in report.summary
    assert "pgdrill backup" in report.restore.trouble.hint


def rights_that_are_lacking(site: Site) -> None:
    site.sql(
        "REVOKE EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_switch_wal() FROM pgdrill"
    )
    hint = meets(site, "missing-privilege")
    site.sql(COMMANDS.findall(hint)[0])


def newest(site: Site) -> Report:
    return Report.model_validate_json(site.good("pgdrill report agents --json"))


def no_checksums(site: Site, report: Report) -> None:
    """Debian 12 makes clusters without: that is no damage, and can be changed by what the drill and
    the look beforehand say.
    """
    hint = next(
        result.hint
        for result in report.results
        if result.name == "page-checksums" and result.status == "warn"
    )
    look = json.loads(site.run("pgdrill doctor agents --json").stdout)
    (line,) = [one for one in look["lines"] if one["name"] == "checksums"]
    assert line["status"] == "warn"
    assert line["hint"] in hint
    site.good(COMMANDS.findall(line["hint"])[0])
    site.good(f"pg_ctlcluster {VERSION} main start")
    assert site.sql("SHOW data_checksums") == "on"
