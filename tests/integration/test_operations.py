"""What the helpers of migrations refuse and prove, on a server where others were first."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

import psycopg2
import pytest

from core.errors import RevisionFailed
from core.model import Result
from core.postgres.session import query
from tests.equipment.histories import history_of
from tests.equipment.site import DATABASE, Site
from tests.integration.test_command_line import alembic, url_of

REFUSED_FOR_IAM = "rejects connection|PAM authentication failed"


def apply(site: Site, folder: Path, *upgrades: str) -> Result:
    """Run a history whose revisions have the bodies *upgrades*."""
    named = {f"a{number}": body for number, body in enumerate(upgrades, start=1)}
    return site.run(revisions=history_of(folder, named))


def refusal(site: Site, folder: Path, upgrade: str) -> str:
    """Run a revision that must fail, and return what the error says."""
    with pytest.raises(RevisionFailed) as caught:
        apply(site, folder, upgrade)
    return str(caught.value)


def iam_members(site: Site) -> list[str]:
    """Return which roles RDS asks for a token."""
    rows = site.query(
        "SELECT member::regrole::text FROM pg_auth_members"
        " WHERE roleid = 'rds_iam'::regrole AND member <> 'rds_superuser'::regrole ORDER BY 1"
    )
    return [name for (name,) in rows]


# Logins by IAM


def test_a_login_by_iam_leaves_the_master_its_password(site: Site, tmp_path: Path) -> None:
    """It reads what its roles read, and is not granted to the master; the next revision goes on."""
    result = apply(
        site,
        tmp_path,
        "operations.role('readers')",
        "operations.login_by_iam('report_iam', member_of=['readers'], acts_as='readers')",
        "op.execute('CREATE TABLE public.later ()')",
    )

    assert result.report.applied == ["a1", "a2", "a3"]
    site.connect_as_runner().close()
    assert iam_members(site) == ["report_iam"]
    assert site.query(
        "SELECT coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true),"
        " coalesce((to_jsonb(m) ->> 'set_option')::boolean, true), admin_option"
        " FROM pg_auth_members AS m WHERE roleid = 'report_iam'::regrole"
    ) in ([], [(False, False, True)])


def test_making_it_again_changes_nothing_and_dropping_it_works(site: Site, tmp_path: Path) -> None:
    """It can be dropped with all that it owns, though the master is not a member of it."""
    made = "operations.login_by_iam('report_iam')"
    owned = (
        "op.execute('GRANT CREATE ON SCHEMA public TO report_iam; CREATE TABLE public.kept ();"
        " GRANT report_iam TO CURRENT_USER; ALTER TABLE public.kept OWNER TO report_iam;"
        " REVOKE report_iam FROM CURRENT_USER')"
    )

    result = apply(site, tmp_path, made, made, owned, "operations.drop_login('report_iam')")

    assert result.report.applied == ["a1", "a2", "a3", "a4"]
    site.connect_as_runner().close()
    assert site.query("SELECT to_regrole('report_iam')::text") == [(None,)]


def test_a_login_with_a_password_may_become_one_by_iam(site: Site, tmp_path: Path) -> None:
    """What let the master act as it is taken away first."""
    result = apply(
        site, tmp_path, "operations.login('reports')", "operations.login_by_iam('reports')"
    )

    assert result.report.applied == ["a1", "a2"]
    site.connect_as_runner().close()
    assert iam_members(site) == ["reports"]


LOCKOUTS = {
    "a group between": (
        "CREATE ROLE ops; GRANT ops TO postgres; CREATE ROLE report_iam; GRANT report_iam TO ops",
        "operations.login_by_iam('report_iam', existing='adopt')",
    ),
    "a role that has it": (
        "CREATE ROLE tokens; GRANT rds_iam TO tokens",
        "operations.role('tokens', existing='adopt')",
    ),
    "membership by member_of": ("", "operations.login('x', member_of=['rds_iam'])"),
    "membership by acts_as": ("", "operations.login('x', acts_as='rds_iam')"),
}


@pytest.mark.parametrize("case", LOCKOUTS)
def test_no_helper_makes_the_master_a_member_of_rds_iam(
    site: Site, tmp_path: Path, case: str
) -> None:
    """Direct or not, it is refused, and all of the revision is undone."""
    before, upgrade = LOCKOUTS[case]
    if before:
        site.query(before)
        if site.server.programs.major >= 16:
            made = before.rpartition("CREATE ROLE ")[2].partition(";")[0]
            site.query(f"GRANT {made} TO postgres WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")

    said = refusal(site, tmp_path, upgrade)

    assert "the master would be one of rds_iam" in said
    site.connect_as_runner().close()


def test_a_master_that_is_locked_out_is_let_in_again(site: Site, tmp_path: Path) -> None:
    """Whatever did it, the run finds out right after its commit, undoes it and says so."""
    said = refusal(
        site,
        tmp_path,
        "operations.login_by_iam('report_iam'); op.execute('GRANT report_iam TO CURRENT_USER')",
    )

    assert "revision a1 is committed" in said
    assert "locked the master out" in said
    assert "rds_iam was revoked, and the master enters again" in said
    site.connect_as_runner().close()
    assert iam_members(site) == []
    assert site.query("SELECT revision FROM day2.history") == [("a1",)]


def test_the_command_lets_a_master_in_again_too(site: Site, tmp_path: Path) -> None:
    """``alembic upgrade`` proves it as a run by the function does."""
    made = "operations.login_by_iam('report_iam')"
    history_of(tmp_path, {"a1": made})

    fine = alembic("-x", f"url={url_of(site)}", "upgrade", "a1", folder=tmp_path)
    made_again = f"{made}; op.execute('GRANT report_iam TO CURRENT_USER')"
    history_of(tmp_path / "again", {"a1": "pass", "a2": made_again})
    failed = alembic("-x", f"url={url_of(site)}", "upgrade", "head", folder=tmp_path / "again")

    assert fine.returncode == 0, fine.stderr
    assert failed.returncode != 0
    assert "locked their user out: rds_iam was revoked" in failed.stderr
    site.connect_as_runner().close()
    assert iam_members(site) == []


def test_revisions_after_a_login_by_iam_are_not_begun_before_the_proof(
    site: Site, tmp_path: Path
) -> None:
    """A revision that would come next is not run on a server that its runner cannot enter."""
    with pytest.raises(RevisionFailed, match="locked the master out"):
        apply(
            site,
            tmp_path,
            "operations.login_by_iam('report_iam'); op.execute('GRANT report_iam TO CURRENT_USER')",
            "op.execute('CREATE TABLE public.later ()')",
        )

    assert site.query("SELECT to_regclass('public.later')::text") == [(None,)]


# What was there before


MALLORY_MAKES_TEAM = (
    "CREATE ROLE mallory CREATEROLE; SET ROLE mallory; CREATE ROLE team; GRANT team TO mallory;"
    " GRANT team TO postgres WITH ADMIN OPTION; RESET ROLE"
)
BEFORE = {
    "a group that logs in": (
        "CREATE ROLE team LOGIN",
        "operations.role('team'{})",
        "role team was there before, with LOGIN",
    ),
    "a group with rights": (
        "CREATE ROLE team CREATEROLE CREATEDB BYPASSRLS REPLICATION",
        "operations.role('team'{})",
        "role team was there before, with CREATEROLE CREATEDB REPLICATION BYPASSRLS",
    ),
    "a superuser": (
        "CREATE ROLE team SUPERUSER",
        "operations.login('team'{})",
        "role team was there before, with SUPERUSER",
    ),
    "a login by IAM with rights": (
        "CREATE ROLE team CREATEROLE",
        "operations.login_by_iam('team'{})",
        "role team was there before, with CREATEROLE",
    ),
    "a group with members": (
        MALLORY_MAKES_TEAM,
        "operations.role('team'{})",
        "role team was there before, and has members: mallory",
    ),
    "a login with members": (
        MALLORY_MAKES_TEAM,
        "operations.login('team'{})",
        "role team was there before, and has members: mallory",
    ),
    "a schema of a stranger": (
        "CREATE ROLE mallory; CREATE SCHEMA place AUTHORIZATION mallory; GRANT mallory TO postgres",
        "operations.schema('place', owner='app'{})",
        "schema place was there before, and belongs to mallory",
    ),
    "the master's schema of a stranger": (
        "CREATE ROLE mallory; CREATE SCHEMA place AUTHORIZATION mallory; GRANT mallory TO postgres",
        "operations.schema('place'{})",
        "schema place was there before, and belongs to mallory",
    ),
    "a table of a stranger": (
        "CREATE ROLE mallory; CREATE TABLE public.log (); ALTER TABLE public.log OWNER TO mallory",
        "operations.table('public.log', 'id int'{})",
        "table public.log was there before, and belongs to mallory",
    ),
}


@pytest.mark.parametrize("case", BEFORE)
def test_what_somebody_made_first_is_refused_or_adopted(
    site: Site, tmp_path: Path, case: str
) -> None:
    """The message says what is wrong with it and what to do, and a revision may consent."""
    before, upgrade, message = BEFORE[case]
    site.query("CREATE ROLE app; GRANT app TO postgres WITH ADMIN OPTION")
    site.query(before)

    said = refusal(site, tmp_path / "refused", upgrade.format(""))
    assert message in said

    if "SUPERUSER" not in before:
        is_old = site.server.programs.major < 16
        admin = "OPTION" if is_old else "TRUE, INHERIT FALSE, SET FALSE"
        site.query(
            "DO $$ BEGIN IF to_regrole('team') IS NOT NULL THEN"
            f" GRANT team TO postgres WITH ADMIN {admin}; END IF; END $$"
        )
        adopted = apply(site, tmp_path / "adopted", upgrade.format(", existing='adopt'"))
        assert adopted.report.applied == ["a1"]


def test_our_own_audit_is_not_the_applications(site: Site) -> None:
    """Whoever it keeps a trail of could make its schema first, and rewrite what is in it."""
    site.run(target="003")
    site.query(
        f"GRANT CREATE ON DATABASE {DATABASE} TO app_role; SET ROLE app_role; CREATE SCHEMA audit"
    )

    with pytest.raises(
        RevisionFailed, match="schema audit was there before, and belongs to app_role"
    ):
        site.run()

    assert site.query("SELECT version_num FROM day2.alembic_version") == [("003",)]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_no_table(site: Site, tmp_path: Path, kind: str) -> None:
    """Whoever consents to an owner does not consent to code that runs when it is read."""
    site.query(f"CREATE {kind} public.log AS SELECT 1 AS id")

    for existing in ("refuse", "adopt"):
        said = refusal(
            site,
            tmp_path / existing,
            f"operations.table('public.log', 'id int', existing='{existing}')",
        )
        assert "public.log was there before, and is not a table" in said


def test_what_existing_may_be_is_said(site: Site, tmp_path: Path) -> None:
    """A word that nobody knows is not taken for consent."""
    said = refusal(site, tmp_path, "operations.role('team', existing='take')")

    assert "existing='take': give 'refuse' or 'adopt'" in said


def test_what_day2_made_is_taken_up_again(site: Site, tmp_path: Path) -> None:
    """Members that a DBA adds later are for check to tell: the helpers stay idempotent."""
    made = "operations.role('team'); operations.schema('place', owner='team')"
    table = "operations.schema('own'); operations.table('own.log', 'id int')"
    apply(site, tmp_path / "first", made, table)
    site.query("CREATE ROLE helper; GRANT team TO helper; DROP SCHEMA day2 CASCADE")

    again = apply(site, tmp_path / "again", made, table)

    assert again.report.applied == ["a1", "a2"]


def test_a_right_that_was_there_before_is_not_taken(site: Site, tmp_path: Path) -> None:
    """To give a schema to a role takes CREATE on the database for a moment, and no longer."""
    site.query(
        "CREATE SCHEMA place AUTHORIZATION postgres; CREATE SCHEMA other AUTHORIZATION postgres"
    )
    may = "SELECT has_database_privilege('team', current_database(), 'CREATE')"

    apply(
        site,
        tmp_path / "one",
        "operations.role('team')\n    operations.schema('place', owner='team')",
    )
    assert site.query(may) == [(False,)]
    site.query(f"GRANT CREATE ON DATABASE {DATABASE} TO team; DROP SCHEMA day2 CASCADE")
    apply(site, tmp_path / "two", "operations.schema('other', owner='team')")
    assert site.query(may) == [(True,)]


# Grants are proven


def test_tables_of_strangers_stay_closed_and_are_named(site: Site, tmp_path: Path) -> None:
    """What the master may not grant is a WARNING with its names; all else is granted."""
    site.query(
        "CREATE ROLE legacy; CREATE TABLE public.ours ();"
        "ALTER TABLE public.ours OWNER TO postgres;"
        + "".join(
            f"CREATE TABLE public.legacy_{n} (); ALTER TABLE public.legacy_{n} OWNER TO legacy;"
            for n in range(7)
        )
        + "GRANT SELECT ON public.legacy_0 TO postgres; GRANT USAGE ON SCHEMA public TO PUBLIC"
    )

    with closing(site.connect_as_runner()) as session:
        script = paper(
            tmp_path,
            "operations.role('readers')\n"
            "    operations.read_only('readers', schemas=['public'], tables_of=[])",
        )
        session.notices.clear()
        query(session, script)
        notices = "".join(session.notices)

    assert (
        "readers does not read what others made in schema public: legacy_0, legacy_1, legacy_2, "
        "legacy_3, legacy_4 and 2 more"
    ).replace("legacy_", "public.legacy_") in notices
    assert site.query(
        "SELECT has_table_privilege('readers', 'public.ours', 'SELECT'),"
        " has_table_privilege('readers', 'public.legacy_6', 'SELECT')"
    ) == [(True, False)]


def test_a_schema_that_may_not_be_granted_fails(site: Site, tmp_path: Path) -> None:
    """PostgreSQL only warns that no privileges were granted; the helper says whose it is."""
    site.query(
        "CREATE ROLE somebody; CREATE SCHEMA shared AUTHORIZATION somebody;"
        "GRANT USAGE ON SCHEMA shared TO postgres"
    )

    said = refusal(
        site,
        tmp_path,
        "operations.role('readers')\n"
        "    operations.read_only('readers', schemas=['shared'], tables_of=[])",
    )

    assert "the master may not grant USAGE on schema shared" in said


def test_public_keeps_nothing_of_a_schema(site: Site, tmp_path: Path) -> None:
    """CREATE for PUBLIC counts as USAGE does, where the master may not take it away."""
    site.query(
        "CREATE ROLE somebody; CREATE SCHEMA shared AUTHORIZATION somebody;"
        "GRANT CREATE ON SCHEMA shared TO PUBLIC"
    )

    said = refusal(site, tmp_path, "operations.close_to_public('shared')")

    assert "PUBLIC still has schema shared (hint: Its owner somebody can take it away:" in said


@pytest.mark.parametrize("owner", [None, "keeper"])
def test_a_schema_is_closed_to_whom_default_privileges_would_let_in(
    site: Site, tmp_path: Path, owner: str | None
) -> None:
    """Whoever owns it; one that was there keeps what it gave."""
    site.query(
        'CREATE ROLE "Mal%lory"; CREATE ROLE keeper; GRANT keeper TO postgres;'
        'ALTER DEFAULT PRIVILEGES FOR ROLE postgres, keeper GRANT ALL ON SCHEMAS TO "Mal%lory";'
        "SET ROLE postgres; CREATE SCHEMA earlier;"
    )

    apply(
        site,
        tmp_path,
        f"operations.schema('shut', owner={owner!r}); operations.schema('earlier')",
    )

    assert site.query(
        "SELECT has_schema_privilege('Mal%lory', 'shut', 'USAGE, CREATE'),"
        " has_schema_privilege('Mal%lory', 'earlier', 'USAGE, CREATE')"
    ) == [(False, True)]


# Acting as another role


SETUP = """
    CREATE ROLE app; GRANT app TO postgres; CREATE SCHEMA app AUTHORIZATION app;
    SET ROLE app;
    CREATE TABLE app.seen (who text, master boolean); GRANT ALL ON app.seen TO PUBLIC;
    CREATE FUNCTION app.t() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE got_out boolean := true;
    BEGIN
        BEGIN
            PERFORM set_config('role', 'none', false);
        EXCEPTION WHEN OTHERS THEN got_out := false;
        END;
        INSERT INTO app.seen VALUES (current_user, got_out);
        RETURN NEW;
    END $$;
    CREATE TABLE app.orders (id int, note text);
    INSERT INTO app.orders VALUES (1, 'x');
    CREATE TRIGGER t AFTER INSERT OR UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.t();
    CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE ON app.orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.t();
