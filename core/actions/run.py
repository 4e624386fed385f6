"""One carrying-out of one request, and what it needs of AWS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from core.access.locate import Directory
from core.access.login_passwords import Vault
from core.actions.bus import Bus
from core.budget import Budget
from core.model import Parameters, Report, Request
from core.revisions.promises import Promises
from core.settings import Settings

if TYPE_CHECKING:
    from core.revisions.runner import Revisions


class Cloud(Directory, Bus, Protocol):
    """What a run needs of AWS; ``core.aws`` has the real one, tests have a small one."""

    def parameters(self, instance: str) -> Parameters: ...
    def vault(
        self, name: str, address: Mapping[str, object], *, resource_id: str | None = None
    ) -> Vault: ...


@dataclass(slots=True)
class Run:
    """One carrying-out of one request, and what is known of it so far."""

    request: Request
    cloud: Cloud
    revisions: Revisions
    settings: Settings
    budget: Budget
    request_id: str
    promises: Promises = field(default_factory=Promises.load)
    report: Report = field(default_factory=Report)
