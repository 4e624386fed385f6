"""One database on a real server that looks like an RDS instance, and runs carried out on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from core.access.locate import locate
from core.access.login_passwords import LoginPasswords
from core.actions.carry_out import carry_out
from core.actions.run import Run
from core.budget import Budget
from core.model import Action, Database, ManagedDatabase, Request, Result, Trigger
from core.postgres.connecting import connect
from core.postgres.lock import acquire_lock
from core.postgres.session import Session
from core.revisions.history import Recorder
from core.revisions.runner import Revisions
from core.settings import Settings
from infra.local.postgres.server import Server
from infra.trial.cloud import MemoryCloud

INSTANCE = "orders"
MASTER_SECRET = "orders-master"
DATABASE = "shop"
REQUEST_ID = "5ea1-0001"
BUDGET_SECONDS = 60.0
# Nobody else is at work here; but the server process of the run before may not have ended yet.
LOCK_WAIT_SECONDS = 30


class Unhurried:
    """A supervisor with all the time in the world."""

    def session_settings(self) -> str:
        """Set nothing."""
        return "RESET ALL"

    def time_left(self) -> float:
        """Return the seconds of a run."""
        return BUDGET_SECONDS

    def may_go_on(self) -> bool:
        """Go on."""
        return True

    def committed(self, _revision: str) -> None:
        """Take no note."""

    def warned(self, _texts: Sequence[str]) -> None:
        """Take no note."""


@dataclass
class TrialDatabase:
    """
    The instance ``orders`` and its database ``shop``.

    Attributes:
        master: Whom the runner connects as, by the secret ``orders-master``.
        revisions: What is run, unless a call says else.
    """

    server: Server
    ca_file: Path
    revisions: Revisions
    master: str = "postgres"
    cloud: MemoryCloud = field(default_factory=MemoryCloud)

    def __post_init__(self) -> None:
        self.cloud.known[INSTANCE] = ManagedDatabase(
            identifier=INSTANCE,
            arn=f"arn:aws:rds:us-east-1:000000000000:db:{INSTANCE}",
            resource_id="db-ORDERS",
            engine="postgres",
            status="available",
            host=self.server.host,
            port=self.server.port,
            db_name=DATABASE,
            created_at=datetime(2024, 1, 1, tzinfo=UTC),
            tags={"day2": "enabled", "day2:secret": MASTER_SECRET},
        )
        self.cloud.secrets[MASTER_SECRET] = {
            "username": self.master,
            "password": self.server.master_password,
        }

    @cached_property
    def settings(self) -> Settings:
        """The runner's settings: short waits, and the local CA."""
        return Settings(
            ca_file=str(self.ca_file),
            lock_wait_seconds=LOCK_WAIT_SECONDS,
            minimum_slice_seconds=1,
            relation_lock_timeout_ms=500,
        )

    def request(self, action: Action = Action.MIGRATE, target: str | None = "head") -> Request:
        """Return a direct request for this instance."""
        return Request(Trigger.DIRECT, action, instance=INSTANCE, target=target)

    def run(
        self,
        action: Action = Action.MIGRATE,
        target: str | None = "head",
        *,
        revisions: Revisions | None = None,
        settings: Settings | None = None,
        request: Request | None = None,
        request_id: str = REQUEST_ID,
        budget: Budget | None = None,
    ) -> Result:
        """Carry out one request on this instance, as the function would."""
        return carry_out(
            Run(
                request=request or self.request(action, target),
                cloud=self.cloud,
                revisions=revisions or self.revisions,
                settings=settings or self.settings,
                budget=budget or Budget.of(BUDGET_SECONDS),
                request_id=request_id,
            )
        )

    def downgrade(self, *identifiers: str, revisions: Revisions | None = None) -> None:
        """Take *identifiers* back, in the order given."""
        revisions = revisions or self.revisions
        passwords = self.login_passwords
        with closing(self.connect_as_runner()) as session:
            acquire_lock(session, Budget.of(BUDGET_SECONDS), wait_seconds=LOCK_WAIT_SECONDS)
            revisions.run(
                session,
                identifiers,
                upward=False,
                recorder=Recorder(
                    trigger="test", request_id=REQUEST_ID, checksums=revisions.checksums
                ),
                supervisor=Unhurried(),
                attributes={"login_passwords": passwords},
            )

    @cached_property
    def login_passwords(self) -> LoginPasswords:
        """Return what keeps the passwords of the logins of ``orders``."""
        return LoginPasswords(self.cloud, f"day2/{INSTANCE}", "day2", {})

    def database(self) -> Database:
        """Return where the runner would connect to."""
        return locate(self.request(), self.cloud, self.settings).database

    def connect_as_runner(self) -> Session:
        """Open a session just as the runner does."""
        return connect(
            self.database(), relation_lock_timeout_ms=500, timeout_seconds=BUDGET_SECONDS
        )
