"""The whole on the local AWS: rules, queues and Lambda's own retries carry a slow migration."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.revisions.folder import Folder
from infra.local import stack, workflow
from infra.local.local_aws import LocalAws
from tests.equipment.histories import OURS
from tests.equipment.waiting import wait_for

# It waits for queues most of the time: in a part of its own, nothing waits for it.
pytestmark = pytest.mark.alone

STACK = "chaos"
INSTANCE = "late"
SECRET = "late/master"
PASSWORD = "secret-enough"
SLOW = ("005", "006", "007", "008")
EVERYTHING = ("001", "002", "003", "004", *SLOW)

TIMEOUT_SECONDS = 10
CREATING_SECONDS = 8
SECRET_AFTER_SECONDS = 4
WAIT_SECONDS = 120.0

REVISION = '''"""Take a while"""
from alembic import op

revision = "{revision}"
down_revision = "{down}"


def upgrade() -> None:
    op.execute("SELECT pg_sleep(1.5)")


def downgrade() -> None:
    pass
'''


@pytest.fixture
def slow_stack(local_aws: LocalAws, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Deploy the stack, with four slow revisions more and little time for them."""
    outputs = stack.deploy(
        local_aws,
        stack=STACK,
        migrations=with_slow_revisions(tmp_path),
        parameters={"MarginSeconds": "4", "MinimumSliceSeconds": "2"},
    )
    client = local_aws.client("lambda")
    name = outputs["FunctionName"]
    client.update_function_configuration(FunctionName=name, Timeout=TIMEOUT_SECONDS)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    yield outputs
    workflow.remove_instance(local_aws, INSTANCE)
    # LocalStack cannot delete the stack; it goes with the local AWS, and hears no more until then.
    events = local_aws.client("events")
    for rule in events.list_rules(NamePrefix=STACK)["Rules"]:
        events.disable_rule(Name=rule["Name"])


def test_slow_migration_of_a_late_instance(local_aws: LocalAws, slow_stack: dict[str, str]) -> None:
    """
    It ends migrated, in order, and nothing has failed.

    The target is written before its instance exists, the instance is creating for longer than
    a call may take, its secret comes late, and the revisions need more than one call.
    """
    ssm = local_aws.client("ssm")
    ssm.put_parameter(
        Name=f"/{STACK}/{INSTANCE}/target-revision", Value=EVERYTHING[-1], Type="String"
    )
    local_aws.client("rds").create_db_instance(
        DBInstanceIdentifier=INSTANCE,
        Engine="postgres",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        DBName="shop",
        MasterUsername="postgres",
        MasterUserPassword=PASSWORD,
        Tags=[
            {"Key": STACK, "Value": "enabled"},
            {"Key": f"{STACK}:secret", "Value": SECRET},
            {"Key": "day2-local:creating-seconds", "Value": str(CREATING_SECONDS)},
        ],
    )
    # Somebody bumps while it is being made: that run waits on the bus.
    ask_on_the_bus(local_aws)
    workflow.wait_for_instance(local_aws, INSTANCE)
    time.sleep(SECRET_AFTER_SECONDS)
    local_aws.client("secretsmanager").create_secret(
        Name=SECRET, SecretString=json.dumps({"username": "postgres", "password": PASSWORD})
    )

    state = wait_for_revision(local_aws, EVERYTHING[-1])
    status = stack.invoke(
        local_aws,
        {"instance": INSTANCE, "action": "status"},
        function=slow_stack["FunctionName"],
    ).response["body"]

    assert (state["outcome"], status["final_revision"]) in (
        ("APPLIED", EVERYTHING[-1]),
        ("UP_TO_DATE", EVERYTHING[-1]),
    )
    assert [row["revision"] for row in status["history"]] == list(EVERYTHING)
    assert len({row["by"] for row in status["history"]}) > 1, "one call had time for all"
    for queue in ("FailuresQueueUrl", "UndeliveredQueueUrl"):
        found = local_aws.client("sqs").receive_message(QueueUrl=slow_stack[queue])
        assert "Messages" not in found, found


def ask_on_the_bus(local_aws: LocalAws) -> None:
    """Request a run by an event of the stack's own."""
    local_aws.client("events").put_events(
        Entries=[
            {
                "Source": STACK,
                "DetailType": "Migration Requested",
                "Detail": json.dumps({"instance": INSTANCE}),
            }
        ]
    )


def wait_for_revision(local_aws: LocalAws, revision: str) -> dict[str, Any]:
    """Return the observed state, once it tells of *revision*."""
    name = f"/{STACK}/{INSTANCE}/observed-state"

    def state() -> dict[str, Any]:
        found = local_aws.client("ssm").get_parameters(Names=[name])["Parameters"]
        states = [json.loads(one["Value"]) for one in found]
        return {} if not states or states[0].get("revision") != revision else states[0]

    return wait_for(state, f"{INSTANCE} at {revision}", seconds=WAIT_SECONDS)


def with_slow_revisions(path: Path) -> Folder:
    """Return a folder with the slow revisions beside those of our history."""
    folder = Folder(path / "slow")
    shutil.copytree(OURS.path, folder.path, ignore=shutil.ignore_patterns("__pycache__"))
    for number, revision in enumerate(SLOW):
        text = REVISION.format(revision=revision, down=EVERYTHING[number + 3])
        (folder.versions / f"{revision}_slow.py").write_text(text)
    return folder