"""
ACTED = {
    "text": "op.execute(\"UPDATE app.orders SET note = '100 % filled'\")",
    "text with parameters": (
        "import sqlalchemy as sa\n"
        "        op.execute(sa.text('UPDATE app.orders SET note = :n').bindparams(n=\"50%'s\"))"
    ),
    "many rows": (
        "import sqlalchemy as sa\n"
        "        orders = sa.table(\n"
        "            'orders', sa.column('id'), sa.column('note'), schema='app'\n"
        "        )\n"
        "        op.bulk_insert(orders, [{'id': 7, 'note': '%s'}, {'id': 8, 'note': \"it's\"}])"
    ),
    "a driver's own": (
        "op.get_bind().exec_driver_sql('UPDATE app.orders SET note = %(n)s', {'n': '$day2_as$'})"
    ),
    "nested": (
        "with operations.as_role('app'):\n"
        "            op.execute('UPDATE app.orders SET id = 2')\n"
        "        op.execute('UPDATE app.orders SET id = 3')"
    ),
}


@pytest.fixture
def app(site: Site) -> Site:
    """Return a database where the application has code in its tables."""
    site.query(f"{SETUP} TRUNCATE app.seen; RESET ROLE")
    return site


@pytest.mark.parametrize("case", ACTED)
def test_code_in_tables_runs_as_its_owner_and_cannot_get_out(
    app: Site, tmp_path: Path, case: str
) -> None:
    """Triggers, deferred ones too, run as the application's role, and cannot become the master."""
    body = f"with operations.as_role('app'):\n        {ACTED[case]}\n    "

    result = apply(app, tmp_path, f"{body}op.execute('CREATE TABLE public.after ()')")

    assert result.report.applied == ["a1"]
    assert app.query("SELECT DISTINCT who, master FROM app.seen") == [("app", False)]
    assert app.query("SELECT tableowner FROM pg_tables WHERE tablename = 'after'") == [
        ("postgres",)
    ]


