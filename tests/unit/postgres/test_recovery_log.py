"""A recovery's parts as the server's log has them."""

from __future__ import annotations

from pgdrill.postgres.recovery_log import checkpoint_seconds, redo_seconds

LOG = """\
2026-11-24 14:53:44.351 UTC [30] LOG:  restartpoint starting: wal
2026-11-24 14:53:45.319 UTC [32] LOG:  redo done at 0/AA033140 system usage: \
CPU: user: 0.33 s, system: 0.22 s, elapsed: 5.14 s
2026-11-24 14:53:46.087 UTC [30] LOG:  restartpoint complete: wrote 2504 buffers (0.6%); \
write=1.326 s, sync=0.082 s, total=1.736 s; sync files=30
2026-11-24 14:53:46.091 UTC [30] LOG:  checkpoint starting: end-of-recovery immediate wait
2026-11-24 14:53:46.587 UTC [30] LOG:  checkpoint complete: wrote 209 buffers (0.1%); \
write=0.011 s, sync=0.006 s, total=0.497 s; sync files=9
2026-11-24 14:53:49.047 UTC [30] LOG:  checkpoint starting: immediate force wait
2026-11-24 14:53:49.113 UTC [30] LOG:  checkpoint complete: wrote 46 buffers (0.0%); \
write=0.049 s, sync=0.002 s, total=0.066 s; sync files=7
"""


def test_redo_and_the_checkpoint_before_the_server_opens_are_found_among_others() -> None:
    assert (redo_seconds(LOG), checkpoint_seconds(LOG)) == (5.14, 0.497)


def test_nothing_to_replay_is_not_zero_seconds() -> None:
    assert (redo_seconds(""), checkpoint_seconds("")) == (None, None)
