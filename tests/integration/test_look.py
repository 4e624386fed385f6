"""``status`` and ``plan``: they tell what is and what would be, and change nothing."""

from __future__ import annotations

import pytest

from core.model import Action
from core.operations.roles import VERIFIER_PLACEHOLDER
from core.outcome import Outcome
from infra.trial.catalogue import catalogue
from tests.equipment.site import DATABASE, REQUEST_ID, REVISIONS, Site


@pytest.mark.parametrize("action", [Action.STATUS, Action.PLAN])
@pytest.mark.parametrize("target", [None, "002", "004"])
def test_looking_changes_nothing(site: Site, action: Action, target: str | None) -> None:
    """At base, on the way and at head: no transaction is written, no secret made or read back."""
    if target is not None:
        site.run(target=target)
    catalogue_before = catalogue(site.server, DATABASE)
    secrets_before = {name: dict(fields) for name, fields in site.cloud.secrets.items()}
    transaction_before = site.next_transaction()

    result = site.run(action)

    assert result.report.final_revision == target
    assert site.next_transaction() == transaction_before
    assert catalogue(site.server, DATABASE) == catalogue_before
    assert site.cloud.secrets == secrets_before
    assert site.cloud.events == []


@pytest.mark.parametrize("action", [Action.STATUS, Action.PLAN])
def test_looking_takes_no_lock(site: Site, action: Action) -> None:
    """While another run holds the database, one can still look at it."""
    site.run(target="002")

    with site.lock_held():
        result = site.run(action)

    assert (result.report.final_revision, result.report.pending) == ("002", ["003", "004"])


def test_status_tells_where_the_database_stands(site: Site) -> None:
    """Status has the current revision, what is left, the head and the whole history."""
    site.run(target="002")

    result = site.run(Action.STATUS)

    history = result.report.details["history"]
    assert isinstance(history, list)
    times = [row.pop("at") for row in history]
    assert (result.outcome, result.message) == (
        Outcome.STATUS,
        "orders is at 002; the head of this build is 004; 2 pending",
    )
    assert result.report.pending == ["003", "004"]
    assert result.report.details["head_revision"] == "004"
    assert history == [
        {
            "revision": revision.identifier,
            "direction": "upgrade",
            "description": revision.description,
            "by": f"direct {REQUEST_ID}",
        }
        for revision in REVISIONS.history[:2]
    ]
    assert times == sorted(times)


def test_status_of_an_empty_database_has_no_history(site: Site) -> None:
    """A database that was never migrated is at base, with everything pending."""
    result = site.run(Action.STATUS)

    assert (result.message, result.report.pending, result.report.details["history"]) == (
        "orders is at base; the head of this build is 004; 4 pending",
        ["001", "002", "003", "004"],
        [],
    )


def test_plan_has_the_sql_of_each_pending_revision(site: Site) -> None:
    """A plan lists what would be applied, its SQL with a placeholder for each verifier."""
    site.run(target="001")

    result = site.run(Action.PLAN)

    steps = result.report.details["plan"]
    assert isinstance(steps, list)
    assert (result.outcome, result.message) == (
        Outcome.PLANNED,
        "Would apply 3 migration(s) to reach 004",
    )
    assert [(step["revision"], step["description"]) for step in steps] == [
        (revision.identifier, revision.description) for revision in REVISIONS.history[1:]
    ]
    login = f"""ALTER ROLE "analytics_user" LOGIN PASSWORD '{VERIFIER_PLACEHOLDER}'"""
    assert login in steps[0]["sql"]
    assert 'CREATE TABLE "audit"."database_changes"' in steps[2]["sql"]
    assert "SCRAM-SHA-256$" not in str(steps)


def test_plan_at_head_is_empty(site: Site) -> None:
    """At the target there is nothing to plan."""
    site.run()

    result = site.run(Action.PLAN)

    assert (result.outcome, result.report.details["plan"]) == (Outcome.PLANNED, [])