LATER = """
    CREATE FUNCTION app.again() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE one text; BEGIN
        {0}
        RETURN NEW;
    END $$;
    CREATE CONSTRAINT TRIGGER again AFTER UPDATE ON app.orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.again();
"""
PUT_OFF = {
    "a cursor": (
        "EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT app.look()'",
        (
            "CREATE FUNCTION app.look() RETURNS int LANGUAGE sql AS"
            " 'INSERT INTO app.seen VALUES (current_user, false) RETURNING 1';"
        ),
    ),
    "what we have prepared": (
        (
            "FOR one IN SELECT name FROM pg_prepared_statements LOOP"
            " EXECUTE format('DEALLOCATE %I', one);"
            " EXECUTE format('PREPARE %I AS INSERT INTO app.seen VALUES (current_user)', one);"
            " END LOOP"
        ),
        "",
    ),
    "a trigger once more": ("SET CONSTRAINTS ALL DEFERRED; UPDATE app.orders SET id = id", ""),
}


@pytest.mark.parametrize("how", PUT_OFF)
def test_code_in_tables_puts_nothing_off_to_the_commit(app: Site, tmp_path: Path, how: str) -> None:
    """Whoever commits would run it: the master."""
    does, before = PUT_OFF[how]
    does = f"IF current_user = 'app' THEN {does}; END IF;"
    app.query(f"SET ROLE app; {before} {LATER.format(does)}")
    body = "with operations.as_role('app'):\n        op.execute('UPDATE app.orders SET id = 2')"

    with suppress(RevisionFailed):
        app.run(revisions=history_of(tmp_path, {"a1": body, "a2": "pass"}))

    assert "postgres" not in str(app.query("SELECT who FROM app.seen"))


