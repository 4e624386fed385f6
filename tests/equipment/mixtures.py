"""
Revisions put together by chance of all that ends a transaction, and what must be said of each.

A mixture looks, as its last act, at the rows that are there for it. What it wrote and did not
undo by a savepoint, and is not there, it has lost: then nothing may be recorded. No rule of the
runner's is used to tell.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from core.errors import MigrationError, RevisionFailed
from core.postgres.session import query
from tests.equipment.histories import lines_of
from tests.equipment.site import Site

MAKE_TABLES = """
CREATE TABLE public.written (n int);
CREATE TABLE public.once (n int PRIMARY KEY);
INSERT INTO public.once VALUES (1);
ALTER TABLE public.written OWNER TO postgres;
ALTER TABLE public.once OWNER TO postgres;
"""
MAKE_EMPTY = """
TRUNCATE public.written;
DROP SCHEMA IF EXISTS day2 CASCADE;
DROP TABLE IF EXISTS public.behind;
"""

_WRITE = "op.execute('INSERT INTO public.written VALUES ({n})')"
_RAW = "op.get_bind().connection.driver_connection"
_FAIL = """
try:
    op.execute('INSERT INTO public.once VALUES (1)')
except sa.exc.IntegrityError:
    wrote(-{n})
except sa.exc.DBAPIError:
    pass
"""

# Each is what a revision may do; {n} is a number of its own.
ACTS = {
    "write": f"{_WRITE}\nwrote({{n}})",
    "read": "op.execute('SELECT count(*) FROM public.written')",
    "commit": "op.get_bind().commit()",
    "roll back": "op.get_bind().rollback()",
    "driver commit": f"{_RAW}.commit()",
    "driver roll back": f"{_RAW}.rollback()",
    "driver reset": f"{_RAW}.reset()",
    "driver isolation": f"{_RAW}.set_isolation_level(2)",
    "autocommit on": f"{_RAW}.commit()\n{_RAW}.autocommit = True",
    "autocommit off": f"{_RAW}.commit()\n{_RAW}.autocommit = False",
    "sql commit": "op.execute('COMMIT')",
    "sql roll back": "op.execute('ROLLBACK')",
    "sql commit, begin": "op.execute('COMMIT; BEGIN')",
    "sql roll back, begin": "op.execute('ROLLBACK; BEGIN')",
    "sql chain": "op.execute('ROLLBACK AND CHAIN')",
    "rehearsed script": (
        "op.execute('BEGIN; INSERT INTO public.written VALUES ({n}); ROLLBACK')\nwrote({n})"
    ),
    "script of two": (
        "op.execute('INSERT INTO public.written VALUES ({n}); COMMIT;"
        " BEGIN; INSERT INTO public.written VALUES (1000 + {n})')\nwrote({n})\nwrote(1000 + {n})"
    ),
    "error": "try:\n    op.execute('SELECT 1 / 0')\nexcept sa.exc.DBAPIError:\n    pass",
    "failing write": _FAIL,
    "savepoint": (
        f"with op.get_bind().begin_nested():\n    {_WRITE}\n"
        # Only where it was released is it the transaction's.
        "wrote({n})"
    ),
    "savepoint undone": f"nested = op.get_bind().begin_nested()\n{_WRITE}\nnested.rollback()",
    "savepoint failed": (
        "try:\n"
        "    with op.get_bind().begin_nested():\n"
        "        op.execute('INSERT INTO public.once VALUES (1)')\n"
        "except sa.exc.IntegrityError:\n"
        "    pass"
    ),
    "sql savepoint undone": (
        "op.execute('SAVEPOINT here; INSERT INTO public.written VALUES ({n}); ROLLBACK TO here')"
    ),
    "block in a function": (
        "op.execute('DO $$ BEGIN BEGIN INSERT INTO public.once VALUES (1);"
        " EXCEPTION WHEN unique_violation THEN NULL; END; END $$')"
    ),
    "engine write": (
        "with op.get_bind().engine.begin() as other:\n"
        "    other.exec_driver_sql('INSERT INTO public.written VALUES ({n})')\n"
        "wrote({n})"
    ),
    "engine lost": (
        "with op.get_bind().engine.connect() as other:\n"
        "    other.exec_driver_sql('INSERT INTO public.written VALUES ({n})')\n"
        "wrote({n})"
    ),
    "engine left open": (
        "other = op.get_bind().engine.connect()\n"
        "other.exec_driver_sql('INSERT INTO public.written VALUES ({n})')\n"
        "wrote({n})"
    ),
    "engine read": "sa.inspect(op.get_bind().engine).get_table_names()",
    "engine autocommit": (
        "with op.get_bind().engine.connect() as other:\n"
        "    other = other.execution_options(isolation_level='AUTOCOMMIT')\n"
        "    other.exec_driver_sql('INSERT INTO public.written VALUES ({n})')\n"
        "wrote({n})"
    ),
    "autocommit block": (
        f"with op.get_context().autocommit_block():\n    {_WRITE}\n    wrote({{n}})"
    ),
    "procedure that rolls back": (
        "with op.get_context().autocommit_block():\n"
        "    op.execute('DO $$ BEGIN INSERT INTO public.written VALUES ({n}); ROLLBACK; END $$')\n"
        "    wrote({n})"
    ),
    "orm commit": (
        "with Session(bind=op.get_bind()) as orm:\n"
        "    orm.execute(sa.text('INSERT INTO public.written VALUES ({n})'))\n"
        "    wrote({n})\n"
        "    orm.commit()"
    ),
    "orm roll back": (
        "with Session(bind=op.get_bind()) as orm:\n"
        "    orm.execute(sa.text('INSERT INTO public.written VALUES ({n})'))\n"
        "    wrote({n})\n"
        "    orm.rollback()"
    ),
}
# A transaction of these alone has an id, though all that it wrote is undone: rolled back as a
# whole it may be told as lost, or not.
UNDONE = {"savepoint undone", "savepoint failed", "sql savepoint undone", "block in a function"}

# A mixture of these alone loses nothing.
HARMLESS = ("write", "read", "savepoint", "savepoint undone", "savepoint failed", "engine read")

_HEAD = '''"""A mixture"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

