"""What each event asks for; every sample in ``events/`` has its expectation here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from core.errors import Rejected
from core.model import Action, FleetBump, Ignored, Request, Sweep, Trigger, Waiting
from handlers.requests import Asked, asks_to_raise, is_event, parse, request_id
from tests.conftest import ROOT

FIELDS = (
    "secret_name, instance, action, target_revision, from_revision, take_over, raise_on_failure"
)
ACTIONS = ", ".join(Action)
QUEUE = "arn:aws:sqs:us-east-1:123456789012:day2-waiting"

ACCEPTED: dict[str, Asked] = {
    "instance_created": Request(Trigger.INSTANCE, instance="orders"),
    "instance_restored_from_snapshot": Request(Trigger.INSTANCE, instance="orders"),
    "instance_restored_to_point_in_time": Request(Trigger.INSTANCE, instance="orders"),
    "instance_restarted": Request(Trigger.INSTANCE, instance="orders"),
    "instance_credentials_reset": Request(Trigger.INSTANCE, instance="orders"),
    "instance_started": Request(Trigger.INSTANCE, instance="orders"),
    "instance_started_after_longest_stop": Request(Trigger.INSTANCE, instance="orders"),
    "cluster_created": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_credentials_reset": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_failed_over": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_started": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_started_after_longest_stop": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_renamed": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_promoted": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_switched_over": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_global_failover": Request(Trigger.CLUSTER, instance="orders"),
    "cluster_volume_replaced": Request(Trigger.CLUSTER, instance="orders"),
    "deployment_switched_over": Sweep(),
    "deployment_deleted": Sweep(),
    "parameter_created": Request(Trigger.PARAMETER, instance="orders"),
    "parameter_created_localstack": Request(Trigger.PARAMETER, instance="orders"),
    "parameter_updated": Request(Trigger.PARAMETER, instance="orders"),
    "fleet_parameter_updated": FleetBump(),
    "direct_instance": Request(Trigger.DIRECT, instance="orders"),
    "direct_instance_status": Request(Trigger.DIRECT, Action.STATUS, instance="orders"),
    "direct_migrate": Request(Trigger.DIRECT, secret_name="workbench/master", target="head"),
    "direct_migrate_to_revision": Request(
        Trigger.DIRECT, secret_name="workbench/master", target="002"
    ),
    "direct_plan": Request(Trigger.DIRECT, Action.PLAN, instance="orders", target="head"),
    "direct_raise_on_failure": Request(Trigger.DIRECT, instance="orders", target="003"),
    "direct_check": Request(Trigger.DIRECT, Action.CHECK, instance="orders"),
    "direct_rollback": Request(
        Trigger.DIRECT, Action.ROLLBACK, instance="orders", target="002", from_revision="004"
    ),
    "direct_stamp": Request(
        Trigger.DIRECT, Action.STAMP, instance="orders", target="004", from_revision="base"
    ),
    "direct_adopt": Request(
        Trigger.DIRECT, Action.ADOPT, instance="orders", target="004", from_revision="base"
    ),
    "direct_take_over": Request(
        Trigger.DIRECT,
        instance="orders",
        target="head",
        take_over=frozenset({"app_user", "app_schema"}),
    ),
    "direct_secret_only": Request(Trigger.DIRECT, secret_name="workbench/master"),
    "direct_status": Request(Trigger.DIRECT, Action.STATUS, secret_name="workbench/master"),
    "requested": Request(Trigger.REQUEST, instance="orders"),
    "requested_status": Request(Trigger.REQUEST, Action.STATUS, instance="orders"),
    "requested_with_target": Request(Trigger.REQUEST, instance="orders", target="003"),
    "sweep_scheduled": Sweep(),
    "sweep_scheduled_full": Sweep(full=True),
    "sweep_continued": Sweep(after="orders"),
    "waited": Request(
        Trigger.INSTANCE,
        instance="orders",
        waiting=Waiting(
            datetime(2026, 5, 4, 10, 20, 31, tzinfo=UTC),
            datetime(2026, 5, 4, 12, 20, 31, tzinfo=UTC),
            3,
        ),
    ),
}
IGNORED = {
    "ignored_cluster_deleted": Ignored(
        "other-rds-event", "RDS event RDS-EVENT-0171 of orders needs no run"
    ),
    "ignored_cluster_failover_started": Ignored(
        "other-rds-event", "RDS event RDS-EVENT-0073 of orders needs no run"
    ),
    "ignored_cluster_stopped": Ignored(
        "other-rds-event", "RDS event RDS-EVENT-0150 of orders needs no run"
    ),
    "ignored_instance_deleted": Ignored(
        "other-rds-event", "RDS event RDS-EVENT-0003 of orders needs no run"
    ),
    "ignored_instance_event_without_id": Ignored(
        "other-rds-event", "RDS event None of orders needs no run"
    ),
    "ignored_instance_failover": Ignored(
        "other-rds-event", "RDS event RDS-EVENT-0049 of orders needs no run"
    ),
    "ignored_deployment_created": Ignored(
        "other-rds-event", "RDS event RDS-EVENT-0244 of bgd-hdqs3ik6vrwgutsn needs no run"
    ),
    "ignored_snapshot_restored": Ignored(
        "other-rds-event",
        "RDS event RDS-EVENT-0043 of orders-before-release needs no run",
    ),
    "ignored_observed_state": Ignored(
        "other-parameter", "parameter /day2/orders/observed-state does not declare a target"
    ),
    "ignored_other_parameter": Ignored(
        "other-parameter", "parameter /shop/orders/log-level does not declare a target"
    ),
    "ignored_parameter_deleted": Ignored(
        "parameter-not-written",
        "Delete of parameter /day2/orders/target-revision changes no target",
        "orders",
    ),
    "ignored_parameter_labelled": Ignored(
        "parameter-not-written",
        "LabelParameterVersion of parameter /day2/orders/target-revision changes no target",
        "orders",
    ),
    "ignored_parameter_refused": Ignored(
        "parameter-unset",
        "parameter /day2/orders/target-revision was not changed: AWS refused it",
    ),
}
NOT_WHAT_WE_PUT = "body: is not an event for an instance: put only what day2 puts there"
REJECTED = {
    "rejected_detail_text": "detail: is not a JSON object: send the event as AWS sends it",
    "rejected_empty_instance": (
        "instance: '' is not a DB instance or cluster identifier: give letters, digits and hyphens"
    ),
    "rejected_empty_secret_name": "secret_name: is empty or not text: give text, or leave it out",
    "rejected_empty_target": "target_revision: is empty or not text: give text, or leave it out",
    "rejected_heads_target": (
        "target_revision: 'heads' is not a target: give 'head' or one exact revision identifier"
    ),
    "rejected_instance_arn": (
        "instance: 'arn:aws:rds:us-east-1:123456789012:db:orders' is not a DB instance or cluster "
        "identifier: give letters, digits and hyphens"
    ),
    "rejected_instance_without_name": (
        "detail.SourceIdentifier: None is not a DB instance or cluster identifier: "
        "give letters, digits and hyphens"
    ),
    "rejected_list": "event: is not a JSON object: send a request or an event",
    "rejected_nothing": (
        "secret_name: is missing: name the master secret, or give instance instead"
    ),
    "rejected_number_as_instance": (
        "instance: 7 is not a DB instance or cluster identifier: give letters, digits and hyphens"
    ),
    "rejected_number_as_target": (
        "target_revision: is empty or not text: give text, or leave it out"
    ),
    "rejected_relative_target": (
        "target_revision: '+1' is not a target: give 'head' or one exact revision identifier"
    ),
    "rejected_requested_by_secret": (
        "detail.secret_name: is unknown: "
        "the fields are instance, action, target_revision, continues"
    ),
    "rejected_requested_relative_target": (
        "detail.target_revision: '+1' is not a target: give 'head' or one exact revision identifier"
    ),
    "rejected_requested_rollback": (
        "detail.action: 'rollback' is for direct requests only: invoke the function"
    ),
    "rejected_requested_without_instance": (
        "detail.instance: None is not a DB instance or cluster identifier: "
        "give letters, digits and hyphens"
    ),
    "rejected_result_event": (
        "source, detail-type: day2 does nothing for 'Migration Succeeded' of 'day2': "
        "correct the rule that sent it"
    ),
    "rejected_sweep_full_text": "detail.full: 'yes' is not a boolean: give true or false",
    "rejected_sweep_unknown_field": "detail.everything: is unknown: the fields are full, after",
    "rejected_take_over_by_rollback": "take_over: is for migrate and plan only: leave it out",
    "rejected_take_over_text": 'take_over: is not a list: give names, such as ["app_user"]',
    "rejected_text_as_flag": "raise_on_failure: 'true' is not a boolean: give true or false",
    "rejected_unknown_action": f"action: 'upgrade' is not an action: give one of {ACTIONS}",
    "rejected_unknown_field": f"revision: is unknown: the fields are {FIELDS}",
    "rejected_unknown_source": (
        "source, detail-type: day2 does nothing for 'Migration Requested' of 'somebody.else': "
        "correct the rule that sent it"
    ),
    "rejected_waited_direct": NOT_WHAT_WE_PUT,
    "rejected_waited_elsewhere": (
        "event: came as an SQS message: make the function itself the target of the EventBridge "
        "rule, with no input transformation"
    ),
    "rejected_waited_several": ("Records: are several messages: set BatchSize of the mapping to 1"),
    "rejected_waited_sweep": NOT_WHAT_WE_PUT,
    "rejected_waited_times": "messageAttributes.times: '-1' is not a count: use digits only",
    "rejected_waited_until_no_zone": (
        "messageAttributes.until: '2026-05-04T12:20:31' is not a time with a zone: "
        "write 2026-11-22T10:00:00+00:00"
    ),
}


def message(body: object) -> dict[str, Any]:
    """Return *body* as Lambda hands over the message of a queue that it is."""
    return {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(body)}]}


SAMPLES = sorted(file.stem for file in (ROOT / "events").glob("*.json"))

EVENT_ID = "9dbdce5f-29f1-1e4a-119e-08ea62e15ce4"

# One of each kind that JSON knows, and what a text field may be spoilt with.
ODD_VALUES = (
    None,
    True,
    7,
    -0.5,
    "",
    " ",
    "odd",
    "a\0b",
    "é",
    "x" * 5000,
    [],
    ["orders"],
    {},
    {"a": 1},
)


def test_every_sample_has_an_expectation_and_every_expectation_a_sample() -> None:
    """``events/`` and the three tables above name the same shapes, and each action has one."""
    assert sorted([*ACCEPTED, *IGNORED, *REJECTED]) == SAMPLES
    assert {one.action for one in ACCEPTED.values() if isinstance(one, Request)} == set(Action)


def test_a_sample_asks_for_this(
    load_event: Callable[[str], Any], subtests: pytest.Subtests
) -> None:
    """A known event is parsed to exactly this."""
    for name, asked in [*ACCEPTED.items(), *IGNORED.items()]:
        with subtests.test(name):
            assert parse(load_event(name), "day2", QUEUE) == asked


def test_a_wrong_sample_is_rejected_by_field(
    load_event: Callable[[str], Any], subtests: pytest.Subtests
) -> None:
    """A wrong event is refused with the field, the problem and the remedy."""
    for name, message in REJECTED.items():
        with subtests.test(name):
            with pytest.raises(Rejected) as caught:
                parse(load_event(name), "day2", QUEUE)

            assert str(caught.value) == message


def test_the_names_of_samples_say_what_becomes_of_them() -> None:
    """Ignored and rejected samples are named so, and no others."""
    assert {name.partition("_")[0] for name in IGNORED} == {"ignored"}
    assert {name.partition("_")[0] for name in REJECTED} == {"rejected"}
    assert {name.partition("_")[0] for name in ACCEPTED} & {"ignored", "rejected"} == set()


def test_only_what_comes_over_the_bus_is_an_event(load_event: Callable[[str], Any]) -> None:
    """A failure is raised for what EventBridge delivers, and answered for all else."""
    samples = {name: load_event(name) for name in SAMPLES}
    events = {name for name, raw in samples.items() if is_event(raw)}

    assert events == {
        name for name, raw in samples.items() if isinstance(raw, dict) and "detail" in raw
    }


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"instance": "orders", "raise_on_failure": True}, True),
        ({"instance": "orders", "raise_on_failure": True, "target_revision": "+1"}, True),
        ({"instance": "orders", "raise_on_failure": False}, False),
        ({"instance": "orders", "raise_on_failure": "true"}, False),
        ({"instance": "orders"}, False),
        (["raise_on_failure"], False),
    ],
)
def test_a_direct_request_may_ask_for_exceptions(raw: object, *, expected: bool) -> None:
    """An asynchronous caller reads no answer, so a wrong request of its raises too."""
    assert asks_to_raise(raw) is expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"id": EVENT_ID, "source": "day2", "detail-type": "Migration Requested"}, EVENT_ID),
        ({"id": f"{EVENT_ID}\n", "source": "day2", "detail-type": "x"}, "invocation"),
        ({"id": 7, "source": "day2", "detail-type": "x"}, "invocation"),
        ({"source": "day2.schedule", "detail-type": "Sweep Requested"}, "invocation"),
        ({"id": EVENT_ID, "instance": "orders"}, "invocation"),
        ([EVENT_ID], "invocation"),
        (message({"id": EVENT_ID, "source": "aws.rds", "detail-type": "x"}), EVENT_ID),
        (message({"id": EVENT_ID, "instance": "orders"}), "invocation"),
        (message([EVENT_ID]), "invocation"),
    ],
)
def test_what_is_told_of_an_event_has_the_events_own_id(raw: object, expected: str) -> None:
    """It survives retries, duplicates and waiting; what is no id of EventBridge's is not used."""
    assert request_id(raw, "invocation") == expected


