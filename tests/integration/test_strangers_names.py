"""
Nothing of a stranger's runs, whatever name our statements look up.

Every statement that the product sends is recorded from its actions, refusals and rare paths. The
same is then done on a database where each function, operator, type and relation that those
statements name has another behind it, a better match or first on the path. Whatever of that
runs, and as whom, is in the server's log. A new statement is walked as soon as a story sends
it; one that no story sends fails the test, by the line that sends it.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from types import FrameType

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from core import operations
from core.errors import LeftAlone, MigrationError
from core.model import Action, Declared, Parameters, Request, TargetSource, Trigger
from core.postgres.session import Session, query
from core.postgres.transactions import Account
from core.postgres.watching import Watched
from core.postgres.writer import takes_writes
from core.revisions.marks import MADE, mark_role
from core.settings import ROOT
from infra.local.postgres.server import Server
from tests.equipment import shadows
from tests.equipment.histories import history_of
from tests.equipment.site import DATABASE, INSTANCE, MASTER_SECRET, RDS_ROLES, Site, make_empty
from tests.integration.test_command_line import url_of

# A revision that sets a path of its own, to a stranger's schema: what the helpers and the loop
# send looks up nothing there.
THERE = "op.execute('SET search_path = evil, public, pg_catalog')"
SENDERS = {
    query.__code__,
    Session.ask.__code__,
    Watched.execute.__code__,
}

ENV = ROOT / "alembic" / "env.py"

Story = Callable[[Site, Path], Iterator[object]]


def by_hand(action: Action, target: str, start: str) -> Request:
    """Return the request of a person who goes back, stamps or adopts."""
    return Request(Trigger.DIRECT, action, instance=INSTANCE, target=target, from_revision=start)


def declare(site: Site, target: str) -> None:
    """Let the instance's parameter declare *target*."""
    site.cloud.declared[INSTANCE] = Parameters(
        Declared(target, TargetSource.PARAMETER, f"/day2/{INSTANCE}/target-revision")
    )


def an_ordinary_life(site: Site, _folder: Path) -> Iterator[object]:
    """Up, looked at, checked, a password lost and settled, back and stamped."""
    yield site.run(Action.PLAN)
    yield site.run(target="001")
    declare(site, "001")
    rest = Request(Trigger.REQUEST, instance=INSTANCE, target="002", continues="somebody's")
    yield refused(lambda: site.run(request=rest))
    yield site.run()
    yield site.run(Action.STATUS, None)
    yield site.run(Action.CHECK, None)
    del site.cloud.secrets[f"day2/{INSTANCE}/app_user"]
    yield site.run()
    declare(site, "002")
    allowed = site.settings._replace(allow_rollback=True)
    yield site.run(request=by_hand(Action.ROLLBACK, "002", "004"), settings=allowed)
    declare(site, "004")
    yield site.run(request=by_hand(Action.STAMP, "004", "002"), settings=allowed)


def refused(tried: Callable[[], object]) -> str:
    """Return how what *tried* does is refused: without numbers, which differ from run to run."""
    try:
        tried()
    except (MigrationError, LeftAlone, CommandError) as error:
        return re.sub(r"\d+", "N", f"{type(error).__name__}: {error}")
    raise AssertionError("it was not refused")


