"""What a downgrade leaves: nobody's code becomes the master's, and what day2 did not make stays."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from core.errors import RevisionFailed
from core.postgres.session import query
from tests.equipment.histories import history_of
from tests.equipment.site import DATABASE, Site

# All that runs as its owner, or that its owner could change: made by the login itself.
CODE = """
CREATE FUNCTION maintenance.run(statement text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    $$ DECLARE found text; BEGIN EXECUTE statement INTO found; RETURN found; END $$;
CREATE FUNCTION maintenance.who() RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT current_user::text $$;
CREATE FUNCTION maintenance.fire() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RETURN NEW; END $$;
CREATE PROCEDURE maintenance.proceed() LANGUAGE sql AS $$ SELECT 1 $$;
CREATE AGGREGATE maintenance.total (int) (SFUNC = int4pl, STYPE = int);
CREATE DOMAIN maintenance.few AS int CHECK (maintenance.who() <> '');
CREATE TYPE maintenance.pair AS (one int, other int);
CREATE TYPE maintenance.mood AS ENUM ('good');
CREATE FUNCTION maintenance.same(int, text) RETURNS bool LANGUAGE sql
    AS $$ SELECT maintenance.who() <> '' $$;
CREATE OPERATOR maintenance.=== (LEFTARG = int, RIGHTARG = text, FUNCTION = maintenance.same);
CREATE COLLATION maintenance.plain FROM "C";
CREATE TABLE maintenance.notes (
    id serial, who text DEFAULT maintenance.who(), few maintenance.few, doubled text
);
CREATE INDEX ON maintenance.notes ((maintenance.who()));
CREATE STATISTICS maintenance.some ON id, who FROM maintenance.notes;
CREATE TRIGGER fire BEFORE INSERT ON maintenance.notes
    FOR EACH ROW EXECUTE FUNCTION maintenance.fire();
CREATE RULE again AS ON UPDATE TO maintenance.notes DO ALSO SELECT maintenance.who();
CREATE POLICY mine ON maintenance.notes TO backup_user USING (maintenance.who() <> '');
CREATE VIEW maintenance.roles AS SELECT * FROM pg_catalog.pg_authid;
CREATE MATERIALIZED VIEW maintenance.kept AS SELECT maintenance.who();
CREATE SEQUENCE maintenance.numbers;
INSERT INTO maintenance.notes (few) VALUES (1);
GRANT USAGE ON SCHEMA maintenance TO PUBLIC;
GRANT SELECT ON maintenance.roles TO PUBLIC;
"""

OWNED_BY = """
SELECT owned.type || ' ' || owned.identity
FROM pg_shdepend, pg_identify_object(classid, objid, objsubid) AS owned
WHERE refclassid = 'pg_authid'::regclass AND refobjid = to_regrole(%s) AND deptype = 'o'
AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
AND owned.schema IS NOT DISTINCT FROM %s ORDER BY 1
"""


def owned_by(site: Site, role: str, schema: str) -> list[str]:
    """Return what *role* owns in *schema*."""
    return [name for (name,) in site.query(OWNED_BY, (role, schema))]


def with_code(site: Site) -> list[str]:
    """Bring the database to 003, have backup_user make its code there, and return what it has."""
    site.run(target="003")
    site.query(CODE, user="backup_user")
    return owned_by(site, "backup_user", "maintenance")


def test_nobodys_code_becomes_the_masters(site: Site) -> None:
    """A dropped role's things go to a role that can do nothing, and come back to it."""
    made = with_code(site)

    site.downgrade("003")

    heir = "day2_retired_backup_user"
    assert site.query("SELECT to_regrole('backup_user')::text") == [(None,)]
    assert len(made) > 15
    assert owned_by(site, heir, "maintenance") == made
    assert owned_by(site, "postgres", "maintenance") == []
    assert site.query(
        "SELECT rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb, (SELECT count(*)"
        " FROM pg_shdepend WHERE refobjid = pg_roles.oid AND deptype = 'a'), (SELECT"
        " array_agg(DISTINCT member::regrole::text) FROM pg_auth_members"
        " WHERE pg_roles.oid IN (roleid, member)) FROM pg_roles WHERE rolname = %s",
        (heir,),
    ) == [(False, 0, ["postgres"])]
    site.query("CREATE ROLE stranger LOGIN")
    with pytest.raises(psycopg2.Error, match="permission denied"):
        site.query("SET ROLE stranger; SELECT * FROM maintenance.roles")
    assert site.query("SET ROLE stranger; SELECT maintenance.run('SELECT current_user::text')") == [
        (heir,)
    ]

    site.run(target="003")

    assert owned_by(site, "backup_user", "maintenance") == made
    assert site.query("SELECT to_regrole(%s)::text", (heir,)) == [(None,)]
    assert site.query("SELECT who, few FROM maintenance.notes") == [("backup_user", 1)]
    assert site.query("SELECT polroles::regrole[]::text[] FROM pg_policy") == [(["backup_user"],)]


def test_each_gets_back_what_was_its_own(site: Site) -> None:
    """In whatever schema it lies: a login's code is never another login's."""
    site.run(target="003")
    site.query(
        "GRANT USAGE, CREATE ON SCHEMA public, app_schema, maintenance TO app_role, backup_user;"
        f"GRANT CREATE ON DATABASE {DATABASE} TO app_role"
    )
    for login, schema in (("app_user", "maintenance"), ("backup_user", "app_schema")):
        for home in (schema, "public"):
            site.query(
                f"CREATE FUNCTION {home}.of_{login}() RETURNS text LANGUAGE sql SECURITY DEFINER"
                " AS 'SELECT current_user::text'",
                user=login,
            )
    site.query("CREATE SCHEMA tenant; CREATE TABLE tenant.orders ()", user="app_user")
    owners = (
        "SELECT proname, proowner::regrole::text FROM pg_proc WHERE proname ~ '^of_' ORDER BY 1, 2"
    )
    tenant = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'tenant'"
    before = site.query(owners)

    site.downgrade("003", "002", "001")
    between = site.query(owners)
    assert {owner for _, owner in between} == {"day2_retired_app_role", "day2_retired_backup_user"}
    assert site.query(tenant) == [("day2_retired_app_role",)]
    site.run(target="003")

    assert site.query(owners) == before
    assert site.query(tenant) == [("app_role",)]


def test_what_earlier_builds_gave_the_master_comes_back(site: Site) -> None:
    """All kinds of it, to the owner of the schema."""
    made = with_code(site)
    site.query("REASSIGN OWNED BY backup_user TO postgres; DROP OWNED BY backup_user")
    assert owned_by(site, "postgres", "maintenance") == made
    site.query("DROP SCHEMA day2 CASCADE")

    site.run(target="003")

    assert owned_by(site, "postgres", "maintenance") == []
    assert set(owned_by(site, "backup_role", "maintenance")) == set(made)


A_MEMBER = "CREATE ROLE somebody; GRANT {0} TO somebody"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE {0} LOGIN",
        "SET ROLE postgres; CREATE ROLE {0}; COMMENT ON ROLE {0} IS 'made by day2';" + A_MEMBER,
        "SET ROLE postgres; CREATE ROLE {0} CREATEDB; COMMENT ON ROLE {0} IS 'made by day2'",
    ],
    ids=["another maker", "a member", "a right"],
)
def test_an_heir_that_could_do_anything_is_refused(
    site: Site, tmp_path: Path, statement: str
) -> None:
    """Whoever made it first would have what is left, or run code with its rights."""
    revisions = history_of(
        tmp_path,
        {"a1": "operations.role('team'); operations.schema('place', owner='team')"},
        {"a1": "operations.drop_role('team')"},
    )
    site.run(revisions=revisions)
    site.query(statement.format("day2_retired_team"))

    with pytest.raises(Exception, match="day2_retired_team, which keeps what team leaves"):
        site.downgrade("a1", revisions=revisions)

    assert site.query(
        "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'place'"
    ) == [("team",)]