def test_no_odd_value_surprises_the_parser(load_event: Callable[[str], Any]) -> None:
    """Whatever stands in whichever field, a request comes out, or an error that says why not."""
    surprises = []
    for odd in (odd for name in SAMPLES for odd in spoilt(load_event(name))):
        try:
            parse(odd, "day2", QUEUE)
        except Rejected:
            continue
        except Exception as error:  # noqa: BLE001 - that none is raised is what we test
            surprises.append((odd, error))

    assert surprises == []


@pytest.mark.parametrize("name", ["parameter_updated", "fleet_parameter_updated"])
def test_another_stacks_parameter_is_left_alone(
    name: str, load_event: Callable[[str], Any]
) -> None:
    """Two stacks in one account do not meet: the prefix is the stack's."""
    assert isinstance(parse(load_event(name), "day2-test"), Ignored)


@pytest.mark.parametrize(
    "kind",
    [
        "RDS DB Cluster Snapshot Event",
        "RDS DB Parameter Group Event",
        "RDS DB Security Group Event",
        "RDS DB Proxy Event",
        "RDS DB Shard Group Event",
        "RDS Custom Engine Version Event",
    ],
)
def test_what_else_rds_tells_of_needs_no_run(kind: str, load_event: Callable[[str], Any]) -> None:
    """A rule by hand for all of RDS fills no queue of failures."""
    event = load_event("ignored_snapshot_restored") | {"detail-type": kind}

    assert parse(event, "day2") == IGNORED["ignored_snapshot_restored"]


