"""Pages looked at while a backup arrives: a real restore leaves real files, and damage after that is the server's to find."""

from __future__ import annotations

import json

from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.pages_ahead import Found, look, relation_files
from pgdrill.report import Report
from pgdrill.workspace import Workspace
from tests.integration.conftest import Copy, nothing_left


def page_checksums(report: Report) -> list[tuple[str, str]]:
    return [(one.status, one.thing) for one in report.results if one.name == "page-checksums"]


def test_pages_of_a_restored_cluster_are_sound_to_us_and_damage_that_comes_later_is_found_by_the_server(copy: Copy) -> None:
    access, drill_id = copy.access(), new_drill_id()
    workspace = Workspace.of(access, drill_id)
    try:
        report = restore_stage(access, drill_id)
        assert report.restore.status == "ok", report.restore.trouble
        assert workspace.sound_pages.exists()  # however much it came to, on a host as busy as this one
        data = workspace.data_directory.resolve()
        every = list(relation_files([data]))
        seen: dict[str, tuple[int, int]] = {}
        sound = dict(look([data], seen, lambda: None))
        assert len(sound) > 0.9 * len(every)  # all but what the server has written just now
        assert seen.keys() - sound.keys() == set()  # every one that was looked at
        workspace.sound_pages.write_text("".join(json.dumps([path, *now]) + "\n" for path, now in sound.items()))
        with workspace.server(access).connect("agents") as connection:
            name, path = connection.execute(
                "SELECT c.oid::regclass::text, pg_relation_filepath(c.oid) FROM pg_class c WHERE relkind = 'r' AND relpersistence = 'p'"
                " AND relname = 'pg_description'"  # which neither replay nor the server's start has read into memory
            ).fetchone()  # type: ignore[misc]
        assert Found(workspace.sound_pages).whole(data / path)
        content = bytearray((data / path).read_bytes())
        content[5000] ^= 1
        (data / path).write_bytes(content)
        assert not Found(workspace.sound_pages).whole(data / path)
        found = page_checksums(check_stage(access, drill_id, families=["integrity"]))
        assert ("fail", f"agents.{name}") in found
        assert [status for status, _ in found].count("fail") == 1
        assert "pass" in [status for status, _ in found]
    finally:
        destroy_stage(access, drill_id)
    nothing_left(access, drill_id)
