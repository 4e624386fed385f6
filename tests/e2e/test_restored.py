"""Instances that come back: from a snapshot, or from being stopped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.account import Account

ORIGIN, COPY = "origin", "copy"


@pytest.fixture(scope="module", autouse=True)
def instance(account: Account) -> Iterator[None]:
    """Make the instance that both tests are about."""
    account.create_at(ORIGIN, "001")
    yield
    account.remove(ORIGIN, COPY)


def test_restored_instance_is_caught_up(account: Account) -> None:
    """It comes with its snapshot's revision, and gets the rest, and logins of its own."""
    rds = account.client("rds")
    before = account.revision(ORIGIN)
    target = account.next_revision(ORIGIN)
    rds.create_db_snapshot(DBInstanceIdentifier=ORIGIN, DBSnapshotIdentifier="before-the-copy")
    account.declare_ahead(COPY, target)

    rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier=COPY,
        DBSnapshotIdentifier="before-the-copy",
        Tags=[{"Key": "day2", "Value": "enabled"}],
    )
    result = account.result(COPY)

    assert (result["trigger"], result["outcome"]) == ("instance", "APPLIED")
    assert (result["previous_revision"], result["applied_migrations"]) == (before, [target])
    assert account.revision(ORIGIN) == before
    theirs, own = (account.secret(f"day2/{name}/app_user") for name in (ORIGIN, COPY))
    assert theirs["password"] != own["password"]
    assert account.query(COPY, "SELECT session_user::text", own) == ("app_user",)


def test_started_instance_is_caught_up(account: Account) -> None:
    """A bump finds it stopped and is left alone; the start brings what was missed."""
    target = account.next_revision(ORIGIN)
    account.client("rds").stop_db_instance(DBInstanceIdentifier=ORIGIN)
    account.has_become(ORIGIN, "stopped")

    bumped = account.run(account.declare(ORIGIN, target))
    account.client("rds").start_db_instance(DBInstanceIdentifier=ORIGIN)
    result = account.result(ORIGIN, outcome="APPLIED", final_revision=target)

    assert (bumped["trigger"], bumped["reason"]) == ("parameter", "stopped")
    assert (result["trigger"], result["applied_migrations"]) == ("instance", [target])