from tests.equipment import mixtures

revision = "{name}"
down_revision = {below!r}
wrote = mixtures.happened.wrote.append


def upgrade() -> None:
'''
_LOOK = """
mixtures.happened.saw = [
    n for (n,) in op.get_bind().exec_driver_sql('SELECT n FROM public.written')
]
mixtures.happened.has_ended = True
"""


@dataclass
class Happened:
    """
    What a mixture did, by its own account.

    Attributes:
        wrote: What it wrote and did not undo by a savepoint; a negative number is a statement
            that wrote and then failed.
        saw: The rows that it saw in the end.
    """

    wrote: list[int] = field(default_factory=list)
    saw: list[int] = field(default_factory=list)
    has_ended: bool = False

    @property
    def has_lost(self) -> bool:
        """Whether something that it wrote is not there."""
        return not set(self.wrote) <= set(self.saw)


happened = Happened()


def drawn(chance: random.Random) -> list[str]:
    """Draw the names of a mixture's acts."""
    names = HARMLESS if chance.random() < 0.15 else tuple(ACTS)
    return [chance.choice(names) for _ in range(chance.randint(1, 7))]


def try_out(site: Site, folder: Path, acts: Sequence[str]) -> list[str]:
    """
    Run a revision of *acts*, and one behind it, on the emptied tables of *site*.

    Returns:
        What is wrong with what was reported of it.
    """
    global happened  # noqa: PLW0603 - the revision finds it here
    happened = Happened()
    body = "\n".join(ACTS[act].replace("{n}", str(number)) for number, act in enumerate(acts, 1))
    revisions = lines_of(
        folder,
        {
            "m1": _HEAD.format(name="m1", below=None) + _indented(body + _LOOK),
            "m2": _HEAD.format(name="m2", below="m1")
            + _indented("op.execute('CREATE TABLE public.behind ()')"),
        },
    )
    with closing(site.server.superuser("shop")) as session:
        query(session, MAKE_EMPTY)
    failure: MigrationError | None = None
    try:
        report = site.run(revisions=revisions).report
    except MigrationError as error:
        failure, found = error, error.report
        assert found is not None
        report = found
    rows = sorted(n for (n,) in site.query("SELECT n FROM public.written"))
    recorded = [name for (name,) in site.query("SELECT revision FROM day2.history ORDER BY id")]
    is_behind = site.query("SELECT to_regclass('public.behind')") != [(None,)]
    text = str(failure or "")
    may_fail = UNDONE & set(acts) and "rolled back its own work" in text
    must_fail = happened.has_lost or not happened.has_ended or bool(may_fail)
    rules: Sequence[tuple[bool, str]] = (
        (must_fail == (failure is not None), f"must fail: {must_fail}, was told {text!r}"),
        (failure is None or isinstance(failure, RevisionFailed), f"{type(failure).__name__}"),
        (report.applied == recorded, f"told {report.applied}, the history has {recorded}"),
        (recorded == ([] if must_fail else ["m1", "m2"]), f"recorded {recorded}"),
        (is_behind is not must_fail, f"m2 was run: {is_behind}"),
        (must_fail or rows == sorted(happened.wrote), f"wrote {happened.wrote}, there is {rows}"),
        (not (rows and failure) or "is kept" in text, f"{rows} is kept, was told {text!r}"),
        (not rows or "nothing of it is kept" not in text, f"{rows} is kept, told {text!r}"),
        (
            not (happened.has_ended and happened.has_lost) or "rolled back its own work" in text,
            f"lost its work, was told {text!r}",
        ),
    )
    return [problem for holds, problem in rules if not holds]


def make_tables(site: Site) -> None:
    """Make what mixtures write to, on an empty *site*."""
    with closing(site.server.superuser("shop")) as session:
        query(session, MAKE_TABLES)


def try_many(
    site: Site, folder: Path, *, count: int, seed: int, tell: Callable[[str], None]
) -> dict[str, list[str]]:
    """Try *count* mixtures drawn with *seed*; return what was wrong, by mixture."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    make_tables(site)
    wrong = {}
    for number in range(count):
        acts = drawn(chance)
        try:
            problems = try_out(site, folder / str(number), acts)
        except (Exception, psycopg2.Error) as error:  # noqa: BLE001 - a mixture that breaks us
            problems = [f"{type(error).__name__}: {error}"]
        if problems:
            wrong[f"{number}: {', '.join(acts)}"] = problems
            tell(f"{number}: {', '.join(acts)}: {problems}")
    return wrong


def _indented(body: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