def test_values_arrive_as_they_are(app: Site, tmp_path: Path) -> None:
    """Signs that mean something to drivers and to PostgreSQL are only text here."""
    apply(app, tmp_path, f"with operations.as_role('app'):\n        {ACTED['many rows']}")

    assert app.query("SELECT note FROM app.orders WHERE id > 6 ORDER BY id") == [("%s",), ("it's",)]


def test_without_it_the_code_runs_as_the_master(app: Site, tmp_path: Path) -> None:
    """That is what it is for: the trigger sees the difference."""
    apply(app, tmp_path, ACTED["text"])

    assert ("postgres", True) in app.query("SELECT DISTINCT who, master FROM app.seen")


def test_an_error_inside_ends_it(app: Site, tmp_path: Path) -> None:
    """What the revision does after a caught error is the master's again."""
    body = (
        "try:\n"
        "        with operations.as_role('app'):\n"
        "            raise KeyError('x')\n"
        "    except KeyError:\n"
        "        op.execute('CREATE TABLE public.after ()')"
    )

    apply(app, tmp_path, body)

    assert app.query("SELECT tableowner FROM pg_tables WHERE tablename = 'after'") == [
        ("postgres",)
    ]


def test_an_error_of_the_server_is_its_own(app: Site, tmp_path: Path) -> None:
    """Nothing that is done at the end hides it."""
    said = refusal(
        app,
        tmp_path,
        "with operations.as_role('app'):\n        op.execute('UPDATE app.nothing SET id = 1')",
    )

    assert "42P01" in said


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        " (SELECT 1)",
        "UPDATE app.orders SET id = 1 RETURNING id",
        "VALUES (1)",
        "-- x\nSELECT 1",
        "WITH x AS (SELECT 1) SELECT 2",
    ],
)
def test_a_statement_with_rows_is_refused(app: Site, tmp_path: Path, statement: str) -> None:
    """Its rows would get lost, and the revision would go on with none."""
    said = refusal(
        app, tmp_path, f"with operations.as_role('app'):\n        op.execute({statement!r})"
    )

    assert "returns rows" in said