def test_a_session_with_temporary_things_is_named(site: Site) -> None:
    """They can be nobody else's, and a login that is in use may well have some."""
    site.run(target="003")
    with closing(site.login("backup_user")) as session:
        query(session, "CREATE TEMP TABLE work ()")

        with pytest.raises(RevisionFailed, match="55006 an open session has temporary") as caught:
            site.downgrade("003")

        assert f"one of server process {session.info.backend_pid} of backup_user" in str(
            caught.value
        )
        query(session, "DROP TABLE work")
        site.downgrade("003")

    assert site.query("SELECT to_regrole('backup_user')") == [(None,)]


# What day2 did not make


def test_what_was_there_before_is_not_dropped(site: Site, tmp_path: Path) -> None:
    """It was taken up by consent; its things, its members and its databases stay its own."""
    site.query(
        "CREATE ROLE team LOGIN PASSWORD 'its own'; COMMENT ON ROLE team IS 'of the DBA';"
        "GRANT team TO postgres WITH ADMIN OPTION; GRANT USAGE, CREATE ON SCHEMA public TO team;"
        "CREATE TABLE public.notes (); ALTER TABLE public.notes OWNER TO team"
    )
    revisions = history_of(
        tmp_path,
        {"a1": "operations.login('team', existing='adopt')"},
        {"a1": "operations.drop_login('team')"},
    )
    site.run(revisions=revisions)
    assert site.query("SELECT shobj_description('team'::regrole, 'pg_authid')") == [
        ("of the DBA; taken over by day2",)
    ]

    site.downgrade("a1", revisions=revisions)

    assert site.query("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'team'") == [(True,)]
    assert site.query("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'notes'") == [
        ("team",)
    ]
    assert "day2:retired" not in site.cloud.tags["day2/orders/team"]
    site.login("team").close()


ELSEWHERE = {
    "a database": "CREATE DATABASE other OWNER team",
    "a grant on a database": (
        "CREATE DATABASE other OWNER postgres; GRANT CREATE ON DATABASE other TO team"
    ),
    "a table": "CREATE DATABASE other",
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_what_a_role_has_in_another_database_is_left(site: Site, tmp_path: Path, case: str) -> None:
    """It stays with that, has nothing here, and a warning names the database."""
    revisions = history_of(
        tmp_path,
        {"a1": "operations.login('team'); operations.schema('place', owner='team')"},
        {"a1": "operations.drop_schema('place'); operations.drop_login('team')"},
    )
    site.run(revisions=revisions)
    # Until PostgreSQL 15 everybody may.
    site.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO team")
    for statement in ELSEWHERE[case].split("; "):
        site.query(statement)
    with closing(site.server.superuser("other")) as session:
        if case == "a table":
            query(session, "CREATE TABLE public.notes (); ALTER TABLE public.notes OWNER TO team")
        look = (
            "SELECT datdba::regrole::text, datacl::text, (SELECT relowner::regrole::text"
            " FROM pg_class WHERE relname = 'notes') FROM pg_database WHERE datname = 'other'"
        )
        before = query(session, look)

        site.downgrade("a1", revisions=revisions)

        assert query(session, look) == before
    assert site.query("SELECT has_schema_privilege('team', 'public', 'CREATE')") == [(False,)]
    site.login("team").close()
