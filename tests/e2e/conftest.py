"""The account that the end-to-end tests share, and the instances of one module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.local_aws import LocalAws
from tests.e2e.account import Account


@pytest.fixture(scope="package")
def account(local_aws: LocalAws, deployed: dict[str, str]) -> Iterator[Account]:
    """Return the account, with an ear at its bus; nothing is left in it."""
    account = Account(local_aws, deployed)
    account.listen()
    yield account
    found = account.client("rds").describe_db_instances()["DBInstances"]
    account.remove(*(one["DBInstanceIdentifier"] for one in found))
    account.listen_no_more()
