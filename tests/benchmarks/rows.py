"""Every row of the table: what is measured, against what, and how far apart they may be."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.revisions.runner import Revisions
from infra import package
from infra.local.local_aws import LocalAws, interpreter
from infra.local.state import free_port
from tests.benchmarks import histories, ours
from tests.benchmarks.databases import Databases, apply_raw, look
from tests.benchmarks.fleet import roll_forward
from tests.benchmarks.functions import Account, Trees
from tests.benchmarks.measure import Ended, Measured, milliseconds, run, take_turns
from tests.benchmarks.peers import Peer, Peers, install

FEW, SOME, MANY = 4, 100, 1000
FUNCTION_MEMORY_MB = 512
TO_BEAT = ("alembic", "yoyo", "pyway", "sqitch")

# Import the third-party modules that the handler needs, in the order in which it imports them.
IMPORT_OURS = "import handlers.dispatcher\n"
LIST_THIRD_PARTY = IMPORT_OURS + (
    "import sys\n"
    "for name, module in sys.modules.items():\n"
    "    file = getattr(module, '__file__', None) or ''\n"
    "    if file.startswith({roots}): print(name)\n"
)
# A process of Lambda's is never torn down.
LEAVE = "import os; os._exit(0)\n"


@dataclass(frozen=True)
class Row:
    """
    One line of the table.

    Attributes:
        value: The ratio, or megabytes for a size.
        limit: What *value* must not exceed; ``None`` where it stands beside us for honesty.
        detail: The medians that it comes from.
    """

    measure: str
    against: str
    value: float
    limit: float | None
    detail: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the limit is kept; ``None`` without one."""
        return None if self.limit is None else self.value <= self.limit


def compared(
    measure: str, found: Measured, sides: tuple[str, str], limit: float | None, against: str
) -> Row:
    """Return the row of two *sides* of *found*, ours first."""
    detail = f"{found.median(sides[0]):.1f} : {found.median(sides[1]):.1f} ms"
    values = {name: list(found.values[name]) for name in sides}
    return Row(measure, against, found.ratio(*sides), limit, detail, values)


