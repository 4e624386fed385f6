"""The three triggers: an instance appears, its parameter is bumped, an operator invokes."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from infra.local.local_aws import interpreter
from tests.e2e.account import Account

LOGINS = ("app_user", "analytics_user", "backup_user")


def test_instance_appears_is_bumped_and_is_asked(account: Account) -> None:
    """Each of the three is what moved the database, and each report is true."""
    name = "triggers"
    account.declare_ahead(name, "002")

    account.create(name)
    appeared = account.result(name)
    account.declare(name, "004")
    bumped = account.result(name)
    status = account.ask(instance=name, action="status")
    again = account.invoke(instance=name, target_revision="004")

    assert told(appeared) == {
        "instance": name,
        "database": "shop",
        "trigger": "instance",
        "action": "migrate",
        "outcome": "APPLIED",
        "message": "Successfully applied 2 migration(s) to reach 002",
        "applied_migrations": ["001", "002"],
        "previous_revision": None,
        "final_revision": "002",
        "target_revision": "002",
        "target_source": "parameter",
        "pending_migrations": [],
    }
    assert told(bumped) == told(appeared) | {
        "trigger": "parameter",
        "message": "Successfully applied 2 migration(s) to reach 004",
        "applied_migrations": ["003", "004"],
        "previous_revision": "002",
        "final_revision": "004",
        "target_revision": "004",
    }
    assert (status["outcome"], status["final_revision"]) == ("STATUS", "004")
    assert [(row["revision"], row["by"]) for row in status["history"]] == [
        ("001", f"instance {appeared['request_id']}"),
        ("002", f"instance {appeared['request_id']}"),
        ("003", f"parameter {bumped['request_id']}"),
        ("004", f"parameter {bumped['request_id']}"),
    ]
    assert again.response["statusCode"] == 200
    assert again.response["body"]["success"] is True
    assert again.response["body"]["outcome"] == "UP_TO_DATE"
    assert again.response["body"]["message"] == "No pending migrations - database is up to date!"
    assert again.response["body"]["applied_migrations"] == []
    assert "No pending migrations - database is up to date!" in again.log
    observed = account.observed(name)
    assert (observed["revision"], observed["target"]) == ("004", "004")
    assert observed["dbi_resource_id"] == account.instance(name)["DbiResourceId"]


def test_plain_create_with_the_tag_is_enough(account: Account) -> None:
    """AWS's own command line makes an instance, and its logins work with no further step."""
    name = "plain"

    aws_command(
        account,
        *("rds", "create-db-instance", "--db-instance-identifier", name, "--engine", "postgres"),
        *("--db-instance-class", "db.t4g.micro", "--allocated-storage", "20"),
        *("--db-name", "shop", "--master-username", "postgres", "--manage-master-user-password"),
        *("--tags", "Key=day2,Value=enabled"),
    )
    result = account.result(name)

    assert (result["trigger"], result["target_source"]) == ("instance", "default")
    assert result["applied_migrations"] == ["001", "002", "003", "004"]
    for login in LOGINS:
        secret = account.secret(f"day2/{name}/{login}")
        assert secret["dbInstanceIdentifier"] == name
        assert account.query(name, "SELECT session_user::text", secret) == (login,)


def told(detail: dict[str, Any]) -> dict[str, Any]:
    """Return a result's detail without what differs from run to run."""
    return {
        name: value for name, value in detail.items() if name not in ("duration_ms", "request_id")
    }


def aws_command(account: Account, *words: str) -> dict[str, Any]:
    """Run AWS's own command line as a person would after ``eval "$(make -s env)"``."""
    # LocalStack brings it; a person's own settings must not tell in it. Release 1 of it does not
    # heed AWS_ENDPOINT_URL for rds and sqs in us-east-1, so that the option is needed.
    program = interpreter("localstack").with_name("aws")
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    done = subprocess.run(
        [program, "--endpoint-url", account.aws.endpoint_url, *words],
        env=os.environ | account.aws.environment() | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
