"""The function and the ``alembic`` command go by one loop: the same end, whatever is tried."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from alembic.command import downgrade, upgrade
from alembic.config import Config
from alembic.util import CommandError

from core.errors import MigrationError
from core.postgres.session import query
from core.revisions.runner import Revisions
from infra.trial.catalogue import catalogue
from tests.equipment.histories import history_of
from tests.equipment.single import programs  # noqa: F401
from tests.equipment.site import DATABASE, Site, make_empty
from tests.integration.test_command_line import alembic, url_of

RAW = "op.get_bind().connection.driver_connection"
INDEX = (
    "with op.get_context().autocommit_block():"
    ' op.create_index("two_id", "two", ["id"], schema="public", postgresql_concurrently=True)'
)
MAKE = 'op.execute("CREATE TABLE public.two (id int)")'

# What the second of three revisions does.
CASES = {
    "plain": "pass",
    "concurrent index": INDEX,
    "rehearsal": 'op.execute("CREATE TABLE public.lost (); ROLLBACK")',
    "rolled back": "op.get_bind().rollback()",
    "driver closed": f"{RAW}.close()",
    "committed": "op.get_bind().commit()",
    "autocommit left on": f'{RAW}.commit(); {RAW}.autocommit = True; op.execute("VACUUM")',
    "isolation left": f"{RAW}.commit(); {RAW}.set_isolation_level(3)",
    "engine": "import sqlalchemy as sa; sa.inspect(op.get_bind().engine).get_table_names()",
    "engine that writes": (
        "with op.get_bind().engine.begin() as other:"
        ' other.exec_driver_sql("CREATE TABLE public.others ()")'
    ),
    "engine that loses": 'op.get_bind().engine.connect().exec_driver_sql("CREATE TABLE lost ()")',
    "engine's URL": 'op.execute(f"ANALYZE; -- {op.get_bind().engine.url.database}")',
    "arguments": "from alembic import context; assert context.get_x_argument() is not None",
    "session left": "op.execute(\"SET search_path = pg_temp; SET statement_timeout = '1s'\")",
    "locks given up": 'op.execute("SELECT pg_advisory_unlock_all()")',
    "error": 'op.execute("SELECT 1/0")',
    "error behind a commit": 'op.execute("COMMIT"); op.execute("SELECT 1/0")',
    "exit": 'raise SystemExit("enough")',
    "interrupt": 'raise KeyboardInterrupt("enough")',
    "invalid": 'op.execute("INSERT INTO public.two VALUES (1), (1)"); '
    'operations.index("two_id", on="public.two", columns="id", unique=True)',
}
HISTORY = (
    "SELECT revision, direction, description, checksum FROM day2.history ORDER BY id",
    "SELECT version_num FROM day2.alembic_version",
)


@pytest.mark.parametrize("case", sorted(CASES))
def test_function_and_command_come_to_the_same(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Database, history and what is said of a failure are alike, up and down."""
    monkeypatch.setenv("DATABASE_URL", url_of(site))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if CASES[case].startswith(("with", "import", "from")):
        body = f"{MAKE}\n    {CASES[case]}"
    else:
        body = f"{MAKE}; {CASES[case]}"
    history = history_of(
        tmp_path,
        {"a1": "operations.role('one')", "a2": body, "a3": "operations.role('three')"},
        {
            "a2": f"op.execute('DROP TABLE public.two CASCADE'); {CASES[case]}"
            if case in ("rehearsal", "committed", "error")
            else "op.execute('DROP TABLE IF EXISTS public.two CASCADE')",
        },
    )

    by_function = _by_function(site, history)
    make_empty(site.server)
    by_command = _by_command(site, tmp_path)

    assert by_command == by_function


def test_stamp_by_the_command_says_from_where_to_where(site: Site, tmp_path: Path) -> None:
    """Forward, back, to base and with --purge: each is a row, and nothing is run."""
    names = ("a1", "a2", "a3")
    history_of(tmp_path, {name: f"operations.role('{name}')" for name in names})
    url = f"url={url_of(site)}"
    alembic("-x", url, "upgrade", "a3", folder=tmp_path)

    for words in (("a1",), ("head",), ("base",), ("a2",), ("--purge", "a1")):
        done = alembic("-x", url, "stamp", *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    downgraded = alembic("-x", url, "downgrade", "base", folder=tmp_path)

    assert downgraded.returncode == 0, downgraded.stderr
    found = site.query("SELECT revision, direction, description FROM day2.history ORDER BY id")
    assert found[3:] == [
        ("a1", "stamp", "From a3 to a1"),
        ("a3", "stamp", "From a1 to a3"),
        (None, "stamp", "From a3 to base"),
        ("a2", "stamp", "From base to a2"),
        ("a1", "stamp", "From a2 to a1"),
        ("a1", "downgrade", "Revision a1"),
    ]
    assert site.query("SELECT version_num FROM day2.alembic_version") == []
    assert site.query("SELECT count(*) FROM pg_roles WHERE rolname ~ '^a[123]$'") == [(3,)]


def _by_function(site: Site, history: Revisions) -> list[object]:
    """Upgrade to head, then go back to base as far as possible; return what came of each."""
    seen: list[object] = []
    try:
        site.run(revisions=history)
        seen.append("")
    except MigrationError as error:
        seen.append(str(error))
    seen += _found(site)
    at = [name for (name,) in site.query("SELECT version_num FROM day2.alembic_version")]
    try:
        site.downgrade(*reversed(history.up_to(at[0] if at else None)), revisions=history)
        seen.append("")
    except MigrationError as error:
        seen.append(str(error))
    return seen + _found(site)


def _by_command(site: Site, folder: Path) -> list[object]:
    """Do the same by the functions that the command calls, whose errors it prints."""
    seen: list[object] = []
    for command, target in ((upgrade, "head"), (downgrade, "base")):
        try:
            command(Config(str(folder / "alembic.ini")), target)
            seen.append("")
        except CommandError as error:
            seen.append(str(error))
        seen += _found(site)
    return seen


def _found(site: Site) -> list[object]:
    """Return what the database has."""
    with closing(site.server.superuser(DATABASE)) as session:
        records = [query(session, statement) for statement in HISTORY]
    return [catalogue(site.server, DATABASE), *records]
