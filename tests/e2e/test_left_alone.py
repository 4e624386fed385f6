"""Instances that are not ours: their own real events come, and nothing is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.account import Account

PRIMARY = "untagged"
TAGS = [{"Key": "day2", "Value": "enabled"}]


@pytest.fixture(scope="module", autouse=True)
def instances(account: Account) -> Iterator[None]:
    """Make one instance of each kind; all but the first have the tag."""
    rds = account.client("rds")
    account.create(PRIMARY, tagged=False)
    account.create("mysql", Engine="mysql")
    account.has_become(PRIMARY, "available")
    rds.create_db_instance_read_replica(
        DBInstanceIdentifier="replica", SourceDBInstanceIdentifier=PRIMARY, Tags=TAGS
    )
    yield
    account.remove("replica", PRIMARY, "mysql")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (PRIMARY, "not-opted-in"),
        ("replica", "read-replica"),
        ("mysql", "not-postgresql"),
    ],
)
def test_event_of_an_instance_that_is_not_ours(account: Account, name: str, reason: str) -> None:
    """The reason is in the log, and no state is kept."""
    run = account.ignored(name, reason)

    assert (run["trigger"], run["outcome"], run["applied_migrations"]) == (
        "instance",
        "IGNORED",
        [],
    )
    found = account.client("ssm").get_parameters(Names=[account.observed_parameter(name)])
    assert found["Parameters"] == []


def test_database_without_the_tag_is_untouched(account: Account) -> None:
    """A bump does not help: the tag is the instance owner's consent."""
    run = account.run(account.declare(PRIMARY, "004"))

    assert (run["trigger"], run["reason"]) == ("parameter", "not-opted-in")
    row = account.query(PRIMARY, "SELECT to_regnamespace('day2'), to_regrole('app_role')")
    assert row == (None, None)
