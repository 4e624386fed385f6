"""A database of another encoding than UTF-8 holds our books, whatever a revision is called."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from psycopg2 import sql

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
