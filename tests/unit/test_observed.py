"""The observed state is read with care: people, tools and other builds write it too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from core.decisions import observed
from core.decisions.need import Need, need
from core.errors import RunFailed
from core.model import (
    Declared,
    ManagedDatabase,
    ObservedState,
    Parameters,
    Report,
    Result,
    TargetSource,
)
from core.outcome import Outcome

NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)
STATE = ObservedState(
    "db-ORDERS", "shop", "001", "FAILED", "004", "new", NOW - timedelta(minutes=5), "7f2c"
)
FIELDS = json.loads(observed.written(STATE))

STRANGE: dict[str, str] = {
    "attempts as text": json.dumps(FIELDS | {"attempts": "3"}),
    "no attempts": json.dumps(FIELDS | {"attempts": None}),
    "attempts by halves": json.dumps(FIELDS | {"attempts": 2.5}),
    "attempts as a flag": json.dumps(FIELDS | {"attempts": True}),
    "attempts below one": json.dumps(FIELDS | {"attempts": 0}),
    "attempts that are no number": json.dumps(FIELDS | {"attempts": float("nan")}),
    "a time without a zone": json.dumps(FIELDS | {"at": "2026-01-01T00:00:00"}),
    "a time that no zone can hold": json.dumps(FIELDS | {"at": "0001-01-01T00:00:00+14:00"}),
    "a time as a number": json.dumps(FIELDS | {"at": 7}),
    "an outcome in a list": json.dumps(FIELDS | {"outcome": ["FAILED"]}),
    "a revision as a number": json.dumps(FIELDS | {"revision": 1}),
    "a target in an object": json.dumps(FIELDS | {"target": {}}),
    "a build that is missing": json.dumps({k: v for k, v in FIELDS.items() if k != "build"}),
    "deep JSON": "[" * 3000,
    "deep JSON of objects": '{"a":' * 700 + "1" + "}" * 700,
    "a list": "[1]",
    "null": "null",
    "nothing": " ",
    "more than a parameter holds": json.dumps(FIELDS | {"build": "x" * 5000}),
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
def test_what_we_would_not_write_is_no_state(text: str) -> None:
    """Nothing in it is used before its type is known, and nothing is raised."""
    assert observed.read(text) is None


def test_what_we_write_is_read_again() -> None:
    """A field that a later build adds is left aside."""
    assert observed.read(observed.written(STATE)) == STATE
    assert observed.read(json.dumps(FIELDS | {"later": [1]})) == STATE


def wants(state: ObservedState, orders: ManagedDatabase, declared: str = "004") -> Need:
    """Return what ``orders`` needs in *state*."""
    return need(
        orders,
        Parameters(Declared(declared, TargetSource.PARAMETER, "p"), state),
        identifiers=("001", "004"),
        build="new",
        now=NOW,
        follow_head=False,
    )


@pytest.mark.parametrize("ahead", [timedelta(seconds=1), timedelta(days=3650)])
def test_a_time_ahead_of_ours_blocks_nobody(ahead: timedelta, orders: ManagedDatabase) -> None:
    """A wrong clock or a hand could else stop an instance for years."""
    assert wants(STATE, orders) is Need.BLOCKED
    assert wants(STATE._replace(at=NOW + ahead), orders) is Need.BEHIND


def test_the_end_of_time_blocks_nobody(orders: ManagedDatabase) -> None:
    """Nothing can be added to the last second that there is."""
    last = datetime.max.replace(tzinfo=UTC)

    assert wants(STATE._replace(at=last), orders) is Need.BEHIND


@pytest.mark.parametrize(("attempts", "expected"), [(3, Need.BEHIND), (4, Need.BLOCKED)])
def test_what_mends_itself_is_asked_for_less_often_too(
    attempts: int, expected: Need, orders: ManagedDatabase
) -> None:
    """An instance that is never ready is no reason to knock at every turn for years."""
    state = STATE._replace(outcome="NOT_READY", attempts=attempts)

    assert wants(state, orders) is expected


def test_a_state_of_any_length_is_kept() -> None:
    """A declared target may be as long as a parameter, and an error longer; a state may not."""
    report = Report(
        resource_id="db-ORDERS", database="\u00e9" * 63, target_revision="\u00e9" * 4000
    )
    error = RunFailed("no")
    error.report = report
    state = observed.observed_state(
        error, None, build="b" * 40, request_id="r" * 36, at=NOW, error="\u00e9" * 4000
    )

    assert state is not None
    assert len(observed.written(state)) < 4096
    assert observed.read(observed.written(state)) == state


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("revision 003 failed\n  at 003.py:7\nDETAIL: x", "revision 003 failed"),
        ("", ""),
        ("\n first\nsecond", "first"),
        # Parameter Store refuses values with references to others.
        ("in {{ssm:/x}} {{{", "in { {ssm:/x}} { { {"),
        ("x" * 400, "x" * 300 + "… (100 more characters)"),
    ],
)
def test_the_first_line_of_the_error_is_kept(text: str, kept: str) -> None:
    """So that whoever looks at a blocked instance sees why, without its log."""
    error = RunFailed("no")
    error.report = Report(resource_id="db-ORDERS")

    state = observed.observed_state(error, None, build="b", request_id="r", at=NOW, error=text)

    assert state is not None
    assert state.error == kept


def test_a_success_keeps_no_error_and_another_text_is_the_same_failure() -> None:
    """Texts have times and process numbers in them; the sweep's patience goes by the outcome."""
    report = Report(resource_id="db-ORDERS", database="shop", target_revision="004")
    done = Result(Outcome.UP_TO_DATE, "fine", report)
    failed = RunFailed("no")
    failed.report = report
    last = STATE._replace(revision=None, error="held by process 1")

    kept = observed.observed_state(done, None, build="new", request_id="r", at=NOW, error="fine")
    again = observed.observed_state(
        failed, last, build="new", request_id="r", at=NOW, error="held by process 2"
    )

    assert kept is not None
    assert kept.error is None
    assert again is not None
    assert (again.error, again.attempts) == ("held by process 2", 2)
