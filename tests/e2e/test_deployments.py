"""Blue/green deployments: both sides wait for the end, and the new production is compared."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.account import Account, wait_for

NAME = "painted"
OLD = f"{NAME}-old1"
MASTER = f"{NAME}/master"


@pytest.fixture(scope="module", autouse=True)
def instance(account: Account) -> Iterator[None]:
    """
    Make the instance that is blue; its secret is its team's.

    RDS refuses a deployment of an instance whose master secret it manages itself.
    """
    login = {"username": "postgres", "password": secrets.token_urlsafe(16)}
    account.client("secretsmanager").create_secret(Name=MASTER, SecretString=json.dumps(login))
    account.declare_ahead(NAME, "001")
    tags = {"day2": "enabled", "day2:secret": MASTER}
    account.create(
        NAME,
        MasterUserPassword=login["password"],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    account.result(NAME, outcome="APPLIED", final_revision="001")
    yield
    account.remove(NAME, OLD)
    account.client("secretsmanager").delete_secret(SecretId=MASTER, ForceDeleteWithoutRecovery=True)


@pytest.fixture
def deployment(account: Account) -> Callable[[str], str]:
    """Make a deployment of the instance, wait until it is there, and return its identifier."""
    rds = account.client("rds")

    def make(name: str) -> str:
        made = rds.create_blue_green_deployment(
            BlueGreenDeploymentName=name, Source=account.instance(NAME)["DBInstanceArn"]
        )
        identifier = str(made["BlueGreenDeployment"]["BlueGreenDeploymentIdentifier"])
        wait_for(lambda: described(account, identifier)["Status"] == "AVAILABLE", "the deployment")
        return identifier

    return make


def described(account: Account, deployment: str) -> dict[str, Any]:
    """Return what RDS says of *deployment*."""
    found = account.client("rds").describe_blue_green_deployments(
        BlueGreenDeploymentIdentifier=deployment
    )
    return dict(found["BlueGreenDeployments"][0])


def test_bump_waits_for_the_switchover_and_production_is_compared(
    account: Account, deployment: Callable[[str], str]
) -> None:
    """Neither side is changed and nothing fails; the end of it brings what was missed."""
    made = deployment("switched")
    green = described(account, made)["Target"].rpartition(":")[2]
    before = account.instance(NAME)
    failures = account.failures()

    waits = account.run(account.declare(NAME, "002"))
    green_alone = account.ignored(green, "green-copy")
    account.client("rds").switchover_blue_green_deployment(BlueGreenDeploymentIdentifier=made)
    result = account.result(NAME, outcome="APPLIED")
    old_alone = account.ignored(OLD, "old-blue")

    assert (waits["outcome"], waits["reason"]) == ("IGNORED", "blue-green")
    assert (waits["trigger"], waits["applied_migrations"]) == ("parameter", [])
    assert (green_alone["trigger"], old_alone["trigger"]) == ("instance", "instance")
    assert account.failures() == failures
    assert (result["previous_revision"], result["applied_migrations"]) == ("001", ["002"])
    after = account.instance(NAME)
    assert after["Endpoint"] == before["Endpoint"]
    assert after["DbiResourceId"] != before["DbiResourceId"]
    assert account.instance(OLD)["DbiResourceId"] == before["DbiResourceId"]
    said = [line["message"] for line in account.lines(result["request_id"])]
    assert f"{NAME} is a copy of another database, with all promised" in said
    for login in ("app_user", "analytics_user"):
        secret = account.secret(f"day2/{NAME}/{login}")
        assert account.query(NAME, "SELECT session_user::text", secret) == (login,)
    master = account.secret(MASTER)
    versions = "SELECT string_agg(version_num, ',') FROM day2.alembic_version"
    assert account.query(OLD, versions, master) == ("001",)


def test_deleted_deployment_sets_blue_free(
    account: Account, deployment: Callable[[str], str]
) -> None:
    """With the green side deleted too: blue is what it was, and gets what it missed."""
    made = deployment("deleted")

    waits = account.run(account.declare(NAME, "003"))
    account.client("rds").delete_blue_green_deployment(
        BlueGreenDeploymentIdentifier=made, DeleteTarget=True
    )
    result = account.result(NAME, outcome="APPLIED")

    assert (waits["outcome"], waits["reason"]) == ("IGNORED", "blue-green")
    assert result["applied_migrations"] == ["003"]
