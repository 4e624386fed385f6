"""What is known to be left of an instance that is gone, and what is left alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.decisions.orphans import Live
from infra.orphans import (
    Leftovers,
    Orphan,
    delete_all,
    live_ones,
    orphaned_parameter,
    orphaned_secret,
)

WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
LIVE = Live({"orders", "renamed"}, {"db-ORDERS", "db-RENAMED"})
STATE = {
    "dbi_resource_id": "db-GONE",
    "database": "app",
    "revision": "004",
    "outcome": "APPLIED",
    "target": "004",
    "build": "b",
    "at": WRITTEN.isoformat(),
    "request_id": "r",
}


def secret(name: str, **tags: str) -> dict[str, Any]:
    """Return a secret as Secrets Manager lists it."""
    listed = [{"Key": key.replace("_", "-"), "Value": value} for key, value in tags.items()]
    for tag in listed:
        tag["Key"] = f"day2:{tag['Key']}"
    return {"Name": name, "ARN": f"arn:{name}", "LastChangedDate": WRITTEN, "Tags": listed}


def parameter(name: str, value: str) -> dict[str, Any]:
    """Return a parameter as Parameter Store lists it."""
    return {"Name": name, "Value": value, "LastModifiedDate": WRITTEN}


def test_a_secret_whose_instance_is_gone_is_told_with_its_age() -> None:
    """Its name and its DbiResourceId, both."""
    found = orphaned_secret(secret("day2/gone/app_user", dbi_resource_id="db-GONE"), "day2", LIVE)

    assert found is not None
    assert found.is_ours
    assert found.line(WRITTEN + timedelta(days=41, hours=5)) == (
        "secret  day2/gone/app_user  of gone (db-GONE), 41 day(s) old"
    )


@pytest.mark.parametrize(
    "kept",
    [
        secret("day2/orders/app_user", dbi_resource_id="db-ORDERS"),
        secret("day2/orders/app_user", dbi_resource_id="db-BEFORE"),
        secret("day2/old-name/app_user", dbi_resource_id="db-RENAMED"),
        secret("day2/gone/app_user"),
        secret("day2/gone/app_user", made="true"),
        secret("day2/gone", dbi_resource_id="db-GONE"),
        secret("day2/gone/app_user/more", dbi_resource_id="db-GONE"),
        secret("day2-other/gone/app_user", dbi_resource_id="db-GONE"),
    ],
    ids=[
        "in use",
        "of a restored copy that took the name",
        "of an instance that has another name now",
        "somebody else's",
        "of a server that is not an instance",
        "not a login's",
        "not a login's either",
        "another stack's",
    ],
)
def test_any_other_secret_is_left_alone(kept: dict[str, Any]) -> None:
    """Whoever deletes one that is in use cuts an application off."""
    assert orphaned_secret(kept, "day2", LIVE) is None


def test_what_is_of_a_cluster_is_in_use() -> None:
    """Its secrets have the cluster's name and resource id, which no instance has."""
    instance = {"DBInstanceIdentifier": "orders", "DbiResourceId": "db-ORDERS"}
    cluster = {"DBClusterIdentifier": "ledger", "DbClusterResourceId": "cluster-LEDGER"}
    live = live_ones([instance], [cluster])

    for name, resource_id in (("ledger", "cluster-BEFORE"), ("ledger-old", "cluster-LEDGER")):
        its = secret(f"day2/{name}/app_user", dbi_resource_id=resource_id)
        assert orphaned_secret(its, "day2", live) is None
    left = secret("day2/gone/app_user", dbi_resource_id="cluster-GONE")
    assert orphaned_secret(left, "day2", live) is not None


def test_states_are_ours_and_targets_their_owners() -> None:
    """A target may be declared ahead of its instance."""
    state = orphaned_parameter(
        parameter("/day2/gone/observed-state", json.dumps(STATE)), "day2", LIVE
    )
    target = orphaned_parameter(parameter("/day2/gone/target-revision", "004"), "day2", LIVE)

    assert state is not None
    assert target is not None
    assert (state.kind, state.is_ours) == ("state", True)
    assert (target.kind, target.is_ours) == ("target", False)
    assert target.line(WRITTEN).endswith("kept: its owner wrote it")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("/day2/orders/observed-state", json.dumps(STATE)),
        ("/day2/orders/target-revision", "004"),
        ("/day2/_fleet/target-revision", "004"),
        ("/day2/gone/observed-state", json.dumps(STATE | {"dbi_resource_id": "db-RENAMED"})),
        ("/day2/gone/observed-state", json.dumps(STATE | {"dbi_resource_id": ""})),
        ("/day2/gone/observed-state", "not ours"),
        ("/day2/gone/something", "else"),
        ("/day2/gone", "else"),
    ],
)
def test_any_other_parameter_is_left_alone(name: str, value: str) -> None:
    """It is in use, or not known to be one of day2's."""
    assert orphaned_parameter(parameter(name, value), "day2", LIVE) is None


def test_one_that_cannot_be_deleted_keeps_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as a secret that is replicated to another region; it is named, and the status is 1."""

    class Account(Leftovers):
        def __init__(self) -> None:
            self.deleted: list[str] = []

        def delete(self, orphan: Orphan) -> None:
            if orphan.name == "replicated":
                refused = {"Code": "InvalidRequestException", "Message": "it has replicas"}
                raise ClientError({"Error": refused}, "DeleteSecret")
            self.deleted.append(orphan.name)

    there = Account()
    every = [Orphan("secret", name, name, "gone", WRITTEN) for name in ("replicated", "other")]

    assert delete_all(there, every) == 1

    said = capsys.readouterr()
    assert there.deleted == ["other"]
    assert said.out == "1 deleted, 1 left; secrets can be restored for 30 days\n"
    assert "not deleted: replicated: " in said.err
    assert "it has replicas" in said.err
