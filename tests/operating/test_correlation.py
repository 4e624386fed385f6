"""One id leads from an event to the log, the history, the observed state and the result event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers.requests import request_id
from tests.operating.story import INSTANCE, Story, samples
from tests.operating.test_schemas import validator


def test_an_events_id_is_in_everything_that_is_told_of_its_run(story: Story) -> None:
    """The event that AWS put on the bus, and five places where an operator would look."""
    told = story.applied
    ident = told["detail"]["request_id"]
    asked = [one for one in story.events if one["source"] != "day2"]

    assert ident in {one["id"] for one in asked}
    lines = [line for line in story.lines if line.get("request_id") == ident]
    assert [line["outcome"] for line in lines if line["message"] == "run finished"] == ["APPLIED"]
    history = story.answers["status"]["history"]
    assert [(row["revision"], row["by"].split()[1]) for row in history] == [
        ("001", ident),
        ("002", ident),
    ]
    failed = story.failed["requestPayload"]["id"]
    assert story.observed_at_end["request_id"] == failed
    assert failed in {one["id"] for one in asked}


def test_a_direct_requests_id_is_its_invocations(story: Story) -> None:
    """What Lambda told the caller is what the log has."""
    ident = story.answers["again"]["request_id"]

    ended = [line for line in story.lines if line.get("request_id") == ident]

    assert {line["function_request_id"] for line in ended} == {ident}


def test_every_line_of_a_run_has_the_id(story: Story) -> None:
    """Metrics apart, which are no lines for people."""
    said = [line for line in story.lines if "_aws" not in line]

    assert said
    assert all(line["request_id"] for line in said)


def test_result_events_and_states_of_the_day_keep_to_their_schemas(story: Story) -> None:
    """As they were on the bus and in the parameter."""
    story.heard("Migration Failed", at_least=4)
    results = [one["detail"] for one in story.events if one["source"] == "day2"]

    assert {one["outcome"] for one in results} == {
        "APPLIED",
        "UP_TO_DATE",
        "REJECTED",
        "ACCESS_DENIED",
    }
    for detail in results:
        validator("result").validate(detail)
    validator("observed-state").validate(story.observed_at_end)


def test_lambdas_retries_keep_the_id(story: Story) -> None:
    """Three attempts of one event, one id: consumers tell a retry from a new failure."""
    story.heard("Migration Failed", at_least=4)
    ident = story.failed["requestPayload"]["id"]

    failed = [one for one in story.events if one["detail"].get("request_id") == ident]

    assert [one["detail"]["outcome"] for one in failed] == ["ACCESS_DENIED"] * 3
    assert story.observed_at_end["attempts"] == 1


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (samples()["instance_created"], samples()["instance_created"]["id"]),
        (samples()["sweep_scheduled"], "invocation"),
        ({"instance": INSTANCE, "id": "7bf73129-1428-4cd3-a780-95db273d1602"}, "invocation"),
        (samples()["instance_created"] | {"id": "x" * 300}, "invocation"),
        (samples()["instance_created"] | {"id": None}, "invocation"),
        (None, "invocation"),
    ],
    ids=["event", "schedule", "direct", "long", "null", "nothing"],
)
def test_only_an_events_own_id_is_taken(raw: Any, expected: str) -> None:
    """And only where it has the form that EventBridge gives: it goes into the database."""
    assert request_id(raw, "invocation") == expected


def test_metrics_have_few_dimensions(story: Story) -> None:
    """The stack on every metric; the outcome on ``Runs`` alone, or the alarms would see nothing."""
    shapes: dict[str, set[tuple[str, ...]]] = {}
    values: dict[str, list[Any]] = {}
    for line in story.lines:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            assert directive["Namespace"] == "day2"
            for metric in directive["Metrics"]:
                sets = {tuple(sorted(one)) for one in directive["Dimensions"]}
                shapes.setdefault(metric["Name"], set()).update(sets)
                values.setdefault(metric["Name"], []).extend(line[metric["Name"]])
                assert {line[name] for one in sets for name in one} >= {"day2"}

    assert shapes == {
        "InstancesBehind": {("service",)},
        "InstancesBlocked": {("service",)},
        "InstancesSkipped": {("service",)},
        "MigrationFailures": {("service",)},
        "OldestBehindSeconds": {("service",)},
        "ReportingFailed": {("service",)},
        "RevisionFilesChanged": {("service",)},
        "RevisionsApplied": {("service",)},
        "RunDuration": {("service",)},
        "Runs": {("Outcome", "service")},
        "StrangeStates": {("service",)},
    }
    assert sum(values["MigrationFailures"]) == 4
    assert sum(values["RevisionsApplied"]) == 2
    assert sum(values["ReportingFailed"]) == 0
    assert values["InstancesBlocked"] == [1.0]
    # Since the bump, not since the instance was last at its target.
    assert 0 < values["OldestBehindSeconds"][0] < 60


def test_the_secrets_stay_out_of_the_log(story: Story) -> None:
    """Neither the master's password nor the wrong one that was tried."""
    text = json.dumps(story.lines)

    assert story.right_password not in text
    assert "no longer right" not in text
