"""The audit trail's functions run as somebody else: what the application can make of that."""

from __future__ import annotations

import pytest
from psycopg2 import errors

from tests.equipment.site import Site

# to_jsonb calls a cast to json that the owner of a type has made: as whom, is the question.
CODE_IN_A_CAST = """
CREATE TYPE app_schema.bait AS ENUM ('x');
CREATE FUNCTION app_schema.bite(app_schema.bait) RETURNS json LANGUAGE plpgsql AS
    $$ BEGIN {} RETURN to_json(current_user::text); END $$;
CREATE CAST (app_schema.bait AS json) WITH FUNCTION app_schema.bite(app_schema.bait);
CREATE TABLE app_schema.hooked (b app_schema.bait);
CREATE TRIGGER audit AFTER INSERT ON app_schema.hooked
    FOR EACH ROW EXECUTE FUNCTION audit.record_change();
INSERT INTO app_schema.hooked VALUES ('x');
"""

DISARM = "DROP TYPE app_schema.bait CASCADE; DROP TABLE IF EXISTS app_schema.hooked"


@pytest.mark.parametrize(
    "wish",
    [
        "ALTER ROLE app_user CREATEROLE;",
        "GRANT pg_read_all_stats TO app_user;",
        "DELETE FROM audit.database_changes;",
        "UPDATE audit.database_changes SET changed_by = 'somebody';",
        (
            "INSERT INTO audit.database_changes (table_name, operation, changed_by)"
            " VALUES ('t', 'INSERT', 'somebody');"
        ),
        "PERFORM * FROM audit.compliance_events;",
        "PERFORM * FROM day2.history;",
        "CREATE TABLE audit.mine ();",
        (
            "CREATE OR REPLACE FUNCTION audit.record_change() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END';"
        ),
    ],
)
def test_code_of_the_application_gains_nothing_by_the_trail(at_head: Site, wish: str) -> None:
    """Code that gets itself called inside the recording function may do nothing with it."""
    with pytest.raises(errors.InsufficientPrivilege):
        at_head.query(CODE_IN_A_CAST.format(wish), user="app_user")


def test_the_trail_is_written_by_a_role_that_can_do_nothing_else(at_head: Site) -> None:
    """It runs as audit_role, and whom it names is still the login."""
    at_head.query(CODE_IN_A_CAST.format(""), user="app_user")
    trail = at_head.query(
        "SELECT new_values, changed_by FROM audit.database_changes WHERE table_name LIKE '%hooked'"
    )
    at_head.query(DISARM, user="app_user")

    assert trail == [({"b": "audit_role"}, "app_user")]
