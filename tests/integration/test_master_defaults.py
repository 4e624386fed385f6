"""A master with defaults of its own (``ALTER ROLE … SET``): what day2 makes stays the master's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from core.postgres.session import query
from tests.equipment.site import DATABASE, Site
from tests.integration.test_command_line import alembic, url_of

OWNERS = """
    SELECT DISTINCT pg_get_userbyid(owner) FROM (
        SELECT nspowner AS owner FROM pg_namespace WHERE nspname IN ('day2', 'audit')
        UNION ALL SELECT relowner FROM pg_class
        WHERE relnamespace::regnamespace::text IN ('day2', 'audit')
        UNION ALL SELECT proowner FROM pg_proc WHERE pronamespace::regnamespace::text = 'day2'
    ) AS things
"""
DEFAULTS = {
    "the login there": f"ALTER ROLE postgres IN DATABASE {DATABASE} SET role = shop_owner",
    "the login": "ALTER ROLE postgres SET role = shop_owner",
    "the database": f"ALTER DATABASE {DATABASE} SET role = shop_owner",
}


def give_owner(site: Site) -> None:
    """Make a role that the master may act as, and that could make schemas."""
    site.query(
        f"CREATE ROLE shop_owner; GRANT shop_owner TO postgres;"
        f"GRANT CREATE ON DATABASE {DATABASE} TO shop_owner"
    )


@pytest.fixture
def roles(site: Site) -> Iterator[Site]:
    """Return an empty database, whose master is let go of the defaults that a test gave it."""
    give_owner(site)
    yield site
    with closing(site.server.superuser()) as session:
        query(session, f"ALTER ROLE postgres RESET ALL; ALTER DATABASE {DATABASE} RESET ALL")


@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize("since", [None, "002"])
def test_a_default_role_owns_nothing_of_ours(roles: Site, default: str, since: str | None) -> None:
    """Whether the default was there first or came later, the run is the master's own."""
    if since:
        roles.run(target=since)
    roles.query(DEFAULTS[default])

    result = roles.run()

    assert result.report.final_revision == "004"
    # audit_role owns the two functions of audit, and no table.
    assert roles.query(OWNERS) == [("postgres",)]


@pytest.mark.parametrize(
    "default",
    [
        "search_path = shop_owner, pg_catalog",
        "search_path = ''",
        "default_transaction_isolation = serializable",
        "row_security = off",
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
        "intervalstyle = sql_standard",
        "check_function_bodies = off",
        "statement_timeout = 1",
        "local_preload_libraries = nowhere",
    ],
)
def test_other_defaults_change_nothing(roles: Site, default: str) -> None:
    """Whatever else a team set for its master, the run gets to head, and owns what it makes."""
    roles.query(f"ALTER ROLE postgres SET {default}")

    result = roles.run()

    assert result.report.final_revision == "004"
    assert roles.query(OWNERS) == [("postgres",)]


def test_reset_role_in_a_revision_comes_back_to_the_master(roles: Site) -> None:
    """The runner brings its session back to the master before each revision."""
    roles.query(DEFAULTS["the login"])
    roles.run(target="001")

    assert roles.query("SELECT applied_by FROM day2.history") == [("postgres",)]
    assert roles.query(
        "SELECT pg_has_role('postgres', 'app_role', 'MEMBER'), "
        "pg_has_role('shop_owner', 'app_role', 'MEMBER')"
    ) == [(True, False)]


def test_the_command_is_the_master_too(roles: Site) -> None:
    """``alembic upgrade`` makes schema day2 as the user of its URL, whatever its default is."""
    roles.query(DEFAULTS["the login"])

    alembic("-x", f"url={url_of(roles)}", "upgrade", "head")

    assert roles.query(
        "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'day2'"
    ) == [("postgres",)]
