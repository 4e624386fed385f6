"""
What wakes us stands in three places: the rules of the template, the parser, and ``events/``.

Each is compared with the other two here, so that a trigger cannot be added to one of them alone.
``tests/operating/test_rules.py`` asks EventBridge itself what a deployed rule matches.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from typing import Any

import pytest

from core.errors import Rejected
from core.model import Ignored
from handlers.requests import CLUSTER_EVENTS, is_event, parse, readers
from infra import template
from tests.conftest import ROOT
from tests.equipment import documents
from tests.equipment.sources import nodes

ACCOUNT = template.PSEUDO_PARAMETERS["AWS::AccountId"]
STACK = template.PSEUDO_PARAMETERS["AWS::StackName"]


@cache
def triggers() -> list[dict[str, Any]]:
    """Return all that may invoke the function, as the template declares it."""
    functions = [
        one["Properties"]
        for one in template.resolve().values()
        if one["Type"] == "AWS::Serverless::Function"
    ]
    return [one for function in functions for one in function["Events"].values()]


@cache
def patterns() -> list[dict[str, Any]]:
    """Return the patterns of the rules."""
    return [one["Properties"]["Pattern"] for one in triggers() if one["Type"] == "EventBridgeRule"]


@cache
def inputs() -> list[Any]:
    """Return what the schedules send."""
    return [
        json.loads(one["Properties"]["Input"]) for one in triggers() if one["Type"] == "Schedule"
    ]


@cache
def samples() -> dict[str, Any]:
    """Return the samples of what comes over EventBridge and is accepted."""
    found = {path.stem: json.loads(path.read_text()) for path in (ROOT / "events").glob("*.json")}
    return {name: event for name, event in found.items() if is_event(event) and accepts(event)}


def accepts(event: object) -> bool:
    """Say whether the parser finds in *event* something to do."""
    return becomes(event) == "accepted"


def becomes(event: object) -> str:
    """Return what the parser makes of *event*: a field that is wrong has it rejected."""
    try:
        return "ignored" if isinstance(parse(event, STACK), Ignored) else "accepted"
    except Rejected:
        return "rejected"


def is_delivered(event: Mapping[str, Any]) -> bool:
    """Say whether a rule matches *event* of our account, or a schedule sends such a one."""
    if kind_of(event) in map(kind_of, inputs()):
        return True
    ours = {**event, "account": ACCOUNT}
    return any(matches(pattern, ours) for pattern in patterns())


def kind_of(event: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return source and detail-type of *event*."""
    return event["source"], event["detail-type"]


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Say whether *event* has what *pattern* asks for (EventBridge User Guide, "patterns")."""
    for field, wanted in pattern.items():
        if field not in event:
            return False
        value = event[field]
        if isinstance(wanted, Mapping):
            if not (isinstance(value, Mapping) and matches(wanted, value)):
                return False
        elif value not in wanted and not any(is_like(choice, value) for choice in wanted):
            return False
    return True


def is_like(choice: object, value: object) -> bool:
    """Say whether *value* is not just the text, but what one *choice* of a pattern allows."""
    match choice:
        case str():
            return False
        case {"wildcard": text, **others} if not others:
            form = ".*".join(map(re.escape, text.split("*")))
            return isinstance(value, str) and re.fullmatch(form, value) is not None
    raise NotImplementedError(f"the rules use {choice!r}: teach it to is_like")


def literals(pattern: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the path and the value of each choice in *pattern* that is plain text."""
    for field, wanted in pattern.items():
        if isinstance(wanted, Mapping):
            yield from literals(wanted, (*path, field))
        else:
            yield from (((*path, field), one) for one in wanted if isinstance(one, str))


def at(event: Any, path: tuple[str, ...]) -> Any:
    """Return what stands in *event* at *path*; ``None`` where nothing does."""
    for field in path:
        event = event.get(field) if isinstance(event, Mapping) else None
    return event


def with_value(event: Any, path: tuple[str, ...], value: object) -> Any:
    """Return *event* with *value* at *path*."""
    if not path:
        return value
    first, *rest = path
    return {**event, first: with_value(event[first], tuple(rest), value)}


@cache
def words() -> set[str]:
    """Return each text that the parser or a pattern could know a value by."""
    written = {
        node.value
        for node in nodes(ROOT / "handlers" / "requests.py")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
    }
    return written | {value for pattern in patterns() for _, value in literals(pattern)}


def test_every_kind_of_event_is_delivered_and_read() -> None:
    """The rules and schedules deliver what the parser has a reader for, and nothing else."""
    delivered = {kind_of(one) for one in inputs()}
    for pattern in patterns():
        delivered |= set(product(pattern["source"], pattern["detail-type"]))

    assert delivered == set(readers(STACK))


def test_every_kind_of_event_has_a_sample() -> None:
    """One that is accepted."""
    assert {kind_of(event) for event in samples().values()} == set(readers(STACK))


def test_every_choice_of_a_rule_has_a_sample() -> None:
    """Each event id, each operation that a rule names is that of a sample which is accepted."""
    missing = [
        (path, value)
        for pattern in patterns()
        for path, value in literals(pattern)
        if path != ("account",)
        and not any(
            at(event, path) == value and matches(pattern, {**event, "account": ACCOUNT})
            for event in samples().values()
        )
    ]

    assert missing == []


def test_a_schedule_sends_a_sample() -> None:
    """As it stands in ``events/``."""
    assert [one for one in inputs() if one not in samples().values()] == []


@pytest.mark.parametrize("name", samples())
def test_what_is_accepted_is_delivered(name: str) -> None:
    """By a rule or by a schedule."""
    assert is_delivered(samples()[name])


@pytest.mark.parametrize("name", samples())
def test_parser_and_rules_draw_the_same_line(name: str) -> None:
    """One word away from a sample: what is accepted is delivered, what is ignored is not."""
    event = samples()[name]
    fields = {path for pattern in patterns() for path, _ in literals(pattern)} - {("account",)}
    differ = []
    for path, value in product((one for one in fields if at(event, one) is not None), words()):
        other = with_value(event, path, value)
        found = becomes(other)
        if found != "rejected" and (found == "accepted") != is_delivered(other):
            differ.append((path, value))

    assert differ == []


def test_the_document_tells_each_event_of_a_cluster() -> None:
    """With what it does: the table is what an operator goes by."""
    told = [
        name
        for row in documents.rows("infra/OPERATIONS.md", "event of a cluster")
        for name in re.findall(r"RDS-EVENT-\d{4}", row[0])
    ]

    assert sorted(told) == sorted(CLUSTER_EVENTS)
