"""A bump of 1,000 at the rates that AWS documents, by a clock of its own: no run is lost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.aws.account import Aws
from core.budget import Budget
from core.errors import NotReady
from core.settings import Settings
from handlers.reporting import REPORT_SECONDS
from tests.equipment import documents

RUNS = 1000
# Lambda starts 1,000 functions in ten seconds (Lambda Developer Guide, "Scaling"); the bus takes
# some more to hand over their events.
ARRIVAL_SECONDS = 15.0
TIMEOUT_SECONDS = 900.0
# RDS publishes no rate. With a lower one, the others are met more slowly.
ASSUMED = 100
# What is written when a run has ended: it has a patience of its own.
REPORTED = ("ssm:PutParameter", "events:PutEvents")

BUSY: Any = {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}


def calls() -> list[tuple[str, int]]:
    """Return each call of a run of one revision, and how many AWS takes in a second."""
    found = []
    for name, _, times, *_, rate in documents.rows("infra/OPERATIONS.md", "call"):
        a_second = ASSUMED if rate == "unknown" else int(rate.replace(",", ""))
        found += [(name.strip("`"), a_second)] * int(times)
    # Told last, whatever the table's order is.
    return sorted(found, key=lambda one: one[0] in REPORTED)


@dataclass
class Account:
    """
    What AWS takes of one account, second by second.

    One run after another is played to its end, each by its own clock. What those before it took
    of a second is gone: so the last one meets what the last of a thousand meets.
    """

    taken: Counter[tuple[str, int]] = field(default_factory=Counter)

    def take(self, action: str, rate: int, now: float) -> None:
        """Take one call of *action*, or be told that there were too many."""
        slot = (action, int(now))
        if self.taken[slot] >= rate:
            # A new one each time: one that is raised again keeps every frame that it went through.
            raise ClientError(BUSY, "Any")
        self.taken[slot] += 1


@dataclass
class Run:
    """One run of the bump, by its own clock."""

    account: Account
    began: float
    patience: float = TIMEOUT_SECONDS
    now: float = 0.0

    def __post_init__(self) -> None:
        self.now = self.began

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _budget(self, seconds: float) -> Budget:
        end = self.now + min(seconds, self.patience)
        return Budget(lambda: end - self.now, 0, self._sleep)

    def play(self, aws: Aws, wanted: list[tuple[str, int]]) -> None:
        """
        Make each of the *wanted* calls, through the patience that every call of ours has.

        Raises:
            NotReady: It was lost over one of them.
        """
        running = aws.within(self._budget(TIMEOUT_SECONDS - 10))
        reporting: Aws | None = None
        for action, rate in wanted:
            if action in REPORTED and reporting is None:
                left = TIMEOUT_SECONDS - (self.now - self.began) - 3
                reporting = aws.within(self._budget(min(left, REPORT_SECONDS)))
            (reporting or running)._call(
                action,
                "thing",
                lambda one=action, most=rate: self.account.take(one, most, self.now),
            )


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Say nothing of the tens of thousands of calls that are made again."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def bump(patience: float = TIMEOUT_SECONDS) -> tuple[list[str], float]:
    """Play the bump; return over what each lost run was lost, and when the last one ended."""
    aws, account, wanted = Aws(Settings(), session=object()), Account(), calls()
    lost, ended = [], 0.0
    for number in range(RUNS):
        run = Run(account, ARRIVAL_SECONDS * number / RUNS, patience)
        try:
            run.play(aws, wanted)
        except NotReady as error:
            lost.append(str(error))
        ended = max(ended, run.now)
    return lost, ended


def test_no_run_of_a_thousand_is_lost() -> None:
    """Nor is any state: the last is written long before its function would be ended."""
    lost, ended = bump()

    assert lost == []
    assert ended < TIMEOUT_SECONDS / 2


def test_without_patience_a_third_would_be() -> None:
    """The rates are real enough for that: the proof above is worth something."""
    lost, _ = bump(patience=0)

    over = Counter(one.partition(" ")[0] for one in lost)
    assert over["ssm:GetParameters"] > RUNS / 3
    assert over["ssm:PutParameter"] > RUNS / 3
