"""Invented histories of a cluster, and a repository that restores: written without the planner's
own notions.

A tick is one archived segment with the moment at which it was written. Restoring an instant is
walking the ticks that lead to it, one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from pgdrill.postgres.wal import Segment, TimelineSwitch
from pgdrill.repository.wal_ranges import Wal, parse_wal
from pgdrill.retention.inventory import Backup, Dump, Hold, Inventory, ToolRules, Unreadable
from pgdrill.retention.plan import Plan, Step

BEGIN = datetime(2026, 1, 4, 2, tzinfo=UTC)
SIZE = 16 * 2**20
HOUR = timedelta(hours=1)
SEGMENT_STORED = 1000


@dataclass(frozen=True)
class Tick:
    """A segment, complete at ``at``."""

    timeline: int
    number: int
    at: datetime


@dataclass
class World:
    """A cluster with its archive.

    ``ticks`` is the way that leads to now; what was written on abandoned ways is archived too.
    """

    random: Random
    now: datetime = BEGIN
    timeline: int = 1
    number: int = 1
    system: tuple[int, int] = (7, 18)
    ticks: list[Tick] = field(default_factory=list)
    histories: dict[int, tuple[TimelineSwitch, ...]] = field(default_factory=dict)
    archive: set[tuple[int, int]] = field(default_factory=set)
    backups: dict[str, Backup] = field(default_factory=dict)
    # backup -> its first tick's place in ``ticks`` at the time
    starts: dict[str, int] = field(default_factory=dict)
    drilled: dict[str, datetime] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)
    dumps: dict[str, Dump] = field(default_factory=dict)
    unreadable: dict[str, Unreadable] = field(default_factory=dict)
    # timeline -> when its newest segment was
    written: dict[int, datetime] = field(default_factory=dict)
    lies: bool = False

    def write(self, segments: int, span: timedelta) -> None:
        """Production writes, and archives."""
        for _ in range(segments):
            self.now += span / segments
            self.ticks.append(Tick(self.timeline, self.number, self.now))
            self.archive.add((self.timeline, self.number))
            self.written[self.timeline] = self.now
            self.number += 1

    def back_up(self, delta: bool = False) -> str:
        """A base backup: starts in a new segment, ends with it."""
        name = f"base_{Segment(self.timeline, self.number).name}"
        whole = [
            b
            for b in self.backups.values()
            if b.system == self.system and b.timeline == self.timeline and not b.damage
        ]
        parent = max(whole, key=lambda b: b.start_time).name if delta and whole else ""
        if parent:
            name += f"_D_{parent[5:29]}"
        started, start_lsn = self.now, self.number * SIZE + 40
        self.write(1, HOUR)
        self.backups[name] = Backup(
            name,
            *self.system,
            self.timeline,
            start_lsn,
            self.number * SIZE - 100,
            started,
            self.now,
            parent=parent,
            stored_bytes=10_000,
        )
        return name

    def drill(self, name: str) -> None:
        """A drill of a backup passes."""
        self.drilled[name] = self.now

    def lose(self, timeline: int, number: int) -> None:
        """A segment is lost."""
        self.archive.discard((timeline, number))

    def fail_over(self) -> None:
        """A standby is promoted in the middle of the current segment, and its history is
        archived."""
        self._branch(self.number * SIZE + 500)

    def restore_to(self, place: int) -> None:
        """Production is restored to an earlier tick and goes on from there on a new timeline."""
        tick = self.ticks[place]
        self.ticks = self.ticks[: place + 1]
        self.timeline = tick.timeline
        self._branch(tick.number * SIZE + 700, tick.number)

    def _branch(self, lsn: int, number: int | None = None) -> None:
        new = max([self.timeline, *self.histories]) + 1
        self.histories[new] = (
            *self.histories.get(self.timeline, ()),
            TimelineSwitch(self.timeline, lsn),
        )
        self.timeline = new
        self.number = self.number if number is None else number

    def upgrade(self) -> None:
        """pg_upgrade: another system identifier, the next major version, timeline 1, WAL numbers go
        on.
        """
        self.system = (self.system[0] + 1, self.system[1] + 1)
        self.ticks, self.timeline, self.number = [], 1, self.number + 10

    def inventory(self, rules: ToolRules | None = None) -> Inventory:
        """As the planner sees it."""
        sizes = {Segment(*position).name: SEGMENT_STORED for position in self.archive}
        return Inventory(
            backups=tuple(self._seen(backup) for backup in self.backups.values()),
            wal=Wal(parse_wal(sizes), dict(self.histories)),
            dumps=tuple(self.dumps.values()),
            unreadable=tuple(self.unreadable.values()),
            drilled=dict(self.drilled),
            holds=tuple(self.holds),
            rules=rules or ToolRules(),
            written=dict(self.written),
        )

    def timelines(self) -> list[str]:
        """Every archived timeline, as somebody names them who knows nothing of what they lead
        to."""
        return sorted({f"{line:08X}" for line, _ in self.archive})

    def _seen(self, backup: Backup) -> Backup:
        """With the damage that a look at the repository would find."""
        segments = range(backup.start_lsn // SIZE, (backup.finish_lsn - 1) // SIZE + 1)
        lacking = [number for number in segments if (backup.timeline, number) not in self.archive]
        return replace(backup, damage=backup.damage or ("own WAL missing" if lacking else ""))

    def do(self, step: Step, plan: Plan) -> None:
        """One step of a plan, as a tool does it."""
        match step.kind:
            case "mark" | "unmark":
                self.backups[step.name] = replace(
                    self.backups[step.name], mark="pgdrill" if step.kind == "mark" else ""
                )
            case "delete-backup":
                for other in [b for b in self.backups.values() if b.parent == step.name]:
                    raise AssertionError(f"{step.name} deleted under {other.name}")
                del self.backups[step.name]
            case "delete-dump":
                del self.dumps[step.name]
            case "delete-wal":
                self._free(step.name)
            case "delete-timeline":
                self.archive = {
                    position for position in self.archive if position[0] != int(step.name, 16)
                }

    def _free(self, first_kept: str) -> None:
        """wal-g's ``delete garbage ARCHIVES``: before the first backup not permanent, but for the
        permanent ones' own.
        """
        free = [b for b in self.backups.values() if not b.mark]
        oldest = min(free, key=lambda b: (b.timeline, b.start_lsn))
        assert not oldest.parent, "wal-g frees nothing before a delta"
        cut = (oldest.timeline, oldest.start_lsn // SIZE)
        assert Segment(*cut).name == first_kept, "the tool would draw the line elsewhere"
        own = {
            (b.timeline, n)
            for b in self.backups.values()
            if b.mark
            for n in range(b.start_lsn // SIZE, (b.finish_lsn - 1) // SIZE + 1)
        }
        self.archive = {position for position in self.archive if position >= cut or position in own}

    def restorable(self, name: str) -> bool:
        """Whether a backup can be restored to its own end."""
        chain, step = [], name
        while step:
            if step not in self.backups or step in chain:
                return False
            chain.append(step)
            step = self.backups[step].parent
        backup = self.backups[name]
        own = range(backup.start_lsn // SIZE, (backup.finish_lsn - 1) // SIZE + 1)
        return not any(self.backups[b].damage for b in chain) and all(
            (backup.timeline, n) in self.archive for n in own
        )

    def instants(self, since: datetime) -> set[datetime]:
        """Every instant from ``since`` on that can be restored now, by walking the way from each
        backup.
        """
        place = {(tick.timeline, tick.number): index for index, tick in enumerate(self.ticks)}
        found: set[datetime] = set()
        for name, backup in self.backups.items():
            at = place.get((backup.timeline, backup.start_lsn // SIZE))
            if at is None or backup.system != self.system or not self.restorable(name):
                continue
            for tick in self.ticks[at:]:
                if not self._readable(tick):
                    break
                if tick.at >= max(backup.finish_time, since):
                    found.add(tick.at)
        return found

    def _readable(self, tick: Tick) -> bool:
        return (tick.timeline, tick.number) in self.archive


def invented(random: Random, days: int, *, adverse: bool = True) -> World:
    """A history of some days with about everything that happens to clusters."""
    world = World(random)
    world.write(2, timedelta(days=1))
    world.back_up()
    every = random.choice([1, 2, 3, 7])
    for day in range(days):
        world.write(random.randint(1, 3), timedelta(hours=random.choice([12, 23, 30])))
        luck = random.random()
        if day % every == 0 or luck < 0.03:
            name = world.back_up(delta=random.random() < 0.3)
            if random.random() < 0.4:
                world.drill(name)
        if random.random() < 0.1:
            dump = f"dump-{len(world.dumps)}"
            world.dumps[dump] = Dump(
                dump, world.now, 500, "unreadable archive" if random.random() < 0.2 else ""
            )
        if adverse and random.random() < 0.15:
            mishap(world)
    return world


def mishap(world: World) -> None:
    """Something happens, or nothing."""
    what = world.random.choice(
        [
            "fail over",
            "restore",
            "lose",
            "damage",
            "hold",
            "mark",
            "future",
            "skew",
            "upgrade",
            "abandon",
            "clone",
        ]
    )
    name = world.random.choice(list(world.backups))
    if what in ("damage", "hold", "mark", "future", "skew"):
        to_a_backup(world, what, name)
    elif what in ("restore", "fail over", "clone", "upgrade"):
        to_the_cluster(world, what)
    else:
        to_the_repository(world, what)


def to_a_backup(world: World, what: str, name: str) -> None:
    """It is damaged, held, marked by hand, or of a host whose clock was wrong."""
    random, backup = world.random, world.backups[name]
    match what:
        case "damage":
            world.backups[name] = replace(backup, damage="part_003 missing")
        case "hold":
            until = world.now + timedelta(days=random.randint(1, 60))
            world.holds.append(Hold(name, "a lawsuit", until))
        case "mark" if random.random() < 0.5:
            world.backups[name] = replace(backup, mark="hand")
        case "future" | "skew" if random.random() < 0.5:
            days = 400 if what == "future" else random.choice([-300, -20, 9])
            by = timedelta(days=days)
            world.backups[name] = replace(
                backup, start_time=backup.start_time + by, finish_time=backup.finish_time + by
            )
            world.lies = True


def to_the_cluster(world: World, what: str) -> None:
    """It fails over, is restored or upgraded, or another one is made of it."""
    random = world.random
    match what:
        case "fail over":
            world.fail_over()
        case "restore" if len(world.ticks) > 10:
            world.restore_to(len(world.ticks) - random.randint(2, 8))
        case "upgrade" if random.random() < 0.1:
            world.upgrade()
            world.back_up()
        case "clone":
            clone(world)


def clone(world: World) -> None:
    """Another one archives into the same repository: of before the first backup, or of production
    as it is.
    """
    random = world.random
    line = max([world.timeline, *world.histories]) + 1
    early = random.random() < 0.5
    way, first = ((), 1) if early else (world.histories.get(world.timeline, ()), world.number)
    world.histories[line] = (
        *way,
        TimelineSwitch(1 if early else world.timeline, first * SIZE + 300),
    )
    world.archive |= {(line, number) for number in range(first, first + random.randint(1, 4))}
    world.written[line] = world.now


def to_the_repository(world: World, what: str) -> None:
    """It loses a segment, or a backup that was not ended is left in it."""
    random = world.random
    if what == "lose" and random.random() < 0.3 and len(world.archive) > 5:
        world.lose(*random.choice(sorted(world.archive)))
    elif what == "abandon" and random.random() < 0.3:
        name = f"broken-{len(world.unreadable)}"
        place = random.choice([None, (world.timeline, world.number)])
        world.unreadable[name] = Unreadable(name, "no JSON", place)
