"""One carrying-out of one request, and what it needs of AWS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from core.access.locate import Directory
from core.access.login_passwords import Secrets
from core.actions.bus import Bus
from core.budget import Budget
from core.model import Parameters, Report, Request
from core.revisions.promises import Promises
from core.revisions.runner import Revisions
from core.settings import Settings


class Cloud(Directory, Bus, Secrets, Protocol):
    """What a run needs of AWS; ``core.aws`` has the real one, tests have a small one."""

    def parameters(self, instance: str) -> Parameters: ...


@dataclass(slots=True)
class Run:
    """
    One carrying-out of one request, and what is known of it so far.

    Attributes:
        secret_folder: Where the secrets of the database's logins are, by its books.
        whole_seconds: What the run had of its budget when it began.
    """

    request: Request
    cloud: Cloud
    revisions: Revisions
    settings: Settings
    budget: Budget
    request_id: str
    promises: Promises = field(default_factory=Promises.load)
    report: Report = field(default_factory=Report)
    secret_folder: str | None = None
    whole_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.whole_seconds = self.budget.left()

    def folder_at(self, place_name: str) -> str:
        """Return what the names of the logins' secrets begin with, for a database at a place."""
        return self.secret_folder or f"{self.settings.prefix}/{place_name}"
