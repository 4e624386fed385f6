"""The response contract: codes as a table, bodies as whole golden files."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from core.errors import BehindCurrent, InvalidField, MigrationError, NotReady, RevisionFailed
from core.model import Report, Result, TargetSource
from core.outcome import Outcome
from handlers.responses import render

# Outcome, statusCode, success, retryable.
CODES = [
    ("APPLIED", 200, True, False),
    ("UP_TO_DATE", 200, True, False),
    ("STATUS", 200, True, False),
    ("PLANNED", 200, True, False),
    ("CHECKED", 200, True, False),
    ("IGNORED", 200, True, False),
    ("REQUESTED", 200, True, False),
    ("BLOCKED", 409, False, False),
    ("INCOMPLETE", 202, False, False),
    ("REJECTED", 400, False, False),
    ("ACCESS_DENIED", 403, False, False),
    ("NOT_FOUND", 404, False, False),
    ("BEHIND_CURRENT", 409, False, False),
    ("DB_AHEAD", 409, False, False),
    ("MANAGED_BY_ANOTHER", 409, False, False),
    ("LOCK_BUSY", 423, False, True),
    ("FAILED", 500, False, False),
    ("UNTRUSTED_SERVER", 502, False, False),
    ("NOT_READY", 503, False, True),
]


def report(
    previous: str | None, final: str | None, target: str = "head", **known: object
) -> Report:
    """Return the report of a run on the database of ``orders``."""
    return Report(
        instance="orders",
        database="shop",
        resource_id="db-ORDERS",
        previous_revision=previous,
        final_revision=final,
        target_revision=target,
        target_source=TargetSource.PARAMETER,
        **known,  # type: ignore[arg-type]
    )


def failed(error: MigrationError, known: Report) -> MigrationError:
    """Return *error* with what was known when it was raised."""
    error.report = known
    return error


ANSWERS: dict[str, Result | MigrationError] = {
    "applied": Result(
        Outcome.APPLIED,
        "Successfully applied 2 migration(s) to reach 002",
        report(None, "002", "002", applied=["001", "002"]),
    ),
    "up_to_date": Result(
        Outcome.UP_TO_DATE,
        "No pending migrations - database is up to date!",
        report("004", "004"),
    ),
    "status": Result(
        Outcome.STATUS,
        "orders is at 003; the head of this build is 004; 1 pending",
        report(
            "003",
            "003",
            pending=["004"],
            details={
                "head_revision": "004",
                "history": [
                    {
                        "revision": "003",
                        "direction": "upgrade",
                        "description": "Backup user and maintenance schema",
                        "at": "2026-05-04T10:20:30+00:00",
                        "by": "instance 7f2c",
                    }
                ],
            },
        ),
    ),
    "planned": Result(
        Outcome.PLANNED,
        "Would apply 1 migration(s) to reach 004",
        report(
            "003",
            "003",
            pending=["004"],
            details={
                "plan": [
                    {
                        "revision": "004",
                        "description": "Audit logging and compliance",
                        "sql": "CREATE SCHEMA IF NOT EXISTS audit;",
                    }
                ]
            },
        ),
    ),
    "ignored": Result(
        Outcome.IGNORED,
        "orders has no tag day2=enabled",
        Report(instance="orders"),
        "not-opted-in",
    ),
    "blocked": Result(
        Outcome.BLOCKED,
        "Requested 0 run(s); 1 blocked, 0 skipped; see the observed state of each",
        Report(details={"requested": [], "blocked": ["orders"], "skipped": {}}),
    ),
    "requested": Result(
        Outcome.REQUESTED,
        "Requested 1 run(s); 1 blocked, 3 skipped",
        Report(
            details={
                "requested": ["orders"],
                "blocked": ["billing"],
                "skipped": {"not-opted-in": 2, "read-replica": 1},
            }
        ),
    ),
    "incomplete": Result(
        Outcome.INCOMPLETE,
        "Applied 1 migration(s), to 001; 3 left when the time budget ended "
        "and were requested on the bus",
        report(None, "001", applied=["001"], pending=["002", "003", "004"]),
    ),
    "rejected": InvalidField("target_revision", "'+1' is not a target", "give 'head'"),
    "behind_current": failed(BehindCurrent("002", "004"), report("004", "004", "002")),
    "failed": failed(
        RevisionFailed("revision 003 failed: 42601 syntax error", revision="003", sqlstate="42601"),
        report("001", "002", applied=["002"], pending=["003", "004"]),
    ),
    "not_ready": failed(
        NotReady("orders is stopped (stopped): start the instance"), Report(instance="orders")
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_response_is_word_for_word_the_golden_one(
    name: str, check_golden: Callable[[str, str], None]
) -> None:
    """Outside callers rely on every field, so every field is compared."""
    response = render(ANSWERS[name], duration_ms=1234, request_id="7f2c")

    text = json.dumps(response, indent=2, ensure_ascii=False) + "\n"
    check_golden(f"response_{name}.json", text)


def test_the_codes_of_outcomes_are_the_contracts() -> None:
    """Each outcome has its status code, and says whether it succeeded and may be retried."""
    assert [(one.value, one.status_code, one.success, one.retryable) for one in Outcome] == CODES


def test_every_error_has_an_outcome_that_is_no_success() -> None:
    """No error can be taken for a success, a new one included."""
    kinds = subclasses(MigrationError)

    assert {kind.__name__: kind.outcome.success for kind in kinds} == {
        kind.__name__: False for kind in kinds
    }


def subclasses(kind: type[MigrationError]) -> list[type[MigrationError]]:
    """Return every kind of error below *kind*."""
    return [found for direct in kind.__subclasses__() for found in (direct, *subclasses(direct))]
