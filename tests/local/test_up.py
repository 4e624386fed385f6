"""What ``make up`` says is so: what is deployed is what the template says, and it is awake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra import template
from infra.local import stack
from infra.local.local_aws import LocalAws, LocalAwsError
from infra.local.parameters import ParametersError, read
from tests.equipment.waiting import wait_for

DECLARED = template.load()["Parameters"]


@pytest.fixture(scope="module")
def deployed(local_aws: LocalAws) -> LocalAws:
    """Return a local AWS with the stack."""
    stack.up(local_aws)
    return local_aws


def changed(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """Return the template with *changes*, each of a text that it has once."""
    text = stack.TEMPLATE.read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "template.yaml"
    path.write_text(text)
    return path


def patterns(aws: LocalAws) -> str:
    """Return all patterns of the bus as one text."""
    rules = aws.client("events").list_rules()["Rules"]
    return json.dumps([json.loads(rule.get("EventPattern") or "{}") for rule in rules])


def settings(aws: LocalAws) -> dict[str, Any]:
    """Return what the changes of the template below are about."""
    alarms = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    asynchronous = aws.client("lambda").list_function_event_invoke_configs(
        FunctionName=stack.FUNCTION
    )["FunctionEventInvokeConfigs"]
    return {
        "pattern": "RDS-EVENT-9999" in patterns(aws),
        "age": [one["MaximumEventAgeInSeconds"] for one in asynchronous],
        "alarms": {one["AlarmName"]: one["AlarmDescription"] for one in alarms},
    }


def test_a_changed_template_is_what_is_there(deployed: LocalAws, tmp_path: Path) -> None:
    """Rules, alarms and what becomes of events, forth and back; each under the name that it had."""
    first = settings(deployed)
    path = changed(
        tmp_path,
        ("[RDS-EVENT-0005,", "[RDS-EVENT-9999, RDS-EVENT-0005,"),
        ("MaximumEventAgeInSeconds: 21600", "MaximumEventAgeInSeconds: 60"),
        ("A migration failed, and somebody has to mend it.", "Another text."),
    )

    stack.deploy(deployed, template=path)
    second = settings(deployed)
    stack.deploy(deployed)

    assert not first["pattern"]
    assert second["pattern"]
    assert second["age"] == [60] != first["age"]
    assert second["alarms"].keys() == first["alarms"].keys()
    changed_text = second["alarms"]["day2-migration-failed"]
    assert changed_text.startswith("Another text.")
    assert settings(deployed) == first


def test_an_event_right_after_an_update_is_heard(deployed: LocalAws) -> None:
    """
    Several times over, and without the probe of ``make up``, which would hide what gets lost.

    The build before takes from the same queue as the new one for a while, and may have taken an
    event that it no longer begins.
    """
    ssm, functions = deployed.client("ssm"), deployed.client("lambda")
    wanted = [f"first-{number}" for number in range(8)]
    for name in wanted:
        functions.update_function_configuration(FunctionName=stack.FUNCTION, Description=name)
        functions.get_waiter("function_updated_v2").wait(
            FunctionName=stack.FUNCTION, WaiterConfig={"Delay": 1}
        )
        ssm.put_parameter(Name=f"/day2/{name}/target-revision", Type="String", Value="002")

    def all_are_heard() -> bool:
        logs = " ".join(file.read_text() for file in deployed.state.calls.glob("*.log"))
        return all(name in logs for name in wanted)

    wait_for(all_are_heard, "a call of each")
    for name in wanted:
        ssm.delete_parameter(Name=f"/day2/{name}/target-revision")

    assert [one["Name"] for one in ssm.describe_parameters()["Parameters"]] == []


def test_parameters_stay_until_they_are_given_anew(deployed: LocalAws) -> None:
    """As on AWS: ``make test-lambda`` deploys, too, and takes nothing back."""
    stack.up(deployed, "AllowRollback=true SweepMinutes=17")
    stack.up(deployed, "SweepMinutes=18")

    function = deployed.client("lambda").get_function_configuration(FunctionName=stack.FUNCTION)
    assert function["Environment"]["Variables"]["DAY2_ALLOW_ROLLBACK"] == "true"
    schedules = [
        rule["ScheduleExpression"]
        for rule in deployed.client("events").list_rules()["Rules"]
        if "ScheduleExpression" in rule
    ]
    assert "rate(18 minutes)" in schedules
    stack.up(deployed, "AllowRollback=false SweepMinutes=60")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Nope=1", "the template has no parameter 'Nope'"),
        ("AllowRollBack=true", "did you mean AllowRollback?"),
        ("AllowRollback", "'AllowRollback' is not Name=value"),
        ("AllowRollback=yes", "AllowRollback=yes: give one of 'true', 'false'"),
        ("SweepMinutes=often", "SweepMinutes=often: give a number"),
        ("SweepMinutes=0", "SweepMinutes=0: give a number from 1 to"),
        ("SweepMinutes=1 SweepMinutes=2", "SweepMinutes is given twice"),
        ("Prefix='a\nb'", "Prefix=a\\nb: Letters, digits and hyphens"),
        ("'\n", "cannot be read: No closing quotation"),
        ("FunctionKey=x", "FunctionKey is what the deployment itself gives"),
    ],
)
def test_what_the_template_does_not_take_is_refused(text: str, said: str) -> None:
    """In one line that names it."""
    with pytest.raises(ParametersError) as caught:
        stack.given(text)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_parameter_takes_its_default() -> None:
    """Whatever the template has for one may be given for it."""
    values = {
        name: str(rules["Default"]).lower()
        if isinstance(rules["Default"], bool)
        else str(rules["Default"])
        for name, rules in DECLARED.items()
        if "Default" in rules
    }
    text = " ".join(f"{name}='{value}'" for name, value in values.items())

    assert read(text, DECLARED) == values
    assert read("", DECLARED) == {}


class _BusyStack:
    """CloudFormation, with a stack that somebody else's command changes for a while."""

    def __init__(self, *statuses: str) -> None:
        self._statuses = iter(statuses)

    def describe_stacks(self, **_: str) -> dict[str, Any]:
        """Return its next status."""
        return {"Stacks": [{"StackStatus": next(self._statuses)}]}


def test_what_an_interrupted_command_began_ends_first() -> None:
    """A change of what is changed meanwhile breaks both, and the stack for good."""
    busy = _BusyStack("CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE")

    assert stack.settled(busy, "day2") == "CREATE_COMPLETE"


def test_what_is_not_deployed_is_told_in_one_line(local_aws: LocalAws) -> None:
    """And what deploys it."""
    with pytest.raises(LocalAwsError, match=r"^nobody is not deployed here: make up$"):
        stack.invoke(local_aws, {}, function="nobody")