def what_others_have(site: Site, _folder: Path) -> Iterator[object]:
    """Leave alone what is there of our names, adopt an older tool's database, and hand it on."""
    site.query("CREATE ROLE app_user LOGIN; CREATE SCHEMA analytics; CREATE SCHEMA day2")
    yield refused(lambda: site.run(request=Request(Trigger.PARAMETER, instance=INSTANCE)))
    site.query("DROP ROLE app_user; DROP SCHEMA analytics; DROP SCHEMA day2")
    yield site.run()
    with closing(site.connect_as_runner()) as session:
        mark_role(session, "app_role", MADE)
    site.query("UPDATE day2.book SET keeper = NULL")
    yield site.run()
    other = site.settings._replace(
        allow_rollback=True, prefix="other", master_secret_name=MASTER_SECRET
    )
    yield refused(lambda: site.run(settings=other))
    adopt = by_hand(Action.ADOPT, "004", "004")
    yield site.run(request=adopt, settings=other)
    site.query(
        "DROP SCHEMA day2 CASCADE; CREATE TABLE public.alembic_version (version_num varchar(32));"
        "INSERT INTO public.alembic_version VALUES (CAST('004' AS varchar))"
    )
    adopt = by_hand(Action.ADOPT, "004", "base")
    allowed = site.settings._replace(allow_rollback=True)
    yield refused(lambda: site.run(request=adopt, settings=allowed))
    site.query("ALTER TABLE public.alembic_version OWNER TO postgres")
    yield site.run(request=adopt, settings=allowed)
    yield site.run(Action.CHECK, None)


def what_is_in_the_way(site: Site, folder: Path) -> Iterator[object]:
    """Another run's lock, a schema not committed, a table's lock, a reader, and damaged books."""
    hasty = site.settings._replace(relation_lock_timeout_ms=100)
    with closing(site.server.superuser(DATABASE)) as holder:
        query(holder, "BEGIN; CREATE SCHEMA day2")
        yield refused(lambda: site.run(settings=hasty))
    impatient = site.settings._replace(lock_wait_seconds=0)
    with site.lock_held() as session:
        yield refused(lambda: site.run(settings=impatient))
        yield takes_writes(session)
    revisions = history_of(
        folder / "busy", {"a1": "op.execute('ALTER TABLE public.busy ADD COLUMN note text')"}
    )
    site.query("CREATE TABLE public.busy (); ALTER TABLE public.busy OWNER TO postgres")
    with closing(site.server.superuser(DATABASE)) as holder:
        query(holder, "BEGIN; LOCK TABLE public.busy")
        few = site.settings._replace(revision_tries=2)
        yield refused(lambda: site.run(revisions=revisions, settings=few))
    yield site.run(revisions=revisions)
    site.query("DROP TABLE day2.history")
    yield refused(lambda: site.run(Action.STATUS, None, revisions=revisions))


HELPERS = {
    "a1": "operations.role('readers')",
    "a2": "operations.login('reports', acts_as='readers')",
    "a3": "operations.login_by_iam('by_iam', member_of=['readers'])",
    "a4": "operations.schema('app', owner='readers'); operations.close_to_public('app');"
    " operations.table('public.kept', 'id int'); operations.table('public.kept', 'id int')",
    "a5": "operations.read_only('reports', schemas=['app'], tables_of=['readers'])",
    "a6": "operations.index('kept_id', on='public.kept', columns='id')",
    "a7": "with operations.as_role('readers'):\n        op.execute('CREATE TABLE app.theirs ()')",
    "a8": "operations.sql_file('sql/plain.sql')",
    "a9": "operations.drop_table_if_empty('public.kept'); operations.drop_schema('app');"
    " operations.drop_login('reports'); operations.drop_role('by_iam')",
}


def every_helper(site: Site, folder: Path) -> Iterator[object]:
    """Each helper, in a revision whose own path is a stranger's."""
    named = set(re.findall(r"operations\.(\w+)\(", " ".join(HELPERS.values())))
    assert named == set(operations.__all__)
    revisions = history_of(folder, {one: f"{THERE}\n    {body}" for one, body in HELPERS.items()})
    (folder / "alembic" / "versions" / "sql").mkdir()
    (folder / "alembic" / "versions" / "sql" / "plain.sql").write_text("CREATE TABLE app.plain ();")
    yield site.run(revisions=revisions)


