"""Rollback, stamp and adopt: each safeguard refuses, and what is allowed is done and recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.chaos.contract import ALLOWED, BODY, NAMES
from tests.equipment.world import INSTANCE, LOGINS, World

MakeHistory = Callable[..., Path]

MADE = {name: BODY.format(name=name) for name in NAMES}


def ask(world: World, ini: Path | None, action: str, target: str, start: str, **more: Any) -> Any:
    """Send a request by hand, and return its answer."""
    variables = more.pop("variables", ALLOWED)
    asked = world.request(action, target, from_revision=start, **more)
    return world.call(asked, ini=ini, variables=variables)


def test_rollback_goes_back_and_is_recorded(world: World, history: MakeHistory) -> None:
    """A rollback runs the downgrades newest first, a history row each; the way up is open again."""
    ini = history(MADE)
    world.call(ini=ini)
    world.declare("m2")

    behind = world.call({"instance": INSTANCE}, ini=ini)
    asked = behind.body["rollback_request"]
    answer = world.call(asked, ini=ini, variables=ALLOWED)
    again = world.call(asked, ini=ini, variables=ALLOWED)
    swept = world.call({"instance": INSTANCE}, ini=ini)

    assert behind.outcome == "BEHIND_CURRENT"
    assert (answer.outcome, answer.body["applied_migrations"]) == ("APPLIED", ["m4", "m3"])
    assert (again.outcome, swept.outcome) == ("REJECTED", "UP_TO_DATE")
    assert world.history()[4:] == [("downgrade", "m4"), ("downgrade", "m3")]
    assert world.query("SELECT to_regclass('public.m3')") == [(None,)]
    world.declare("m4")
    assert world.call({"instance": INSTANCE}, ini=ini).body["applied_migrations"] == ["m3", "m4"]


@pytest.mark.parametrize("action", ["rollback", "stamp", "adopt"])
@pytest.mark.parametrize(
    ("target", "start", "text"),
    [
        ("m2", "m4", "AllowRollback"),
        ("head", "m4", "target_revision"),
        (None, "m4", "target_revision"),
        ("m2", None, "from_revision"),
        ("m2", "m3", "at m4, not at m3"),
        ("m9", "m4", "m9"),
        ("m1", "m4", "declared target"),
    ],
)
def test_every_safeguard_refuses(
    shared_world: World, action: str, target: str, start: str, text: str
) -> None:
    """What is not allowed, not exact, not where it says or not declared changes nothing."""
    world = at_m4(shared_world)
    asked = {
        name: value
        for name, value in world.request(action, target, from_revision=start).items()
        if value is not None
    }

    answer = world.call(
        asked,
        ini=world.folder / "by-hand" / "alembic.ini",
        variables={} if text == "AllowRollback" else ALLOWED,
    )

    assert (answer.outcome, answer.body["applied_migrations"]) == ("REJECTED", []), answer
    # A managed database has nothing to adopt, which is said before what else is wrong.
    is_managed = action == "adopt" and "managed" in answer.body["message"]
    assert text in answer.body["message"] or is_managed
    assert world.current() == "m4"
    assert len(world.history()) == len(NAMES)


def test_rollback_that_fails_stops_there(world: World, history: MakeHistory) -> None:
    """A downgrade that fails is rolled back; those before it are done and listed."""
    broken = MADE["m2"].replace("DROP TABLE public.m2", "DROP TABLE public.m2; SELECT 1/0")
    ini = history(MADE | {"m2": broken})
    world.call(ini=ini)
    world.declare("m1")

    answer = ask(world, ini, "rollback", "m1", "m4")

    found = answer.body
    assert (answer.outcome, found["final_revision"]) == ("FAILED", "m2")
    assert found["applied_migrations"] == ["m4", "m3"]
    assert "revision m2 failed: 22012" in found["message"]
    assert world.current() == "m2"


def test_by_hand_is_for_direct_requests_only(world: World) -> None:
    """The bus cannot go back, stamp or adopt, whatever the function allows."""
    for action in ("rollback", "stamp", "adopt"):
        answer = world.call(
            {
                "source": "day2",
                "detail-type": "Migration Requested",
                "detail": {"instance": INSTANCE, "action": action, "target_revision": "001"},
            },
            variables=ALLOWED,
        )
        assert (answer.outcome, answer.error is not None) == ("REJECTED", True)


def test_stamp_runs_nothing(world: World, history: MakeHistory) -> None:
    """A stamp records where the database is; the next run goes on from there."""
    ini = history(MADE)
    world.declare("m2")

    answer = ask(world, ini, "stamp", "m2", "base")

    assert (answer.outcome, answer.body["final_revision"]) == ("APPLIED", "m2")
    assert world.query("SELECT to_regclass('public.m1')") == [(None,)]
    assert world.history() == [("stamp", "m1"), ("stamp", "m2")]
    assert world.call(ini=ini).body["applied_migrations"] == ["m3", "m4"]


def test_stamp_of_the_current_revision_vouches_for_changed_files(
    world: World, history: MakeHistory
) -> None:
    """A changed file is told of by log, metric and status; strict refuses; a stamp settles it."""
    ini = history(MADE)
    strict = {"DAY2_STRICT_CHECKSUMS": "true"}
    world.call(world.request(target="m2"), ini=ini)
    file = ini.parent / "alembic" / "versions" / "m1_test.py"
    text = file.read_bytes()

    file.write_bytes(text.replace(b"\n", b"\r\n"))
    assert world.call(world.request("status", None), ini=ini).body["changed_files"] == []

    file.write_bytes(text + b"# changed\n")
    status = world.call(world.request("status", None), ini=ini)
    refused = world.call(ini=ini, variables=strict)
    loose = world.call(world.request(target="m3"), ini=ini)

    assert status.body["changed_files"] == ["m1"]
    assert (refused.outcome, refused.body["applied_migrations"]) == ("FAILED", [])
    assert "m1 changed after it was applied" in refused.body["message"]
    assert "stamp" in refused.body["message"]
    assert (loose.outcome, loose.metric("RevisionFilesChanged")) == ("APPLIED", 1)
    assert "changed after it was applied: the file of m1" in loose.log

    world.declare("m3")
    assert ask(world, ini, "stamp", "m3", "m3").outcome == "APPLIED"
    assert world.call(ini=ini, variables=strict).body["applied_migrations"] == ["m4"]


def test_a_revision_that_was_put_in_later_is_told_of(world: World, history: MakeHistory) -> None:
    """The database has passed it, and never had it: strict refuses; a stamp settles it."""
    strict = {"DAY2_STRICT_CHECKSUMS": "true"}
    world.call(ini=history({"m1": "pass", "m3": "pass"}))
    ini = history({"m1": "pass", "m2": "pass", "m3": "pass"})
    world.declare("m3")

    told = [world.call(ini=ini), world.call(world.request("status", None), ini=ini)]
    refused = world.call(ini=ini, variables=strict)
    ask(world, ini, "stamp", "m3", "m3")

    why = (
        "m2 of this build: before m3, and never applied to this database: put it behind m3, or "
        "stamp m3 to vouch for it"
    )
    assert [one.body["warnings"] for one in told] == [[why], [why]]
    assert (refused.outcome, refused.body["message"]) == ("FAILED", f"{why}; nothing was touched")
    assert world.call(ini=ini, variables=strict).outcome == "UP_TO_DATE"


def as_the_older_tool(world: World) -> dict[str, str]:
    """Make the database as the older tool would, all passwords the same; return its leavings."""
    world.call()
    world.query(
        "DROP SCHEMA day2 CASCADE;"
        "CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY);"
        "ALTER TABLE public.alembic_version OWNER TO postgres;"
        "INSERT INTO public.alembic_version VALUES ('004')"
    )
    for login in LOGINS:
        world.query(f"ALTER ROLE {login} PASSWORD 'changeme'; COMMENT ON ROLE {login} IS NULL")
        world.aws.secrets.pop(f"day2/{INSTANCE}/{login}")
    world.aws.parameters.clear()
    world.declare("004")
    return dict.fromkeys(LOGINS, "changeme")


def test_adopt_takes_over(world: World) -> None:
    """Adopt copies the revision, gives each login a password of its own, and touches no table."""
    old = as_the_older_tool(world)
    table = "SELECT xmin::text, ctid::text, version_num FROM public.alembic_version"
    before = world.query(table)

    answer = ask(world, None, "adopt", "004", "base")
    after = world.call()

    assert (answer.outcome, answer.body["final_revision"]) == ("APPLIED", "004"), answer
    assert after.outcome == "UP_TO_DATE"
    assert world.query(table) == before
    assert world.history() == [("adopt", f"00{number}") for number in range(1, 5)]
    for login, password in old.items():
        world.login(login).close()
        assert world.login_secret(login)["password"] != password
        with pytest.raises(psycopg2.OperationalError):
            world.who_logs_in(login, password)
    assert ask(world, None, "adopt", "004", "004").outcome == "REJECTED"
    world.query("DROP SCHEMA day2 CASCADE; DROP TABLE public.alembic_version")
    assert world.call().outcome == "APPLIED"
    assert world.query(
        "SELECT DISTINCT shobj_description(oid, 'pg_authid') FROM pg_roles"
        " WHERE rolname = ANY (%s)",
        (list(LOGINS),),
    ) == [("taken over by day2",)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("DROP TABLE public.alembic_version", "no public.alembic_version"),
        ("DELETE FROM public.alembic_version", "0 revisions"),
        ("INSERT INTO public.alembic_version VALUES ('003')", "2 revisions"),
        (
            "UPDATE public.alembic_version SET version_num = 'ae1027a6acf'",
            "says ae1027a6acf, so it is another tool's table",
        ),
        ("UPDATE public.alembic_version SET version_num = '003'", "says 003"),
        ("DROP TABLE audit.compliance_events", "table audit.compliance_events"),
        ("DROP SCHEMA maintenance", "schema maintenance"),
        ("CREATE TABLE public.users (); ALTER TABLE public.users OWNER TO postgres", "users"),
    ],
)
def test_adopt_refuses_what_may_not_be_ours(world: World, change: str, text: str) -> None:
    """Another application's history, another revision or a missing object is refused by name."""
    as_the_older_tool(world)
    world.query(change)
    before = world.catalogue()

    answer = ask(world, None, "adopt", "004", "base")

    assert answer.outcome == "REJECTED", answer
    assert text in answer.body["message"]
    assert world.catalogue() == before


