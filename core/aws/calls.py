"""Calls of AWS: their clients, their pages, and how often what is busy is asked again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, Self, TypeVar

import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

from core.aws.failures import calling
from core.budget import Budget, pauses
from core.errors import MigrationError, NotReady, OutOfReach, RunFailed
from core.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

# All that we ask for anything.
SERVICES = ("events", "rds", "secretsmanager", "sns", "sqs", "ssm")

# How often a call is tried where no budget says how long.
TRIES_WITHOUT_BUDGET = 5

# How often where nothing answers at all: for less than a minute, and then a person has to know.
TRIES_OUT_OF_REACH = 10

# One try a call: we try again ourselves, as long as the run may still spend time.
_CLIENT_CONFIG = Config(
    connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 1}
)


class _Models(Loader):  # type: ignore[misc]  # botocore has no types
    """The models of the services that we use; botocore looks through those of all four hundred."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's
        return list(SERVICES)


def _session() -> Any:
    """Return botocore's session, not boto3's: that one also imports what sends files to S3."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _Models())
    return session


class Calls:
    """
    What every service is asked through. Clients are made when first needed, and kept.

    Every method that asks raises AccessDenied, NotFound, NotReady, Rejected or RunFailed where
    AWS refuses, and the message names the call and the thing. What is busy is asked again.
    """

    def __init__(self, settings: Settings, session: Any = None) -> None:
        self._session = session or _session()
        self._settings = settings
        self._prefix = settings.prefix
        self._clients: dict[str, Any] = {}
        self._budget: Budget | None = None
        # At DEBUG it logs whole requests and answers, and so every secret that we read.
        logging.getLogger("botocore").setLevel(logging.INFO)

    def within(self, budget: Budget) -> Self:
        """Return the same AWS, which asks again what is busy until *budget* ends."""
        limited = copy(self)
        limited._budget = budget  # noqa: SLF001 - it is one of ours
        return limited

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.create_client(service, config=_CLIENT_CONFIG)
        return self._clients[service]

    def _call(
        self,
        action: str,
        thing: str,
        call: Callable[[], T],
        missing: type[MigrationError] = RunFailed,
    ) -> T:
        """
        Return what *call* returns, asking again while AWS is busy and time is left.

        *action* is called for *thing*; *missing* is what it means that there is no such thing.
        """
        for tried, pause in enumerate(pauses(0.2, 5.0), start=1):
            try:
                with calling(action, thing, missing):
                    return call()
            except NotReady as error:
                is_in_reach = not isinstance(error, OutOfReach) or tried < TRIES_OUT_OF_REACH
                if not (is_in_reach and self._may_ask_again(tried, pause)):
                    raise
                logger.info("asking again in %.1f s: %s", pause, error)
                self._pause(pause)
        raise AssertionError("pauses never end")

    def _may_ask_again(self, tried: int, pause: float) -> bool:
        if self._budget is None:
            return tried < TRIES_WITHOUT_BUDGET
        return self._budget.left() > pause

    def _pause(self, seconds: float) -> None:
        if self._budget is None:
            time.sleep(seconds)
        else:
            self._budget.sleep(seconds)

    def _pages(
        self, action: str, thing: str, ask: Callable[..., dict[str, Any]], token: tuple[str, str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the pages that *ask* returns; *token* names the field to send and the one sent."""
        given, sent = token
        more: dict[str, Any] = {}
        while True:
            page = self._call(action, thing, lambda more=more: ask(**more))  # type: ignore[misc]
            yield page
            if not page.get(sent):
                return
            more = {given: page[sent]}

    def _all(
        self, action: str, field: str, ask: Callable[..., dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield each of *field* that a list of RDS has, page by page."""
        for page in self._pages(action, f"all {field}", ask, ("Marker", "Marker")):
            yield from page[field]