MISBEHAVING = {
    "lost work": "op.execute('CREATE TABLE public.x ()'); op.execute('ROLLBACK')",
    "own commits": "op.execute('CREATE TABLE public.x ()'); op.execute('COMMIT');"
    " op.execute('BEGIN'); op.execute('CREATE TABLE public.y ()')",
    "own sessions": "c = op.get_bind().engine.connect();"
    " c.exec_driver_sql('CREATE TABLE public.z ()'); c.commit(); c.close()",
    "gave up the lock": "op.execute('SELECT pg_catalog.pg_advisory_unlock_all()')",
    "lets a group create": "op.execute('GRANT CREATE ON SCHEMA public TO pg_monitor')",
    "prepared": "op.execute(\"PREPARE TRANSACTION 'it'\")",
    "left in autocommit": "op.get_bind().connection.driver_connection.rollback();"
    " op.get_bind().connection.driver_connection.autocommit = True;"
    " op.execute('BEGIN'); op.execute('fail')",
    "invalid index": "op.execute('CREATE TABLE public.t (id int)');"
    " op.execute('INSERT INTO public.t VALUES (1), (1)')\n"
    "    with op.get_context().autocommit_block():\n"
    "        op.execute('CREATE UNIQUE INDEX CONCURRENTLY t_id ON public.t (id)')",
    "locked out": "operations.login_by_iam('by_iam'); op.execute('GRANT by_iam TO CURRENT_USER')",
}


def what_misbehaves(site: Site, folder: Path) -> Iterator[object]:
    """Each way to leave the loop's path, on a path of the revision's own."""
    for number, (name, body) in enumerate(MISBEHAVING.items()):
        # With one behind it: it is recorded otherwise than the last.
        first = {f"b{number}": f"{THERE}\n    {body}", f"c{number}": "pass"}
        revisions = history_of(folder / str(number), first)
        try:
            yield site.run(revisions=revisions)
        except MigrationError as error:
            yield re.sub(r"\d{3,}", "N", f"{name}: {error}")
        site.query(
            "DROP TABLE IF EXISTS public.x, public.y, public.z, public.t;"
            "DROP SCHEMA IF EXISTS day2 CASCADE"
        )
    site.query("CREATE ROLE other LOGIN; GRANT CREATE ON SCHEMA public TO other")
    revisions = history_of(folder / "unknown", {"a1": "op.execute('SELECT FROM nothing')"})
    yield refused(lambda: site.run(revisions=revisions)).partition(" (login")[0]
    with closing(site.connect_as_runner()) as session:
        # As after PREPARE TRANSACTION, which our servers refuse.
        account = Account(session, next_id=1, stamp=Decimal(0))
        account.has_prepared()
        account.finish(session)
        yield account.prepared


def by_the_command(site: Site, folder: Path) -> Iterator[object]:
    """Do by the ``alembic`` command all that it can do to a database."""
    made = "op.execute('CREATE TABLE public.x ()')"
    history_of(
        folder,
        {"a1": made, "a2": "operations.login_by_iam('by_iam')", "a3": MISBEHAVING["locked out"]},
        {"a1": "op.execute('DROP TABLE public.x')", "a2": "operations.drop_role('by_iam')"},
    )

    def alembic(run: Callable[..., object], *arguments: str) -> object:
        config = Config(str(folder / "alembic.ini"))
        config.attributes["login_passwords"] = site.login_passwords
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", url_of(site))
            return run(config, *arguments)

    yield alembic(command.current)
    yield alembic(command.upgrade, "a2")
    yield alembic(command.current)
    yield refused(lambda: alembic(command.check))
    yield alembic(command.downgrade, "base")
    yield alembic(command.stamp, "a1")
    yield alembic(command.stamp, "base")
    yield alembic(command.stamp, "a3")
    yield alembic(command.check)
    yield alembic(command.stamp, "a2")
    yield refused(lambda: alembic(command.upgrade, "head"))


STORIES: list[Story] = [
    an_ordinary_life,
    what_others_have,
    what_is_in_the_way,
    every_helper,
    what_misbehaves,
    by_the_command,
]


@contextmanager
def traced(seen: set[tuple[str, int]]) -> Iterator[None]:
    """Note in *seen* each line of ours that has a statement sent, on every thread."""

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_code in SENDERS:
            seen.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))
            one = frame.f_back
            while one is not None:
                seen.add((one.f_code.co_filename, one.f_lineno))
                one = one.f_back

    before = sys.gettrace()
    sys.settrace(trace)
    threading.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


