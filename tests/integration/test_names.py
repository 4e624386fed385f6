"""Which schema a revision's unqualified names are found in, and when that schema is trusted."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import RevisionFailed, RunFailed
from core.postgres import names
from core.postgres.beginning import opening, prepare_openings
from core.postgres.names import Look
from core.postgres.session import query
from tests.equipment.histories import history_of
from tests.equipment.site import DATABASE, Site

IS_TRUSTED = '"public", pg_temp'

# Each is done by the superuser, who then is mallory or the master where it says so.
NOT_TRUSTED = {
    "a login may create": "GRANT CREATE ON SCHEMA public TO mallory",
    "everybody may": "GRANT CREATE ON SCHEMA public TO PUBLIC",
    "a login's group may": "GRANT CREATE ON SCHEMA public TO others; GRANT others TO mallory",
    "a group that a login may act as": (
        "GRANT CREATE ON SCHEMA public TO others; ALTER ROLE mallory NOINHERIT;"
        " GRANT others TO mallory"
    ),
    "a login owns it": "ALTER SCHEMA public OWNER TO mallory;"
    " REVOKE ALL ON SCHEMA public FROM mallory",
    "a login owns the database": (
        f"ALTER SCHEMA public OWNER TO pg_database_owner;"
        f" ALTER DATABASE {DATABASE} OWNER TO mallory"
    ),
    "a function": "CREATE FUNCTION public.quote_ident(name) RETURNS text RETURN 'x';"
    " ALTER FUNCTION public.quote_ident(name) OWNER TO mallory",
    "a function of a group": "CREATE FUNCTION public.quote_ident(name) RETURNS text RETURN 'x';"
    " ALTER FUNCTION public.quote_ident(name) OWNER TO others",
    "a function called as a type": "CREATE FUNCTION public.jsonb(text) RETURNS int RETURN 1;"
    " ALTER FUNCTION public.jsonb(text) OWNER TO mallory",
    "a procedure": "CREATE PROCEDURE public.format(int) LANGUAGE sql AS '';"
    " ALTER PROCEDURE public.format(int) OWNER TO mallory",
    "an aggregate": "CREATE AGGREGATE public.sum(text) (SFUNC = textcat, STYPE = text);"
    " ALTER AGGREGATE public.sum(text) OWNER TO mallory",
    "a function of an extension": "CREATE EXTENSION citext SCHEMA public;"
    " CREATE FUNCTION public.lower(name) RETURNS text RETURN 'x';"
    " ALTER FUNCTION public.lower(name) OWNER TO mallory;"
    " ALTER EXTENSION citext ADD FUNCTION public.lower(name)",
    "a type called as a function": "CREATE DOMAIN public.quote_ident AS text;"
    " ALTER DOMAIN public.quote_ident OWNER TO mallory",
    "a range, which makes functions": "CREATE TYPE public.format AS RANGE (SUBTYPE = int4);"
    " ALTER TYPE public.format OWNER TO mallory",
    "an operator": "CREATE FUNCTION public.same(varchar, varchar) RETURNS boolean RETURN true;"
    " CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.same);"
    " ALTER OPERATOR public.= (varchar, varchar) OWNER TO mallory",
    "an operator of ours on a function of theirs": (
        "CREATE FUNCTION public.mine(name, text) RETURNS boolean RETURN true;"
        "CREATE OPERATOR public.<<>> (LEFTARG = name, RIGHTARG = text, FUNCTION = public.mine);"
        "ALTER FUNCTION public.mine(name, text) OWNER TO mallory"
    ),
    "a cast": "CREATE DOMAIN public.kind AS text; CREATE TYPE public.colour AS ENUM ('red');"
    " CREATE CAST (public.colour AS varchar) WITH INOUT AS IMPLICIT;"
    " ALTER TYPE public.colour OWNER TO mallory",
    "a cast by a function of theirs": "CREATE TYPE public.colour AS ENUM ('red');"
    " CREATE FUNCTION public.plain(public.colour) RETURNS int RETURN 1;"
    " CREATE CAST (public.colour AS int) WITH FUNCTION public.plain(public.colour) AS IMPLICIT;"
    " ALTER FUNCTION public.plain(public.colour) OWNER TO mallory",
}
TRUSTED = {
    "nothing": "SELECT 1",
    "an application's tables": "CREATE TABLE public.format (id int);"
    " ALTER TABLE public.format OWNER TO mallory",
    "an application's functions and types": (
        "CREATE FUNCTION public.total(int) RETURNS int RETURN 1;"
        " ALTER FUNCTION public.total(int) OWNER TO mallory;"
        " CREATE TYPE public.colour AS ENUM ('red'); ALTER TYPE public.colour OWNER TO mallory"
    ),
    "a group without a login": "GRANT CREATE ON SCHEMA public TO others",
    "extensions of the superuser's": "CREATE EXTENSION citext SCHEMA public",
    "ours": "CREATE FUNCTION public.quote_ident(name) RETURNS text RETURN 'x';"
    " ALTER FUNCTION public.quote_ident(name) OWNER TO postgres",
    "who can be the master": "GRANT CREATE ON SCHEMA public TO mallory; GRANT postgres TO mallory",
    "another superuser": "CREATE ROLE root LOGIN SUPERUSER; GRANT CREATE ON SCHEMA public TO root",
    "what lies elsewhere": "CREATE SCHEMA elsewhere AUTHORIZATION mallory;"
    " CREATE FUNCTION elsewhere.quote_ident(name) RETURNS text RETURN 'x';"
    " ALTER FUNCTION elsewhere.quote_ident(name) OWNER TO mallory",
}


@pytest.fixture
def crowded(site: Site) -> Site:
    """Return an instance with another login and another group, who may not create anywhere."""
    site.query(
        "CREATE ROLE mallory LOGIN; CREATE ROLE others; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    )
    return site


def path_of(site: Site, look: Look = Look.IN_FULL, schema: str = "public") -> str:
    """Return the search path that a revision would get now by *look*."""
    with closing(site.connect_as_runner()) as session:
        found = query(session, f"{prepare_openings(schema)}; {opening(look)}")
        return str(found[0][-1])


@pytest.mark.parametrize("what", NOT_TRUSTED)
def test_schema_that_is_not_trusted_is_not_searched(crowded: Site, what: str) -> None:
    """Whoever could put something there, or has, is named, and nothing of theirs is found."""
    assert {path_of(crowded, look) for look in Look} == {IS_TRUSTED}

    crowded.query(NOT_TRUSTED[what])

    assert path_of(crowded) == names.OURS
    # The quick one trusts nothing that the one at all logins does not.
    quick = path_of(crowded, Look.AT_MYSELF)
    assert quick in (names.OURS, path_of(crowded, Look.AT_WHO_MAY_CREATE))
    with closing(crowded.connect_as_runner()) as session:
        found = [reason for (reason,) in query(session, names.reasons("public"))]
    assert found
    assert all("mallory" in reason or "others" in reason for reason in found)


@pytest.mark.parametrize("what", TRUSTED)
def test_ordinary_schema_is_trusted(crowded: Site, what: str) -> None:
    """What nothing is picked up from by mistake is not in the way of an ordinary history."""
    crowded.query(TRUSTED[what])

    assert path_of(crowded) == IS_TRUSTED
    assert path_of(crowded, Look.AT_WHO_MAY_CREATE) == IS_TRUSTED


def test_name_that_is_not_found_is_told_with_the_reason(crowded: Site, tmp_path: Path) -> None:
    """The error says why public is not searched, and the way out of it works."""
    crowded.query("GRANT CREATE ON SCHEMA public TO mallory; CREATE TABLE public.there (id int)")
    for statement in ("SELECT * FROM there()", "SELECT * FROM there", "CREATE TABLE new (id int)"):
        revisions = history_of(tmp_path / statement[-6:], {"a1": f'op.execute("{statement}")'})

        with pytest.raises(RevisionFailed) as caught:
            crowded.run(revisions=revisions)

        assert (
            "; schema public is not searched, because its names cannot be trusted (login mallory "
            "may create in it): write public. before the name, or take that away (REVOKE CREATE "
            "ON SCHEMA public FROM PUBLIC, or from the login)"
        ) in str(caught.value)
    refused = "DO $$ BEGIN PERFORM pg_catalog.now(); RAISE insufficient_privilege; END $$"
    with pytest.raises(RevisionFailed) as caught:
        crowded.run(revisions=history_of(tmp_path / "refused", {"a1": f"op.execute({refused!r})"}))
    assert "is not searched" not in str(caught.value)
    crowded.query("REVOKE CREATE ON SCHEMA public FROM mallory")

    assert crowded.run(revisions=revisions).report.final_revision == "a1"


def test_trust_is_asked_for_before_each_revision(crowded: Site, tmp_path: Path) -> None:
    """What one revision grants, the next one no longer trusts; nothing runs as a stranger's."""
    seen = (
        "CREATE TABLE public.{} AS SELECT pg_catalog.current_setting('search_path') AS path,"
        " pg_catalog.quote_ident('x'::name) AS quoted"
    )
    changes = {
        "SELECT 1": IS_TRUSTED,
        "GRANT CREATE ON SCHEMA public TO mallory": names.OURS,
        "REVOKE CREATE ON SCHEMA public FROM mallory": IS_TRUSTED,
        "GRANT CREATE ON SCHEMA public TO others": IS_TRUSTED,
        # Nothing of the schema's own.
        "GRANT others TO mallory": names.OURS,
        "REVOKE others FROM mallory": IS_TRUSTED,
        "ALTER ROLE others LOGIN": names.OURS,
        "REVOKE CREATE ON SCHEMA public FROM others": IS_TRUSTED,
        f"ALTER DATABASE {DATABASE} OWNER TO mallory": names.OURS,
        f"ALTER DATABASE {DATABASE} OWNER TO postgres": IS_TRUSTED,
    }
    # Who makes him the owner may act as him.
    crowded.query("GRANT mallory, others TO postgres WITH ADMIN OPTION")
    bodies = [f'op.execute("{one}")' for change in changes for one in (change, seen)]
    revisions = history_of(
        tmp_path, {f"a{number}": body.format(f"t{number}") for number, body in enumerate(bodies)}
    )

    crowded.run(revisions=revisions)

    paths = [
        crowded.query(f"SELECT path FROM public.t{number}")[0][0]
        for number in range(1, len(bodies), 2)
    ]
    assert paths == [*changes.values()]


