"""The examples to copy: each goes up, down and up again, and gives what its first lines say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from psycopg2.errors import InsufficientPrivilege

from core.model import Action
from core.postgres.session import query
from core.revisions.folder import Folder
from core.revisions.runner import Revisions
from infra import package
from infra.local.postgres.programs import Programs
from infra.trial import files
from infra.trial.servers import tried
from tests.conftest import ROOT
from tests.equipment import documents
from tests.equipment.site import Site

EXAMPLES = Folder(ROOT / "alembic" / "examples")


@pytest.fixture
def at_examples(site: Site) -> Iterator[Site]:
    """Return an instance with all of them applied; on 17 its master may grant pg_maintain."""
    has_maintain = site.server.programs.major >= 17
    if has_maintain:
        site.query("GRANT pg_maintain TO rds_superuser WITH ADMIN OPTION")
    site.run(revisions=Revisions(folder=EXAMPLES))
    yield site
    # The server is other tests', too.
    if has_maintain:
        site.query("REVOKE pg_maintain FROM rds_superuser CASCADE")


def test_each_goes_up_down_and_up_again(programs: Programs) -> None:
    """As planned, with nothing left, its promises held; what a team's own CI would ask."""
    (outcome,) = tried(EXAMPLES, [programs])

    assert outcome.faults == 0, "\n".join(outcome.lines)
    assert len(outcome.lines) > len(list(EXAMPLES.versions.glob("*.py")))


def test_the_linter_has_nothing_to_say() -> None:
    """They are what teams copy."""
    assert files.faults(files.loaded(EXAMPLES)) == []


def test_they_are_told_and_not_deployed() -> None:
    """One row each; the function has the four only."""
    told = {row[0].strip("`") for row in documents.rows("alembic/README.md", "example")}

    assert told == {one.name for one in EXAMPLES.versions.glob("*.py")}
    assert not [one for one in package.function_files() if "examples" in one.parts]


def test_what_they_give_is_what_they_say(at_examples: Site) -> None:
    """No service enters another's schema, a migrator's tables can be used, upkeep reads none."""
    site = at_examples
    assert site.query("SELECT current_user::text", user="billing_service") == [("billing_role",)]
    site.query("CREATE TABLE billing.bills (id bigint)", user="billing_service")
    with pytest.raises(InsufficientPrivilege, match="permission denied for schema billing"):
        site.query("SELECT * FROM billing.bills", user="shipping_service")

    site.query("CREATE TABLE stock.items (id bigserial, name text)", user="stock_migrator")
    site.query("INSERT INTO stock.items (name) VALUES ('a')", user="stock_service")
    with pytest.raises(InsufficientPrivilege, match="permission denied for schema stock"):
        site.query("CREATE TABLE stock.mine ()", user="stock_service")

    # A query that nobody but its own session, a superuser or pg_monitor is shown.
    with closing(site.login("stock_service")) as other:
        query(other, "SELECT 'seen by the monitoring'")
        seen = "SELECT query FROM pg_stat_activity WHERE usename = 'stock_service'"
        assert "seen by the monitoring" in str(site.query(seen, user="monitoring"))
        assert "insufficient privilege" in str(site.query(seen, user="shipping_service"))

    with pytest.raises(InsufficientPrivilege, match="permission denied for schema stock"):
        site.query("SELECT * FROM stock.items", user="upkeep")
    assert site.query("SELECT relname FROM pg_class WHERE relname = 'pg_stat_statements'")
    found = site.run(Action.CHECK, revisions=Revisions(folder=EXAMPLES)).report.details["drift"]
    assert found == []


def test_upkeep_maintains_on_17(at_examples: Site) -> None:
    """And an older server, which has no such role, is told of by a warning."""
    major = at_examples.server.programs.major
    may = at_examples.query(
        "SELECT EXISTS (SELECT FROM pg_auth_members WHERE member = 'upkeep'::regrole"
        " AND roleid = to_regrole('pg_maintain'))"
    )

    assert may == [(major >= 17,)]


def test_they_warn_of_what_the_server_lacks(site: Site) -> None:
    """Nothing is logged by a pgaudit that is not there."""
    warnings = site.run(revisions=Revisions(folder=EXAMPLES)).report.warnings

    assert [one for one in warnings if "pgaudit.role is not rds_pgaudit" in one]
