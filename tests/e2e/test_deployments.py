"""Blue/green deployments: both sides wait for the end, and the new production is compared."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from infra.local import clusters
from tests.e2e.account import Account
from tests.equipment.waiting import wait_for

NAME = "painted"
OLD = f"{NAME}-old1"
CLUSTER = "tinted"
MASTER = f"{NAME}/master"
TAGS = [{"Key": "day2", "Value": "enabled"}, {"Key": "day2:secret", "Value": MASTER}]


@pytest.fixture(scope="module", autouse=True)
def login(account: Account) -> Iterator[dict[str, str]]:
    """
    Keep the master's login in a secret, as a team does.

    RDS refuses a deployment of a database whose master secret it manages itself.
    """
    login = {"username": "postgres", "password": secrets.token_urlsafe(16)}
    account.client("secretsmanager").create_secret(Name=MASTER, SecretString=json.dumps(login))
    yield login
    account.client("secretsmanager").delete_secret(SecretId=MASTER, ForceDeleteWithoutRecovery=True)


@pytest.fixture(scope="module")
def instance(account: Account, login: dict[str, str]) -> Iterator[None]:
    """Make the instance that is blue."""
    account.declare_ahead(NAME, "001")
    account.create(NAME, MasterUserPassword=login["password"], Tags=TAGS)
    account.result(NAME, outcome="APPLIED", final_revision="001")
    yield
    account.remove(NAME, OLD)


def deploy(account: Account, source: str) -> str:
    """Make a deployment of *source* (an ARN), wait until it is there; return its identifier."""
    made = account.client("rds").create_blue_green_deployment(
        BlueGreenDeploymentName=f"deployment-{secrets.token_hex(4)}", Source=source
    )
    identifier = str(made["BlueGreenDeployment"]["BlueGreenDeploymentIdentifier"])
    wait_for(lambda: described(account, identifier)["Status"] == "AVAILABLE", "the deployment")
    return identifier


def described(account: Account, deployment: str) -> dict[str, Any]:
    """Return what RDS says of *deployment*."""
    found = account.client("rds").describe_blue_green_deployments(
        BlueGreenDeploymentIdentifier=deployment
    )
    return dict(found["BlueGreenDeployments"][0])


@pytest.mark.usefixtures("instance")
def test_bump_waits_for_the_switchover_and_production_is_compared(account: Account) -> None:
    """Neither side is changed and nothing fails; the end of it brings what was missed."""
    before = account.instance(NAME)
    made = deploy(account, before["DBInstanceArn"])
    green = described(account, made)["Target"].rpartition(":")[2]
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


@pytest.mark.usefixtures("instance")
def test_deleted_deployment_sets_blue_free(account: Account) -> None:
    """With the green side deleted too: blue is what it was, and gets what it missed."""
    made = deploy(account, account.instance(NAME)["DBInstanceArn"])

    waits = account.run(account.declare(NAME, "003"))
    account.client("rds").delete_blue_green_deployment(
        BlueGreenDeploymentIdentifier=made, DeleteTarget=True
    )
    result = account.result(NAME, outcome="APPLIED")

    assert (waits["outcome"], waits["reason"]) == ("IGNORED", "blue-green")
    assert result["applied_migrations"] == ["003"]


def test_cluster_waits_for_its_switchover_too(account: Account, login: dict[str, str]) -> None:
    """Its members are renamed with it, and its endpoint leads to what was green."""
    account.declare_ahead(CLUSTER, "001")
    clusters.create(
        account.aws,
        CLUSTER,
        MasterUserPassword=login["password"],
        DatabaseName="shop",
        Tags=TAGS,
    )
    account.result(CLUSTER, outcome="APPLIED", final_revision="001")
    before = clusters.wait_for(account.aws, CLUSTER)
    made = deploy(account, before["DBClusterArn"])
    green = described(account, made)["Target"].rpartition(":")[2]

    waits = account.run(account.declare(CLUSTER, "002"))
    green_alone = account.ignored(green, "green-copy")
    account.client("rds").switchover_blue_green_deployment(BlueGreenDeploymentIdentifier=made)
    result = account.result(CLUSTER, outcome="APPLIED")

    assert (waits["outcome"], waits["reason"]) == ("IGNORED", "blue-green")
    assert green_alone["trigger"] in ("cluster", "instance")
    assert (result["previous_revision"], result["applied_migrations"]) == ("001", ["002"])
    after = clusters.describe(account.aws, CLUSTER)
    same = ("Endpoint", "Port", "DBClusterMembers")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert after["DbClusterResourceId"] != before["DbClusterResourceId"]
    old = clusters.describe(account.aws, f"{CLUSTER}-old1")
    assert old["DbClusterResourceId"] == before["DbClusterResourceId"]
    account.ignored(f"{CLUSTER}-old1", "old-blue")
    for name in (CLUSTER, f"{CLUSTER}-old1"):
        clusters.remove(account.aws, name)
