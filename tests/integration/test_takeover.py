"""What was there before is left to whom it belongs, until somebody says otherwise."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from core.errors import Rejected, RevisionFailed
from core.model import Action, Declared, Parameters, Request, Result, TargetSource, Trigger
from core.outcome import Outcome
from core.postgres.session import query
from core.revisions.marks import MADE
from tests.equipment.histories import history_of
from tests.equipment.site import HEAD_LOGINS, INSTANCE, Site

EVENT = Request(Trigger.INSTANCE, instance=INSTANCE)

A_SCHEMA = "CREATE ROLE shop_owner; CREATE SCHEMA app_schema AUTHORIZATION shop_owner"
A_TABLE = (
    "CREATE ROLE other; CREATE SCHEMA audit AUTHORIZATION other; SET ROLE other;"
    "CREATE TABLE audit.database_changes (); RESET ROLE"
)
THERE = {
    "a login": ("CREATE ROLE app_user LOGIN PASSWORD 'of the application'", "role app_user"),
    "a schema": (A_SCHEMA, "schema app_schema of shop_owner"),
    "a table": (A_TABLE, "table audit.database_changes of other"),
}


def password_of(site: Site, role: str) -> object:
    """Return what the server has of a role's password."""
    return site.query("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,))


@pytest.mark.parametrize(("statement", "name"), THERE.values(), ids=THERE.keys())
def test_a_database_in_use_is_not_taken_by_an_event(site: Site, statement: str, name: str) -> None:
    """A tag and no target is no consent: its application would be locked out."""
    site.query(statement)

    result = site.run(request=EVENT)

    assert (result.outcome, result.reason) == (Outcome.IGNORED, "holds-others-things")
    assert name in result.message
    assert site.query("SELECT to_regnamespace('day2')") == [(None,)]


def test_an_empty_database_is_taken_by_an_event(site: Site) -> None:
    """That is what a tag is for."""
    assert site.run(request=EVENT).report.final_revision == "004"


@pytest.mark.parametrize(("statement", "name"), THERE.values(), ids=THERE.keys())
def test_a_plan_names_what_would_be_taken_over(site: Site, statement: str, name: str) -> None:
    """Who reads it decides before anything is done."""
    site.query(statement)

    result = site.run(Action.PLAN)

    assert (
        f"{name} exists, and would be taken over: a run refuses that unless take_over names it"
    ) in result.report.warnings
    assert name.split()[1] in [one["name"] for one in result.report.details["exists"]]  # type: ignore[attr-defined]


def test_a_plan_of_an_empty_database_names_nothing(site: Site) -> None:
    """And neither does one of a database that we have made."""
    assert site.run(Action.PLAN).report.details["exists"] == []
    site.run(target="002")
    assert site.run(Action.PLAN).report.details["exists"] == []


def test_a_stamp_takes_over_no_login(site: Site) -> None:
    """It says that a revision counts as applied; the password is in somebody's use."""
    site.query("CREATE ROLE app_user LOGIN PASSWORD 'of the application'")
    site.cloud.declared[INSTANCE] = Parameters(
        Declared("001", TargetSource.PARAMETER, f"/day2/{INSTANCE}/target-revision")
    )
    before = password_of(site, "app_user")
    allowed = site.settings._replace(allow_rollback=True)
    stamp = site.request(Action.STAMP, "001")._replace(from_revision="base")
    assert site.run(request=stamp, settings=allowed).outcome is Outcome.APPLIED

    result = site.run(target="001")

    assert result.outcome is Outcome.UP_TO_DATE
    assert password_of(site, "app_user") == before
    assert [text for text in result.report.warnings if "app_user was there before" in text]
    assert f"day2/{INSTANCE}/app_user" not in site.cloud.secrets


def test_what_we_made_is_ours_whatever_became_of_the_books(site: Site) -> None:
    """With schema day2 lost, a run makes all of it again, and nobody's password changes."""
    site.run()
    before = [password_of(site, login) for login in HEAD_LOGINS]
    site.query("DROP SCHEMA day2 CASCADE")

    assert site.run(Action.PLAN).report.details["exists"] == []
    assert site.run(request=EVENT).report.final_revision == "004"
    assert [password_of(site, login) for login in HEAD_LOGINS] == before


def test_what_an_earlier_build_made_is_marked(site: Site) -> None:
    """Nothing but a comment tells a role of ours, and earlier builds wrote none."""
    site.run()
    site.query("DROP TABLE day2.book, day2.run")
    for login in HEAD_LOGINS:
        site.query(f"COMMENT ON ROLE {login} IS NULL")

    assert site.run().outcome is Outcome.UP_TO_DATE
    marks = site.query(
        "SELECT DISTINCT shobj_description(oid, 'pg_authid') FROM pg_roles"
        " WHERE rolname = ANY (%s)",
        (list(HEAD_LOGINS),),
    )
    assert marks == [(MADE,)]
    site.query("DROP SCHEMA day2 CASCADE")
    assert site.run(Action.PLAN).report.details["exists"] == []


def test_passwords_that_are_settled_are_listed(site: Site) -> None:
    """An answer that nothing was pending does not hide that something was done."""
    site.run()
    site.cloud.tags[f"day2/{INSTANCE}/app_user"]["day2:unset"] = "true"

    result = site.run()

    assert result.outcome is Outcome.UP_TO_DATE
    assert result.report.details["settled_logins"] == ["app_user"]


IN_PUBLIC = (
    "CREATE ROLE shop; GRANT CREATE ON SCHEMA public TO shop; SET ROLE shop;"
    "CREATE TABLE public.alembic_version (version_num varchar(32));"
    "INSERT INTO public.alembic_version VALUES ('ae1027a6acf')"
)


def test_a_schema_in_use_is_not_closed_by_an_event(site: Site) -> None:
    """Whoever reads its tables by what PUBLIC may would be cut off; a plan says so."""
    site.query(IN_PUBLIC)

    event, planned = site.run(request=EVENT), site.run(Action.PLAN)

    assert (event.outcome, event.reason) == (Outcome.IGNORED, "holds-others-things")
    assert "schema public with things of shop" in event.message
    (warning,) = planned.report.warnings
    assert warning.startswith("schema public with things of shop would be closed to PUBLIC: ")
    assert planned.report.details["exists"] == [
        {"kind": "schema", "name": "public", "owner": "shop", "becomes": "closed to PUBLIC"},
        {
            "kind": "table",
            "name": "public.alembic_version",
            "owner": "shop",
            "becomes": "left as it is",
        },
    ]


@pytest.mark.parametrize(
    "harmless",
    ["REVOKE USAGE ON SCHEMA public FROM PUBLIC", "DROP TABLE public.alembic_version"],
)
def test_a_schema_that_nobody_loses_is_closed(site: Site, harmless: str) -> None:
    """One that is closed already, and one that is empty but for what extensions brought."""
    site.query(IN_PUBLIC)
    site.query(f"{harmless}; CREATE EXTENSION pg_stat_statements")

    assert site.run(request=EVENT).report.final_revision == "004"


# Saying where a database stands


def declare(site: Site, revision: str) -> None:
    """Write the declared target."""
    site.cloud.declared[INSTANCE] = Parameters(
        Declared(revision, TargetSource.PARAMETER, f"/day2/{INSTANCE}/target-revision")
    )


def by_hand(site: Site, action: Action, target: str, start: str, **settings: bool) -> Result:
    """Send what only a person may ask for."""
    allowed = site.settings._replace(allow_rollback=True, **settings)
    request = site.request(action, target)._replace(from_revision=start)
    return site.run(request=request, settings=allowed)


def test_a_stamp_comes_before_the_parameter(site: Site) -> None:
    """To write that first would be to apply the revision; an event then finds nothing to do."""
    result = by_hand(site, Action.STAMP, "002", "base")
    left = site.run(request=EVENT)
    declare(site, "002")

    assert result.outcome is Outcome.APPLIED
    (warning,) = result.report.warnings
    assert warning.startswith(
        "the database lacks role app_role, role app_user, role analytics_role"
    )
    assert warning.endswith("which its revisions up to 002 promise: send the action check")
    assert (left.outcome, left.reason) == (Outcome.IGNORED, "no-declared-target")
    assert site.run(request=EVENT).outcome is Outcome.UP_TO_DATE
    assert site.query("SELECT to_regrole('app_user')") == [(None,)]


def stamped(site: Site, declared: str | None, way: str, *, follow_head: bool) -> Result:
    """Stamp from one revision to another, such as ``base to 002``, where a target is in force."""
    start, target = way.split(" to ")
    if start != "base":
        by_hand(site, Action.STAMP, start, "base")
    if declared is not None:
        declare(site, declared)
    return by_hand(site, Action.STAMP, target, start, follow_head=follow_head)


GOES_ON = [
    (None, "base to 002"),
    ("by FollowHead", "base to 002"),
    ("head", "base to 002"),
    ("003", "base to 002"),
    (None, "002 to 001"),
    ("001", "002 to 001"),
    ("004", "002 to 002"),
]
UNDOES = [
    ("001", "base to 002"),
    ("nonsense", "base to 002"),
    ("by FollowHead", "002 to 001"),
    ("head", "002 to 001"),
    ("002", "002 to 001"),
]


@pytest.mark.parametrize(("target", "way"), GOES_ON)
def test_a_stamp_that_the_next_event_goes_on_from(site: Site, target: str | None, way: str) -> None:
    """It is taken, whether its owner declared a target already or will do so."""
    follows = target == "by FollowHead"
    result = stamped(site, None if follows else target, way, follow_head=follows)

    assert (result.outcome, result.report.final_revision) == (Outcome.APPLIED, way[-3:])


@pytest.mark.parametrize(("target", "way"), UNDOES)
def test_a_stamp_that_the_next_event_would_undo(site: Site, target: str, way: str) -> None:
    """It is refused, with the parameter that says another thing."""
    follows = target == "by FollowHead"
    first = f"write {way[-3:]} to /day2/{INSTANCE}/target-revision first"
    with pytest.raises(Rejected, match=first):
        stamped(site, None if follows else target, way, follow_head=follows)


def test_what_was_stamped_can_be_adopted(site: Site) -> None:
    """That is how a login of somebody else's becomes ours, once, and no other changes."""
    site.query(
        "CREATE ROLE app_role; CREATE ROLE app_user LOGIN PASSWORD 'of the application';"
        "CREATE SCHEMA app_schema; GRANT app_role, app_user TO postgres WITH ADMIN OPTION"
    )
    by_hand(site, Action.STAMP, "001", "base")
    warned = site.run(target="001")
    before = password_of(site, "app_user")

    adopted = by_hand(site, Action.ADOPT, "001", "001")

    assert [text for text in warned.report.warnings if "send the action adopt" in text]
    assert adopted.outcome is Outcome.APPLIED
    assert password_of(site, "app_user") != before
    site.login("app_user").close()
    after = site.run(target="001")
    assert (after.outcome, after.report.warnings) == (Outcome.UP_TO_DATE, [])
    with pytest.raises(Rejected, match="managed already, at 001: nothing to adopt"):
        by_hand(site, Action.ADOPT, "001", "001")


def test_the_master_may_run_what_repairs_a_stamped_database(site: Site) -> None:
    """Also where it is no member of the roles that it made itself, by hand."""
    with closing(site.connect_as_runner()) as session:
        query(
            session,
            "CREATE ROLE app_role; CREATE ROLE app_user LOGIN; CREATE ROLE legacy; GRANT legacy TO "
            "CURRENT_USER; CREATE SCHEMA app_schema AUTHORIZATION legacy; CREATE SCHEMA analytics",
        )
        by_hand(site, Action.STAMP, "002", "base")
        for one in drift(site):
            if not one["statement"].startswith("--"):
                query(session, one["statement"])

    assert [one["privilege"] for one in drift(site)] == ["the password of its secret"] * 2


def drift(site: Site) -> list[dict[str, str]]:
    """Return what a check finds."""
    found: list[dict[str, str]] = site.run(Action.CHECK).report.details["drift"]
    return found


def test_adopting_leaves_what_is_ours_already(site: Site) -> None:
    """A login that a run made keeps its password when a stamp added others."""
    site.run(target="001")
    before = password_of(site, "app_user")
    site.query(
        "CREATE ROLE analytics_role; CREATE ROLE analytics_user LOGIN PASSWORD 'by hand';"
        "CREATE SCHEMA analytics;"
        "GRANT analytics_role, analytics_user TO postgres WITH ADMIN OPTION"
    )
    by_hand(site, Action.STAMP, "002", "001")

    by_hand(site, Action.ADOPT, "002", "002")

    assert password_of(site, "app_user") == before
    site.login("analytics_user").close()


# Consent


LIVE = (
    "CREATE ROLE app_user LOGIN PASSWORD 'of the application'; CREATE ROLE app_role;"
    "CREATE ROLE shop_owner; CREATE SCHEMA app_schema AUTHORIZATION shop_owner;"
    "GRANT app_user, app_role, shop_owner TO postgres WITH ADMIN OPTION"
)
NAMES = frozenset({"app_user", "app_role", "app_schema"})


@pytest.mark.parametrize("missing", sorted(NAMES))
def test_what_was_there_is_left_until_its_name_is_given(site: Site, missing: str) -> None:
    """A login of an application keeps its password, and no secret is made for it."""
    site.query(LIVE)
    before = password_of(site, "app_user")

    with pytest.raises(RevisionFailed, match=rf'{missing} was there.*take_over": \["{missing}"'):
        site.run(request=site.request(target="001")._replace(take_over=NAMES - {missing}))

    assert password_of(site, "app_user") == before
    assert site.query("SELECT version_num FROM day2.alembic_version") == []
    if missing == "app_user":
        assert f"day2/{INSTANCE}/app_user" not in site.cloud.secrets


@pytest.mark.parametrize("major_mark", ["by hand", "by the master itself"])
def test_consent_takes_over_what_it_names(site: Site, major_mark: str) -> None:
    """And a plan of the same request warns of nothing; whoever made it was no run of ours."""
    if major_mark == "by hand":
        site.query(LIVE)
    else:
        with closing(site.connect_as_runner()) as session:
            query(
                session,
                "CREATE ROLE app_user LOGIN; CREATE ROLE app_role; CREATE SCHEMA app_schema",
            )
        with pytest.raises(RevisionFailed, match="app_role was there before"):
            site.run(target="001")
    consent = site.request(target="001")._replace(take_over=NAMES)

    planned = site.run(request=consent._replace(action=Action.PLAN))
    result = site.run(request=consent)

    assert planned.report.warnings == []
    assert result.report.applied == ["001"]
    site.login("app_user").close()
    before = password_of(site, "app_user")
    site.query("DROP SCHEMA day2 CASCADE")
    assert site.run(target="001").report.applied == ["001"]
    assert password_of(site, "app_user") == before
    site.downgrade("001")
    assert site.query("SELECT to_regrole('app_user')::text") == [("app_user",)]


def test_a_login_by_iam_of_somebody_elses_is_left(site: Site, tmp_path: Path) -> None:
    """To take its password away would lock its application out."""
    site.query("CREATE ROLE reports LOGIN PASSWORD 'of the application'")
    before = password_of(site, "reports")
    revisions = history_of(tmp_path, {"a1": "operations.login_by_iam('reports')"})

    with pytest.raises(RevisionFailed, match="reports was there before"):
        site.run(revisions=revisions)

    assert password_of(site, "reports") == before


def test_a_mark_that_another_could_have_written_says_nothing(site: Site, tmp_path: Path) -> None:
    """Since 16 whoever makes a role may comment on it, and keeps the ADMIN option."""
    site.query(
        "CREATE ROLE mallory CREATEROLE; SET ROLE mallory; CREATE ROLE team;"
        "COMMENT ON ROLE team IS 'made by day2'; GRANT team TO postgres WITH ADMIN OPTION"
    )
    revisions = history_of(tmp_path, {"a1": "operations.role('team')"})

    if site.server.programs.major >= 16:
        with pytest.raises(RevisionFailed, match="team was there before"):
            site.run(revisions=revisions)
    else:
        # There whoever may make roles may do anything to any of them.
        assert site.run(revisions=revisions).report.applied == ["a1"]
