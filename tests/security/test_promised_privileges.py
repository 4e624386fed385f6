"""What ``check`` says of the roles: nothing at head, and each drift with what repairs it."""

from __future__ import annotations

from typing import Any

import pytest

from core.actions.check import check
from core.model import Action
from core.outcome import Outcome
from core.revisions.promises import Promises
from tests.equipment.site import HEAD_LOGINS, REVISIONS, Site


def checked(site: Site) -> dict[str, Any]:
    """Return what ``check`` reports of *site*."""
    result = site.run(Action.CHECK, None)
    assert result.outcome is Outcome.CHECKED
    return result.report.details


# What somebody did by hand (as the superuser), whose drift it is, and how it is told.
DRIFTS = {
    "a select that was taken": (
        "REVOKE USAGE ON SCHEMA app_schema FROM analytics_role",
        [("analytics_role", "missing", "USAGE ON SCHEMA app_schema")],
    ),
    "a write that was given": (
        "GRANT INSERT ON audit.database_changes TO app_role",
        [("app_role", "beyond", "INSERT ON TABLE audit.database_changes")],
    ),
    "a column that was given": (
        "GRANT UPDATE (details) ON audit.compliance_events TO app_role",
        [("app_role", "beyond", "UPDATE (details) ON TABLE audit.compliance_events")],
    ),
    "a function that was taken": (
        "REVOKE ALL ON FUNCTION audit.record_change() FROM app_role",
        [("app_role", "missing", "EXECUTE ON FUNCTION audit.record_change()")],
    ),
    "a function that anybody may call": (
        "GRANT EXECUTE ON FUNCTION audit.record_event(text, text, jsonb) TO PUBLIC",
        [("PUBLIC", "beyond", "EXECUTE ON FUNCTION audit.record_event(text,text,jsonb)")],
    ),
    "a function that trusts its caller's search_path": (
        "ALTER FUNCTION audit.record_change() RESET search_path",
        [
            (
                "PUBLIC",
                "beyond",
                (
                    "a search_path of the caller's in FUNCTION audit.record_change(), "
                    "which is SECURITY DEFINER"
                ),
            )
        ],
    ),
    "public opened again": (
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        [("PUBLIC", "beyond", "USAGE ON SCHEMA public")],
    ),
    "our own schema opened": (
        "GRANT USAGE ON SCHEMA day2 TO backup_role",
        [("backup_role", "beyond", "USAGE ON SCHEMA day2")],
    ),
    "a membership that was given": (
        "GRANT backup_role TO analytics_user",
        [("analytics_user", "beyond", "member of backup_role")],
    ),
    "a membership that was taken": (
        "REVOKE app_role FROM app_user",
        [("app_user", "missing", "member of app_role")],
    ),
    "a login that may make roles": (
        "ALTER ROLE app_user CREATEROLE",
        [("app_user", "beyond", "CREATEROLE")],
    ),
    "a login that cannot log in": (
        "ALTER ROLE backup_user NOLOGIN",
        [("backup_user", "missing", "LOGIN")],
    ),
    "a group that can log in": (
        "ALTER ROLE app_role LOGIN",
        [("app_role", "beyond", "LOGIN")],
    ),
    "a default that was taken": (
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_role IN SCHEMA analytics"
            " REVOKE SELECT ON TABLES FROM analytics_role"
        ),
        [
            (
                "analytics_role",
                "missing",
                "SELECT ON future TABLES IN SCHEMA analytics made by app_role",
            )
        ],
    ),
    "a default that was given": (
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_role IN SCHEMA app_schema"
            " GRANT DELETE ON TABLES TO analytics_role"
        ),
        [
            (
                "analytics_role",
                "beyond",
                "DELETE ON future TABLES IN SCHEMA app_schema made by app_role",
            )
        ],
    ),
    "a database that may be added to": (
        "GRANT CREATE ON DATABASE shop TO app_role",
        [("app_role", "beyond", "CREATE ON DATABASE shop")],
    ),
    "a schema of another owner": (
        "ALTER SCHEMA analytics OWNER TO postgres",
        [("app_role", "missing", "own SCHEMA analytics")],
    ),
    "a table outside its schemas": (
        (
            "CREATE TABLE public.mine (); ALTER TABLE public.mine OWNER TO app_role;"
            "GRANT SELECT ON public.mine TO analytics_role, backup_role"
        ),
        [("app_role", "beyond", "own TABLE public.mine")],
    ),
    "a table that readers do not see": (
        "CREATE TABLE app_schema.new (); ALTER TABLE app_schema.new OWNER TO app_role;",
        [
            ("analytics_role", "missing", "SELECT ON TABLE app_schema.new"),
            ("backup_role", "missing", "SELECT ON TABLE app_schema.new"),
        ],
    ),
    "a name that is more than a name": (
        (
            'CREATE TABLE app_schema."a""; DROP ROLE app_user; --" ();'
            'ALTER TABLE app_schema."a""; DROP ROLE app_user; --" OWNER TO app_role;'
            'GRANT SELECT ON app_schema."a""; DROP ROLE app_user; --" TO backup_role'
        ),
        [
            (
                "analytics_role",
                "missing",
                'SELECT ON TABLE app_schema."a""; DROP ROLE app_user; --"',
            )
        ],
    ),
}