def test_folder_may_declare_another_schema(crowded: Site, tmp_path: Path) -> None:
    """With revision_schema in alembic.ini, unqualified names are in that one, if it is trusted."""
    crowded.query("CREATE SCHEMA app AUTHORIZATION postgres")
    revisions = history_of(tmp_path, {"a1": 'op.execute("CREATE TABLE new (id int)")'})
    ini = tmp_path / "alembic.ini"
    ini.write_text(ini.read_text().replace("[alembic]\n", "[alembic]\nrevision_schema = app\n"))

    crowded.run(revisions=revisions)

    assert crowded.query("SELECT oid::regclass::text FROM pg_class WHERE relname = 'new'") == [
        ("app.new",)
    ]


@pytest.mark.parametrize("name", ["$user", "pg_temp", "a, b", 'x"', "", "App"])
def test_declared_schema_that_is_no_plain_name_is_refused(
    site: Site, tmp_path: Path, name: str
) -> None:
    """The error names the file, the key and what to write."""
    revisions = history_of(tmp_path, {"a1": "pass"})
    ini = tmp_path / "alembic.ini"
    ini.write_text(ini.read_text().replace("[alembic]\n", f"[alembic]\nrevision_schema = {name}\n"))

    with pytest.raises(RunFailed, match=r"^alembic\.ini: revision_schema = .*plain name"):
        site.run(revisions=revisions)

    assert site.query("SELECT count(*) FROM day2.history") == [(0,)]


