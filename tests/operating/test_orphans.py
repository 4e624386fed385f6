"""What an instance leaves behind is listed once it is gone, and deleted on a word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra import orphans
from infra.local import stack, workflow
from infra.local.local_aws import LocalAws
from tests.operating.conftest import put_to_sleep

STACK = "leftovers"
NAMES = ("passing", "staying")
LOGINS = {"analytics_user", "app_user", "backup_user"}


@pytest.fixture
def aws(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return the account: two migrated instances of a stack of their own, one with a target."""
    for name, value in local_aws.environment().items():
        monkeypatch.setenv(name, value)
    outputs = stack.deploy(local_aws, stack=STACK)
    put_to_sleep(local_aws, STACK)
    for name in NAMES:
        local_aws.client("rds").create_db_instance(
            DBInstanceIdentifier=name,
            Engine="postgres",
            DBInstanceClass="db.t4g.micro",
            AllocatedStorage=20,
            MasterUsername="postgres",
            ManageMasterUserPassword=True,
        )
    for name in NAMES:
        workflow.wait_for_instance(local_aws, name)
        call = stack.invoke(local_aws, {"instance": name}, function=outputs["FunctionName"])
        assert call.succeeded, call.log
    local_aws.client("ssm").put_parameter(
        Name=f"/{STACK}/passing/target-revision", Value="004", Type="String"
    )
    yield local_aws
    for name in NAMES:
        workflow.remove_instance(local_aws, name)


def secrets(aws: LocalAws, instance: str) -> dict[str, bool]:
    """Return the login secrets of *instance*, and whether each is scheduled for deletion."""
    client = aws.client("secretsmanager")
    found = (client.describe_secret(SecretId=f"{STACK}/{instance}/{one}") for one in LOGINS)
    return {one["Name"].rpartition("/")[2]: "DeletedDate" in one for one in found}


def test_what_is_left_is_listed_and_deleted_on_a_word(
    aws: LocalAws, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing while its instance is there; then secrets and state, and never what is in use."""
    assert orphans.main(["--stack", STACK]) == 0
    said = capsys.readouterr()
    assert said.out == "0 left over, 0 of them ours\n"
    assert said.err.startswith(f"account 000000000000, region us-east-1, stack {STACK} at ")

    workflow.remove_instance(aws, "passing")
    assert orphans.main(["--stack", STACK]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in listed[:-1]] == [
        *(f"{STACK}/passing/{login}" for login in sorted(LOGINS)),
        f"/{STACK}/passing/observed-state",
        f"/{STACK}/passing/target-revision",
    ]
    assert "kept: its owner wrote it" in listed[-2]
    assert listed[-1] == "5 left over, 4 of them ours"

    assert orphans.main(["--stack", STACK, "--delete"]) == 1
    refused = capsys.readouterr().err
    assert f"account 000000000000, region us-east-1, stack {STACK}" in refused
    assert "give --yes to delete 4 of them" in refused
    assert set(secrets(aws, "passing").values()) == {False}

    assert orphans.main(["--stack", STACK, "--delete", "--yes"]) == 0

    assert capsys.readouterr().out.endswith("4 deleted; secrets can be restored for 30 days\n")
    assert secrets(aws, "passing") == dict.fromkeys(LOGINS, True)
    assert secrets(aws, "staying") == dict.fromkeys(LOGINS, False)
    kept = aws.client("ssm").get_parameters_by_path(Path=f"/{STACK}/", Recursive=True)
    assert sorted(one["Name"] for one in kept["Parameters"]) == [
        f"/{STACK}/passing/target-revision",
        f"/{STACK}/staying/observed-state",
    ]
    assert orphans.main(["--stack", STACK]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 left over, 0 of them ours"