@pytest.mark.parametrize("named", ["Orders", "or_ders", "1orders", "orders.eu", "_Fleet"])
def test_a_target_for_what_can_never_be_is_rejected(
    named: str, load_event: Callable[[str], Any]
) -> None:
    """A parameter's name has the case that it was written in; an identifier of RDS has none."""
    event = load_event("parameter_updated")
    event["detail"]["name"] = f"/day2/{named}/target-revision"

    with pytest.raises(Rejected, match=rf"^detail\.name: /day2/{named}/.* in small letters$"):
        parse(event, "day2")


@pytest.mark.parametrize("name", ["requested", "sweep_scheduled", "sweep_continued"])
def test_another_stacks_request_is_rejected(name: str, load_event: Callable[[str], Any]) -> None:
    """A request's source is the stack's prefix, exactly."""
    with pytest.raises(Rejected):
        parse(load_event(name), "day2-test")


def test_an_instance_is_named_in_lower_case() -> None:
    """RDS stores identifiers in lower case, whatever case they are given in."""
    asked = parse({"instance": "Orders-EU"}, "day2")

    assert asked == Request(Trigger.DIRECT, instance="orders-eu")


def spoilt(raw: Any) -> Iterator[Any]:
    """Yield *raw* with each field, at every depth, in turn missing or holding an odd value."""
    if isinstance(raw, dict):
        for key, inner in raw.items():
            yield {one: value for one, value in raw.items() if one != key}
            yield from ({**raw, key: odd} for odd in (*ODD_VALUES, *spoilt(inner)))
    if isinstance(raw, list):
        for at, inner in enumerate(raw):
            yield raw[:at] + raw[at + 1 :]
            yield from ([*raw[:at], odd, *raw[at + 1 :]] for odd in (*ODD_VALUES, *spoilt(inner)))