def told(story: Story, site: Site, folder: Path) -> list[str]:
    """Tell *story*, and return what came of each of its parts, in words."""
    found = []
    parts = story(site, folder)
    while True:
        try:
            result = next(parts)
        except StopIteration:
            return found
        except MigrationError as error:
            return [*found, f"{type(error).__name__}: {error}"]
        report = getattr(result, "report", None)
        found.append(f"{getattr(result, 'outcome', result)} {report and report.final_revision}")


def renew(server: Server) -> None:
    """Make ``shop`` anew from the database of shadows, without roles of an earlier story."""
    with closing(server.superuser()) as session:
        query(session, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        roles = query(
            session,
            "SELECT string_agg(format('%%I', rolname), ', ') FROM pg_roles"
            " WHERE oid >= 16384 AND rolname <> ALL (%s)",
            ([*RDS_ROLES, server.master, shadows.STRANGER],),
        )[0][0]
        if roles:
            query(session, f"DROP ROLE {roles}")
        query(
            session, f"CREATE DATABASE {DATABASE} TEMPLATE {shadows.TEMPLATE} OWNER {server.master}"
        )
        query(session, f"GRANT CREATE ON DATABASE {DATABASE} TO {shadows.STRANGER}")
        for setting in (f"search_path = {shadows.PATH}", "quote_all_identifiers = on"):
            query(session, f"ALTER DATABASE {DATABASE} SET {setting}")


def test_nothing_of_a_strangers_runs(server: Server, ca_file: Path, tmp_path: Path) -> None:
    """The same comes of each story with and without the shadows, and none of them is called."""
    begin = len(server.log)
    seen: set[tuple[str, int]] = set()
    plain = {}
    with traced(seen):
        for story in STORIES:
            make_empty(server)
            site = Site(server, ca_file)
            plain[story.__name__] = told(story, site, tmp_path / "plain" / story.__name__)
    statements = recorded(server.log[begin:])
    shadowed = {}
    try:
        made = shadows.make_template(server, statements)
        begin = len(server.log)
        for story in STORIES:
            renew(server)
            site = Site(server, ca_file)
            shadowed[story.__name__] = told(story, site, tmp_path / "shadowed" / story.__name__)
    finally:
        make_empty(server)
    # Shown by pytest -s.
    print(f"{server.version}: {len(statements)} statements, a stranger's {made}")  # noqa: T201

    assert shadows.what_ran(server.log[begin:]) == []
    assert shadowed == plain
    assert unsent(seen) == [], "no story has these lines send their statement: tell one that does"


def recorded(log: str) -> set[str]:
    """Return the statements that the master sent, by the server's *log*."""
    found = re.findall(
        rf"^[^\t\n]* postgres@{DATABASE} LOG:  statement: ((?:.*)(?:\n\t.*)*)", log, re.MULTILINE
    )
    return {one.replace("\n\t", "\n") for one in found}


def unsent(seen: set[tuple[str, int]]) -> list[str]:
    """Return the lines that have a statement sent, and that *seen* does not have."""
    lines = {(Path(file).resolve(), line) for file, line in seen}
    # The histories of a test have a copy of env.py.
    lines |= {(ENV, line) for file, line in lines if file.name == ENV.name}
    # The senders' own.
    lines |= {(Path(one.co_filename), line or 0) for one in SENDERS for *_, line in one.co_lines()}
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (*sorted((ROOT / "core").rglob("*.py")), ENV)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and sends(node.func)
        and not lines & {(path, line) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    ]


def sends(function: ast.expr) -> bool:
    """Say whether to call *function* sends a statement."""
    match function:
        case ast.Name(id="query") | ast.Attribute(attr="ask"):
            return True
        case ast.Attribute(value=ast.Name(id="cursor"), attr="execute" | "callproc"):
            return True
    return False