CODE = """
CREATE ROLE mallory; GRANT USAGE, CREATE ON SCHEMA public TO mallory; SET ROLE mallory;
CREATE FUNCTION public.mine() RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN
    INSERT INTO public.seen VALUES (current_user); RETURN true; END $f$;
CREATE TABLE public.seen (who text); GRANT ALL ON public.seen TO PUBLIC;
"""
STRANGERS = {
    "a view": "CREATE VIEW public.alembic_version AS SELECT '004'::varchar AS version_num"
    " WHERE public.mine()",
    "a plain table": "CREATE TABLE public.alembic_version AS SELECT '004'::varchar AS version_num",
    "a table with a policy": "CREATE TABLE public.alembic_version AS SELECT '004'::varchar AS"
    " version_num; ALTER TABLE public.alembic_version ENABLE ROW LEVEL SECURITY;"
    " CREATE POLICY p ON public.alembic_version USING (public.mine())",
    "a child of one": "CREATE TABLE public.parent (version_num varchar);"
    " CREATE TABLE public.alembic_version () INHERITS (public.parent)",
    "a sequence": "CREATE SEQUENCE public.alembic_version",
}


@pytest.mark.parametrize("then", ["", "ALTER TABLE public.alembic_version OWNER TO postgres"])
@pytest.mark.parametrize("kind", STRANGERS)
def test_adopt_runs_nothing_of_a_strangers(world: World, kind: str, then: str) -> None:
    """
    To read what somebody else made can run his code as the master: it is looked at first.

    Whoever made it gave nobody a right to it, as applications do.
    """
    as_the_older_tool(world)
    world.query("DROP TABLE public.alembic_version")
    world.query(f"{CODE} {STRANGERS[kind]}")
    world.query(then or "SELECT 1")

    answer = ask(world, None, "adopt", "004", "base")

    is_safe = kind == "a plain table" and then != ""
    assert world.query("SELECT who FROM public.seen") == []
    assert answer.outcome == ("APPLIED" if is_safe else "REJECTED"), answer


def at_m4(world: World) -> World:
    """Return the world with a light history applied, made once for all that change nothing."""
    from tests.equipment.world import make_history

    folder = world.folder / "by-hand"
    if world.current() != "m4" or not folder.exists() or len(world.history()) != len(NAMES):
        world.reset()
        ini = folder / "alembic.ini" if folder.exists() else make_history(folder, MADE)
        world.call(ini=ini)
    world.aws.parameters.clear()
    world.declare("m4")
    return world