def test_what_came_while_a_revision_had_committed_is_seen(crowded: Site, tmp_path: Path) -> None:
    """Between its commit and its end somebody may create, and have that taken away again."""
    key = 7001
    path = "SELECT current_setting('search_path') AS path"
    wait = f'op.execute("SELECT pg_advisory_lock({key})")'
    revisions = history_of(
        tmp_path,
        {
            "a1": f'op.execute("CREATE TABLE public.x ()"); op.get_bind().commit(); {wait}',
            "a2": f'op.execute("CREATE TABLE pg_temp.seen AS {path}");'
            ' op.execute("SELECT public.note((SELECT path FROM pg_temp.seen))")',
        },
    )
    crowded.query(
        "CREATE TABLE public.noted (path text);"
        "CREATE FUNCTION public.note(text) RETURNS void LANGUAGE sql SECURITY DEFINER"
        " AS 'INSERT INTO public.noted VALUES ($1)';"
        "GRANT EXECUTE ON FUNCTION public.note(text) TO PUBLIC"
    )
    with closing(crowded.server.superuser(DATABASE)) as somebody:
        query(somebody, "SELECT pg_advisory_lock(%s)", (key,))
        runner = threading.Thread(target=lambda: crowded.run(revisions=revisions))
        runner.start()
        crowded.wait_until_somebody_waits()
        query(somebody, NOT_TRUSTED["a function"])
        query(somebody, "SELECT pg_advisory_unlock(%s)", (key,))
        runner.join()

    assert crowded.query("SELECT path FROM public.noted") == [(names.OURS,)]
