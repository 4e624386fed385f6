"""A database of another encoding than UTF-8 holds our books, whatever a revision is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg2 import sql

from core.errors import AccessDenied, RevisionFailed
from core.model import Action, Declared, Parameters, TargetSource
from core.outcome import Outcome
from core.postgres.session import query
from core.revisions.runner import Revisions
from tests.equipment.site import DATABASE, INSTANCE, Site
from tests.equipment.world import make_history

DESCRIPTION = "Prices in € for Łódź, 漢字 and \N{PILE OF POO}"


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "EUC_JP"])
def encoded(site: Site, request: pytest.FixtureRequest) -> Site:
    """Make the managed database anew, in that encoding."""
    with closing(site.server.superuser()) as session:
        query(
            session, sql.SQL("DROP DATABASE {}").format(sql.Identifier(DATABASE)).as_string(session)
        )
        made = sql.SQL("CREATE DATABASE {} OWNER {} ENCODING {} TEMPLATE template0 LOCALE 'C'")
        names = (sql.Identifier(DATABASE), sql.Identifier(site.master), sql.Literal(request.param))
        query(session, made.format(*names).as_string(session))
    site.server.give_public(DATABASE, site.master)
    return site


def test_a_description_never_fails_its_revision(encoded: Site, tmp_path: Path) -> None:
    """What the encoding lacks is a question mark in our own row, and nowhere else."""
    ini = make_history(tmp_path / "history", {"a1": "pass", "a2": "pass"})
    for file in (ini.parent / "alembic" / "versions").glob("*.py"):
        text = file.read_text()
        docstring = text.split('"""')[1]
        file.write_text(text.replace(docstring, DESCRIPTION, 1))
    revisions = Revisions(ini)

    result = encoded.run(revisions=revisions)

    assert (result.outcome, result.report.applied) == (Outcome.APPLIED, ["a1", "a2"])
    (first, second) = encoded.query("SELECT description FROM day2.history ORDER BY id")
    assert first == second
    assert str(first[0]).startswith("Prices in ")
    assert encoded.run(Action.STATUS, revisions=revisions).report.final_revision == "a2"


def test_a_stamp_is_written_in_any_encoding(encoded: Site) -> None:
    """What is done by hand writes the same rows."""
    encoded.cloud.declared[INSTANCE] = Parameters(
        Declared("002", TargetSource.PARAMETER, f"/day2/{INSTANCE}/target-revision")
    )
    stamp = encoded.request(Action.STAMP, "002")._replace(from_revision="base")
    settings = encoded.settings._replace(allow_rollback=True)

    result = encoded.run(request=stamp, settings=settings, request_id="by Łukasz")

    assert (result.outcome, result.report.final_revision) == (Outcome.APPLIED, "002")


def test_examples_go_up_and_down_in_any_encoding(encoded: Site) -> None:
    """What day2 itself sends is in every encoding."""
    assert encoded.run().report.final_revision == "004"
    assert encoded.run(Action.CHECK).report.details["drift"] == []
    encoded.downgrade("004", "003", "002", "001")
    assert encoded.run().report.final_revision == "004"


@pytest.fixture
def foreign(site: Site) -> Iterator[Site]:
    """Make a role whose name is no UTF-8, as one has that was made in an old database."""
    with closing(site.server.superuser()) as session:
        query(session, "CREATE DATABASE old ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'")
    with closing(site.server.superuser("old")) as session:
        session.set_client_encoding("LATIN1")
        query(session, 'CREATE ROLE "andré" LOGIN')
    yield site
    to_foreign(site, "ALTER ROLE %I RENAME TO andre")


def to_foreign(site: Site, *statements: str) -> None:
    """Carry out *statements*, in which %I is the name of that role."""
    for statement in statements:
        site.query(
            "DO $$ BEGIN EXECUTE (SELECT format("
            f"'{statement}', rolname) FROM pg_roles WHERE rolname LIKE 'andr%'); END $$"
        )


def test_role_with_a_name_of_another_encoding_is_told_of(foreign: Site) -> None:
    """It deviates like any other; its name is shown by its bytes."""
    foreign.run()
    to_foreign(foreign, "GRANT app_role TO %I", "ALTER TABLE audit.database_changes OWNER TO %I")

    drift = str(foreign.run(Action.CHECK).report.details)

    assert r"andr\\xe9" in drift
    assert foreign.run(Action.STATUS).report.final_revision == "004"
    assert foreign.run(Action.PLAN).outcome is Outcome.PLANNED


def test_failure_that_names_such_a_role_stays_the_failure(foreign: Site, tmp_path: Path) -> None:
    """What is said beside it must not take its place."""
    to_foreign(foreign, "GRANT CREATE ON SCHEMA public TO %I")
    ini = make_history(tmp_path / "history", {"a1": 'op.execute("SELECT * FROM nobodys")'})

    with pytest.raises(RevisionFailed, match=r"42P01 .*login .andr\\xe9. may create in it"):
        foreign.run(revisions=Revisions(ini))


def test_books_of_such_a_role_are_refused(foreign: Site) -> None:
    """By its name, too."""
    foreign.run(target="001")
    to_foreign(foreign, "ALTER TABLE day2.history OWNER TO %I")

    with pytest.raises(AccessDenied, match=r"history of andr\\xe9"):
        foreign.run()


def test_name_that_would_steer_a_terminal_is_shown_in_a_line(site: Site, tmp_path: Path) -> None:
    """Whoever may make roles chooses it, and a message names it."""
    name = sql.Identifier("ev\x1b[31mil\nGRANT\u202e")
    with closing(site.server.superuser(DATABASE)) as session:
        made = sql.SQL("CREATE ROLE {0} LOGIN; GRANT CREATE ON SCHEMA public TO {0}").format(name)
        query(session, made.as_string(session))
    body = 'op.execute("SELECT * FROM nobodys")'
    ini = make_history(tmp_path / "history", {"a1": body})

    with pytest.raises(RevisionFailed) as caught:
        site.run(revisions=Revisions(ini))

    assert str(caught.value).isprintable()
    assert r"ev\x1b[31mil\nGRANT\u202e" in str(caught.value)
