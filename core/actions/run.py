"""One carrying-out of one request, and what it needs of AWS."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from core.access.locate import Directory
from core.access.login_passwords import Secrets
from core.actions.bus import Bus
from core.actions.later import Queue
from core.budget import Budget
from core.errors import NotReady
from core.model import Choice, Declared, Parameters, Report, Request, TargetSource
from core.revisions.books import Book
from core.revisions.runner import Revisions
from core.settings import Settings

if TYPE_CHECKING:
    from core.revisions.promises import Promises

logger = logging.getLogger(__name__)


class Cloud(Directory, Bus, Queue, Secrets, Protocol):
    """What a run needs of AWS; ``core.aws`` has the real one, tests have a small one."""

    def parameters(self, instance: str) -> Parameters: ...


@dataclass(slots=True)
class Run:
    """
    One carrying-out of one request, and what is known of it so far.

    Attributes:
        event: What asked, as it came, where nobody waits for an answer.
        secret_folder: Where the secrets of the database's logins are, by its books.
        is_copy: Whether the books are those of another instance, from which it was restored.
        book: What the books say of themselves, once they are read under the lock.
        whole_seconds: What the run had of its budget when it began.
        choice: The target, once it is chosen: it stays the same where the server fails over.
        first_row: The last row of the history before this run; ``None`` before it began.
        server_started: When the server was started that the run was last at.
        is_cut: The connection was gone when something failed.
        ended: How its last connection ended, if it lost one.
        is_moved: It goes on at another server than it began at.
    """

    request: Request
    cloud: Cloud
    revisions: Revisions
    settings: Settings
    budget: Budget
    request_id: str
    event: Mapping[str, object] | None = None
    report: Report = field(default_factory=Report)
    secret_folder: str | None = None
    is_copy: bool = False
    book: Book | None = None
    whole_seconds: float = field(init=False)
    choice: Choice | None = None
    first_row: int | None = None
    server_started: str | None = None
    is_cut: bool = False
    ended: NotReady | None = None
    is_moved: bool = False

    def __post_init__(self) -> None:
        self.whole_seconds = self.budget.left()

    @property
    def promises(self) -> Promises:
        """What the revisions promise."""
        return self.revisions.promises

    def declared(self, instance: str) -> Declared | None:
        """
        Return the declared target of *instance*, as Parameter Store says it during this run.

        It is asked once a run: it takes forty reads a second of a whole account.
        """
        if self.report.parameters is None:
            self.report.parameters = self.cloud.parameters(instance)
        return self.report.parameters.declared

    @property
    def leaves_logins(self) -> bool:
        """
        Whether the logins keep the passwords that they have.

        A restored copy that merely follows the fleet may be about to take its original's name:
        applications then come with the passwords of the original.
        """
        is_own = self.request.is_direct or self.report.target_source in (
            TargetSource.REQUEST,
            TargetSource.PARAMETER,
        )
        return self.is_copy and not is_own

    def warn(self, text: str) -> None:
        """Say *text* in the log, and once in the answer."""
        logger.warning(text)
        if text not in self.report.warnings:
            self.report.warnings.append(text)

    def folder_at(self, place_name: str) -> str:
        """Return what the names of the logins' secrets begin with, for a database at a place."""
        return self.secret_folder or self._own_folder(place_name)

    def has_new_name(self, place_name: str) -> bool:
        """Say whether the secrets of the database's logins are under another name than its own."""
        return self.folder_at(place_name) != self._own_folder(place_name)

    def _own_folder(self, place_name: str) -> str:
        return f"{self.settings.prefix}/{place_name}"
