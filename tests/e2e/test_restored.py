"""Instances that come back: from a snapshot, from being stopped, or by another name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.account import FLEET, Account

ORIGIN, COPY, OLD = "origin", "copy", "origin-old"
TAGS = [{"Key": "day2", "Value": "enabled"}]


@pytest.fixture(scope="module", autouse=True)
def instance(account: Account) -> Iterator[None]:
    """Make the instance that both tests are about."""
    account.create_at(ORIGIN, "001")
    yield
    account.remove(ORIGIN)


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
        Tags=TAGS,
    )
    result = account.result(COPY)

    assert (result["trigger"], result["outcome"]) == ("instance", "APPLIED")
    assert (result["previous_revision"], result["applied_migrations"]) == (before, [target])
    assert account.revision(ORIGIN) == before
    theirs, own = (account.secret(f"day2/{name}/app_user") for name in (ORIGIN, COPY))
    assert theirs["password"] != own["password"]
    assert account.query(COPY, "SELECT session_user::text", own) == ("app_user",)
    account.remove(COPY)


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


def test_copy_that_only_follows_the_fleet_keeps_its_logins(account: Account) -> None:
    """It is migrated; nobody said yet that it is more than a copy, so no password changes."""
    name = "aside"
    before = account.secret(f"day2/{ORIGIN}/app_user")
    target = account.next_revision(ORIGIN)
    account.declare(FLEET, target)

    account.client("rds").restore_db_instance_to_point_in_time(
        SourceDBInstanceIdentifier=ORIGIN,
        TargetDBInstanceIdentifier=name,
        UseLatestRestorableTime=True,
        Tags=TAGS,
    )
    result = account.result(name, outcome="APPLIED")

    assert (result["target_source"], result["applied_migrations"]) == ("fleet", [target])
    assert account.query(name, "SELECT session_user::text", before) == ("app_user",)
    secrets = account.client("secretsmanager").list_secrets()["SecretList"]
    # Only those that it lacked have secrets of its own.
    assert f"day2/{name}/app_user" not in [one["Name"] for one in secrets]
    parameter = account.target_parameter(FLEET)
    account.client("ssm").delete_parameter(Name=parameter)
    account.changed(parameter, "Delete")
    account.remove(name)


def test_renamed_instance_keeps_its_logins_secrets(account: Account) -> None:
    """Its restart wakes a run, which writes the new address into the same secrets."""
    rds = account.client("rds")
    account.create_at("before", "001")
    secret = account.secret("day2/before/app_user")
    account.declare_ahead("after", "002")

    rds.modify_db_instance(
        DBInstanceIdentifier="before", NewDBInstanceIdentifier="after", ApplyImmediately=True
    )
    run = account.run(account.rds_event("after", "RDS-EVENT-0006"))

    assert (run["trigger"], run["outcome"]) == ("instance", "APPLIED")
    moved = account.secret("day2/before/app_user")
    assert moved == secret | {"dbInstanceIdentifier": "after"}
    assert account.query("after", "SELECT session_user::text", moved) == ("app_user",)
    secrets = account.client("secretsmanager").list_secrets()["SecretList"]
    assert [one["Name"] for one in secrets if one["Name"].startswith("day2/after/")] == []
    account.remove("after")


def test_restore_rename_go_on(account: Account) -> None:
    """As infra/OPERATIONS.md says it, step by step: applications read the secrets they know."""
    rds = account.client("rds")
    at = account.revision(ORIGIN)
    logins = ("app_user", "analytics_user")
    before = {login: account.secret(f"day2/{ORIGIN}/{login}") for login in logins}
    account.query(ORIGIN, "CREATE TABLE app_schema.goods AS SELECT 42 AS answer")
    rds.create_db_snapshot(DBInstanceIdentifier=ORIGIN, DBSnapshotIdentifier="good")
    account.query(ORIGIN, "DROP TABLE app_schema.goods")

    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier=COPY, DBSnapshotIdentifier="good")
    assert account.ignored(COPY, "not-opted-in")["applied_migrations"] == []
    arn = account.has_become(ORIGIN, "available")["DBInstanceArn"]
    rds.remove_tags_from_resource(ResourceName=arn, TagKeys=["day2"])
    for name, renamed in ((ORIGIN, OLD), (COPY, ORIGIN)):
        account.has_become(name, "available")
        rds.modify_db_instance(
            DBInstanceIdentifier=name, NewDBInstanceIdentifier=renamed, ApplyImmediately=True
        )
        account.ignored(renamed, "not-opted-in")
    arn = account.has_become(ORIGIN, "available")["DBInstanceArn"]
    rds.add_tags_to_resource(ResourceName=arn, Tags=TAGS)
    migrated = account.ask(instance=ORIGIN)
    checked = account.ask(instance=ORIGIN, action="check")

    assert (migrated["outcome"], migrated["final_revision"]) == ("UP_TO_DATE", at)
    assert (checked["outcome"], checked["drift"]) == ("CHECKED", [])
    port = account.instance(ORIGIN)["Endpoint"]["Port"]
    for login, secret in before.items():
        now = account.secret(f"day2/{ORIGIN}/{login}")
        assert now == secret | {"port": port}
        assert account.query(ORIGIN, "SELECT session_user::text", now) == (login,)
    assert account.query(ORIGIN, "SELECT answer FROM app_schema.goods") == (42,)
    account.remove(OLD)