class Bench:
    """
    What the rows are measured on, each part of it started when a row needs it.

    Args:
        folder: For what is measured; it is gone afterwards.
        output: For what is installed to be compared with; it stays.
        ends: Takes what ends the parts.
    """

    def __init__(self, folder: Path, output: Path, aws: LocalAws, ends: ExitStack) -> None:
        self.folder = folder
        self._output = output
        self._aws = aws
        self._ends = ends

    @cached_property
    def databases(self) -> Databases:
        """A server of the benchmark's own."""
        databases = Databases.start(self.folder)
        self._ends.callback(databases.server.remove)
        return databases

    @cached_property
    def trees(self) -> Trees:
        """Our package, and variants."""
        return Trees.build(self.folder)

    @cached_property
    def account(self) -> Account:
        """The local AWS."""
        self._aws.up(port=free_port())
        return Account.prepare(self._aws)

    @cached_property
    def peers(self) -> Peers:
        """The other tools."""
        return install(self._output, self.databases)

    def rows(self, wanted: Collection[str]) -> Iterator[Row]:
        """Measure the groups *wanted*, row after row; all when none is named."""
        for name, measure in self.groups.items():
            if not wanted or name in wanted:
                yield from measure()

    @cached_property
    def groups(self) -> Mapping[str, Callable[[], Iterator[Row]]]:
        """The groups of rows, by the name that a call asks for them by."""
        return {
            "cold": self.cold,
            "imports": self.imports,
            "warm": self.warm,
            "slope": self.slope,
            "applying": self.applying,
            "memory": self.memory,
            "sizes": self.sizes,
            "fleet": lambda: roll_forward(self.account.aws),
        }

    @cached_property
    def code(self) -> dict[int, Path]:
        """Our function with so many revisions."""
        return {count: self.trees.ours(count) for count in (FEW, SOME, MANY)}

    def cold(self) -> Iterator[Row]:
        """Measure first invocations of new processes."""
        layer, account = self.trees.layer, self.account
        usual_code, usual_layer = self.trees.usual(FEW), self.trees.usual_layer()
        sides = {
            "ours": (account.ours(self.code[FEW], layer), "ours"),
            "usual": (account.usual(usual_code, usual_layer), "usual"),
            "bare": (
                account.usual(
                    self.trees.without_byte_code(usual_code),
                    self.trees.without_byte_code(usual_layer),
                ),
                "usual",
            ),
        }
        log = self.folder / "cold.log"

        def calling(name: str, *, is_fresh: bool) -> Callable[[], float]:
            function, database = sides[name]

            def call() -> float:
                if is_fresh:
                    account.make_database(database)
                return function.first_call({"secret_name": f"benchmark/{database}"}, log)

            return call

        for measure, is_fresh, limit in (
            (f"cold first invocation, {FEW} revisions", True, 0.80),
            ("cold first invocation, up to date", False, 0.75),
        ):
            calls = {name: calling(name, is_fresh=is_fresh) for name in sides}
            bare = calls.pop("bare")
            found = take_turns(11, calls)
            yield compared(measure, found, ("ours", "usual"), limit, "usual handler")
            found = take_turns(2, {"ours": calls["ours"], "bare": bare}, warm_up=False)
            yield compared(measure, found, ("ours", "bare"), None, "usual, no byte code shipped")

        def status(count: int) -> Callable[[], float]:
            function = account.ours(self.code[count], layer)
            event = {"secret_name": f"benchmark/at_{count}", "action": "status"}
            return lambda: function.first_call(event, log)

        for count in (FEW, MANY):
            account.make_secret(f"at_{count}")
            account.make_database(f"at_{count}")
            function = account.ours(self.code[count], layer)
            function.first_call({"secret_name": f"benchmark/at_{count}"}, log)
        found = take_turns(5, {"many": status(MANY), "few": status(FEW)})
        yield compared(
            f"cold status at {MANY} revisions", found, ("many", "few"), 1.6, f"ours at {FEW}"
        )

    def imports(self) -> Iterator[Row]:
        """Measure imports of the built package."""
        code, layer = self.trees.function, self.trees.layer
        fresh = (self.trees.freshly_compiled(code), self.trees.freshly_compiled(layer))
        environment = self.account.ours(code, layer).variables()

        def program(text: str, paths: tuple[Path, Path]) -> Ended:
            given = environment | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
            return run([interpreter("lambda"), "-c", text], given)

        roots = str((str(layer), str(interpreter("lambda").parents[1])))
        names = program(LIST_THIRD_PARTY.format(roots=roots), (code, layer)).output.split()
        floor = "".join(f"import {name}\n" for name in names if "__main__" not in name)
        found = take_turns(
            25,
            {
                "ours": lambda: program(IMPORT_OURS + LEAVE, (code, layer)).wall_ms,
                "floor": lambda: program(floor + LEAVE, (code, layer)).wall_ms,
                "fresh": lambda: program(IMPORT_OURS + LEAVE, fresh).wall_ms,
            },
        )
        yield compared("import of our handler", found, ("ours", "floor"), 1.10, "its third parties")
        yield compared(
            "import of the built package", found, ("ours", "fresh"), 1.05, "freshly compiled"
        )

    def warm(self) -> Iterator[Row]:
        """Measure runs that find nothing to do, in a process that has run before."""
        revisions = {count: Revisions(self.code[count] / "alembic.ini") for count in (FEW, MANY)}
        for count, history in revisions.items():
            self.databases.make(f"warm_{count}")
            self.migrate(history, f"warm_{count}")
        found = take_turns(
            41,
            {
                "few": lambda: milliseconds(lambda: self.migrate(revisions[FEW], f"warm_{FEW}")),
                "floor": lambda: milliseconds(lambda: look(self.databases, f"warm_{FEW}")),
                "many": lambda: milliseconds(lambda: self.migrate(revisions[MANY], f"warm_{MANY}")),
            },
        )
        yield compared(
            "warm up-to-date run", found, ("few", "floor"), 1.7, "connect, select, close"
        )
        yield compared(f"… at {MANY} revisions", found, ("many", "few"), 1.15, f"ours at {FEW}")

    def slope(self) -> Iterator[Row]:
        """Measure what one more trivial revision costs."""

        def applied(count: int, side: str) -> float:
            self.databases.make("slope")
            if side == "raw":
                statements = histories.statements(count)
                return milliseconds(lambda: apply_raw(self.databases, "slope", statements))
            # A new container each time, but for the imports.
            revisions = Revisions(self.code[count] / "alembic.ini")
            return milliseconds(lambda: self.migrate(revisions, "slope"))

        def slope(side: str) -> float:
            return (applied(MANY, side) - applied(FEW, side)) / (MANY - FEW)

        found = take_turns(3, {"ours": lambda: slope("ours"), "raw": lambda: slope("raw")})
        detail = f"{found.median('ours'):.2f} : {found.median('raw'):.2f} ms a revision"
        ratio = found.ratio("ours", "raw")
        yield Row("slope of applying", "raw psycopg2 loop", ratio, 2.0, detail, dict(found.values))

    def applying(self) -> Iterator[Row]:
        """Measure whole processes that apply many revisions to an empty database."""
        # Alembic is the one that comes near, so it takes more turns.
        for count, rounds_of_alembic, rounds_of_others in ((SOME, 9, 2), (MANY, 3, 1)):
            ours = self._process(None, count)
            peers = {
                peer.name: self._process(peer, count)
                for peer in self.peers.found
                if not (peer.is_slow and count == MANY)
            }
            near = [name for name in peers if name == "alembic"]
            others = [name for name in peers if name != "alembic"]
            for names, rounds in ((near, rounds_of_alembic), (others, rounds_of_others)):
                sides = {"ours": ours, **{name: peers[name] for name in names}}
                found = take_turns(rounds, sides, warm_up=count == SOME)
                for name in names:
                    limit = 1.0 if name in TO_BEAT else None
                    measure = f"applying {count} revisions"
                    yield compared(measure, found, ("ours", name), limit, name)

    def memory(self) -> Iterator[Row]:
        """Measure the most memory that a run ever holds."""
        mine = [self.apply_ours(MANY).peak_mb for _ in range(2)]
        detail = f"{mine[-1]:.0f} MB"
        yield Row(
            f"peak memory over {MANY} revisions",
            "the function's MB",
            mine[-1],
            FUNCTION_MEMORY_MB,
            detail,
        )
        for peer in self.peers.found:
            if peer.name != "alembic":
                continue
            theirs = self.apply_theirs(peer, MANY).peak_mb
            detail = f"{mine[-1]:.0f} : {theirs:.0f} MB"
            ratio = mine[-1] / theirs
            yield Row(f"peak memory over {MANY} revisions", "alembic upgrade", ratio, 1.3, detail)

    def sizes(self) -> Iterator[Row]:
        """Measure the package as Lambda takes it."""
        folder = self.trees.function.parent
        archives = [folder / "function.zip", folder / "layer.zip"]
        zipped = sum(archive.stat().st_size for archive in archives) / package.MEGABYTE
        unzipped = sum(map(package.unzipped_size, archives)) / package.MEGABYTE
        binary = next(self._output.rglob("@dbmate/*/bin/dbmate*"), None)
        beside = (
            f"dbmate's binary: {binary.stat().st_size / package.MEGABYTE:.1f} MB" if binary else ""
        )
        yield Row("package, zipped, MB", "our promise", zipped, 15.0)
        yield Row("package, unzipped, MB", "our promise", unzipped, 45.0, beside)

    def migrate(self, revisions: Revisions, database: str) -> None:
        """Run ours in this process."""
        port = self.databases.server.port
        ours.migrate(revisions, str(self.databases.ca_file), port, database)

    def apply_ours(self, count: int) -> Ended:
        """Run ours as a whole process, from its package, on a new database."""
        self.databases.make("applying")
        paths = (self.code[count], self.trees.layer)
        ended = run(
            [
                *(interpreter("lambda"), ours.__file__, self.databases.ca_file),
                *(self.databases.server.port, "applying"),
            ],
            {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._check("ours", count)
        return ended

    def _process(self, peer: Peer | None, count: int) -> Callable[[], float]:
        if peer is None:
            return lambda: self.apply_ours(count).wall_ms
        return lambda: self.apply_theirs(peer, count).wall_ms

    def apply_theirs(self, peer: Peer, count: int) -> Ended:
        """Run *peer* on a new database."""
        folder = self.folder / f"{peer.name}-{count}"
        if not folder.exists():
            peer.prepare(folder, count, "applying")
        self.databases.make("applying")
        environment = self.databases.addressed("applying")
        ended = run(peer.command(folder, "applying"), environment, folder)
        self._check(peer.name, count)
        return ended

    def _check(self, name: str, count: int) -> None:
        """Whoever is fast has to have done it all."""
        made = self.databases.schemas("applying")
        if made != count:
            raise AssertionError(f"{name} made {made} of {count} schemas")