def test_it_works_where_nobody_may_make_temporary_things(app: Site, tmp_path: Path) -> None:
    """TEMPORARY is lent for a moment, where it was taken from PUBLIC."""
    app.query(f"REVOKE TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC")

    apply(app, tmp_path, f"with operations.as_role('app'):\n        {ACTED['text']}")

    assert app.query("SELECT DISTINCT who FROM app.seen") == [("app",)]
    assert app.query(f"SELECT has_database_privilege('app', '{DATABASE}', 'TEMPORARY')") == [
        (False,)
    ]


def paper(folder: Path, body: str) -> str:
    """Return the script that ``alembic upgrade --sql`` writes of a revision, without its books."""
    history_of(folder, {"a1": body})
    script = alembic("upgrade", "head", "--sql", folder=folder)
    assert script.returncode == 0, script.stderr
    return script.stdout


@pytest.mark.parametrize("case", ["text", "nested", "many rows"])
def test_on_paper_it_does_the_same(app: Site, tmp_path: Path, case: str) -> None:
    """The script of --sql acts as the role too."""
    script = paper(tmp_path, f"with operations.as_role('app'):\n        {ACTED[case]}")

    with closing(app.login(app.master)) as session:
        query(session, script)

    assert app.query("SELECT DISTINCT who, master FROM app.seen") == [("app", False)]
    with pytest.raises(psycopg2.Error):
        app.query("SELECT pg_temp.day2_as_role()")