def test_head_keeps_every_promise(at_head: Site) -> None:
    """Right after a migrate each role has what was promised, all of it and no more."""
    found = checked(at_head)

    assert found["drift"] == []
    assert [(one["role"], one["missing"], one["beyond"]) for one in found["roles"]] == [
        (role.name, [], []) for role in Promises.load().roles
    ]
    assert all(one["present"] and one["can"] for one in found["roles"])


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_told_with_the_statement_that_repairs_it(at_head: Site, name: str) -> None:
    """Each thing done by hand is told, and running the statements undoes it."""
    statement, told = DRIFTS[name]
    at_head.query(statement)

    drift = checked(at_head)["drift"]
    for one in drift:
        # As the superuser: who drifted so far may have got there without the master.
        at_head.query(one["statement"].replace("CURRENT_USER", at_head.master))

    assert [(one["role"], one["drift"], one["privilege"]) for one in drift] == told
    assert checked(at_head)["drift"] == []


def test_repairs_are_for_the_master_to_run(at_head: Site) -> None:
    """What drifts most is repaired by the master itself, as printed."""
    at_head.query(
        "REVOKE USAGE ON SCHEMA app_schema FROM analytics_role;"
        "GRANT INSERT ON audit.database_changes TO app_role;"
        "GRANT USAGE ON SCHEMA public TO PUBLIC"
    )

    drift = checked(at_head)["drift"]
    for one in drift:
        at_head.query(one["statement"], user=at_head.master)

    assert (len(drift), checked(at_head)["drift"]) == (3, [])


def test_check_writes_nothing_and_reads_the_catalogue_only(at_head: Site) -> None:
    """No transaction number is used, no lock is taken, and no table of anybody is read."""
    before = at_head.next_transaction()
    with at_head.lock_held():
        at_head.run(Action.CHECK, None, request_id="check-alone")

    assert at_head.next_transaction() == before
    begin = at_head.server.log.rindex("SET default_transaction_read_only = on")
    after = at_head.server.log[begin:]
    assert "INSERT" not in after.replace("'INSERT'", "")
    assert not [name for name in ("FROM audit.", "FROM app_schema.", "FROM day2.") if name in after]


def test_every_role_and_grant_is_promised_of_what_there_is() -> None:
    """Each promise names a revision of this build and a role that is promised."""
    promises = Promises.load()
    roles = {role.name for role in promises.roles}

    assert {
        one.since
        for kind in (
            promises.roles,
            promises.schemas,
            promises.tables,
            promises.closed,
            promises.grants,
        )
        for one in kind
    } <= set(REVISIONS.identifiers)
    assert {grant.to for grant in promises.grants} <= roles
    assert {login.name for login in promises.password_logins} == set(HEAD_LOGINS)
    assert check.__doc__


# From here on the database is emptied each time.


@pytest.mark.parametrize("target", ["001", "002", "003"])
def test_each_revision_keeps_the_promises_of_its_time(site: Site, target: str) -> None:
    """Promises are those of the revision that the database is at."""
    site.run(target=target)

    assert checked(site)["drift"] == []


def test_a_lost_role_is_missed(site: Site) -> None:
    """A role that somebody dropped is missing, with all that it should have."""
    site.run()
    site.query("DROP OWNED BY backup_user; DROP ROLE backup_user")

    assert [
        (one["drift"], one["privilege"], one["statement"]) for one in checked(site)["drift"]
    ] == [
        ("missing", "(exist)", 'CREATE ROLE "backup_user"'),
        ("missing", "LOGIN", 'ALTER ROLE "backup_user" LOGIN'),
        ("missing", "member of backup_role", 'GRANT backup_role TO "backup_user"'),
    ]


def test_base_promises_nothing(site: Site) -> None:
    """A database that was never migrated cannot drift."""
    assert checked(site) == {"roles": [], "drift": []}
