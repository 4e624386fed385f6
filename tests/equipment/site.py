"""One managed database on a real server, with all that a test does to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from core.access.locate import locate
from core.access.login_passwords import LoginPasswords
from core.actions.carry_out import carry_out
from core.actions.run import Run
from core.budget import Budget
from core.model import Action, Database, ManagedDatabase, Request, Result, Trigger
from core.postgres.session import Session, acquire_lock, connect, query
from core.revisions.history import Recorder
from core.revisions.runner import Revisions
from core.settings import Settings
from infra.local.postgres import Server
from tests.equipment.fakes import FakeCloud

INSTANCE = "orders"
MASTER_SECRET = "orders-master"
DATABASE = "shop"
REQUEST_ID = "5ea1-0001"
REVISIONS = Revisions()
HEAD_LOGINS = ("app_user", "analytics_user", "backup_user")

BUDGET_SECONDS = 60.0
RDS_ROLES = ("rdsadmin", "rds_superuser", "rds_password", "rds_iam", "rds_replication")


class Unhurried:
    """A supervisor with all the time in the world."""

    def session_settings(self) -> str:
        return "RESET ALL"

    def time_left(self) -> float:
        return 60.0

    def may_go_on(self) -> bool:
        return True

    def committed(self, _revision: str) -> None:
        """Take no note."""

    def warned(self, _texts: Sequence[str]) -> None:
        """Take no note."""


@dataclass
class Site:
    """
    The instance ``orders`` and its database ``shop``.

    Attributes:
        master: Whom the runner connects as, by the secret ``orders-master``.
    """

    server: Server
    ca_file: Path
    master: str = "postgres"
    cloud: FakeCloud = field(default_factory=FakeCloud)

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
            lock_wait_seconds=0,
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
        revisions: Revisions = REVISIONS,
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
                revisions=revisions,
                settings=settings or self.settings,
                budget=budget or Budget.of(BUDGET_SECONDS),
                request_id=request_id,
            )
        )

    def downgrade(self, *identifiers: str, revisions: Revisions = REVISIONS) -> None:
        """Take *identifiers* of *revisions* back, in the order given."""
        passwords = self.login_passwords
        with closing(self.connect_as_runner()) as session:
            acquire_lock(session, Budget.of(5), wait_seconds=0)
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
        return connect(self.database(), relation_lock_timeout_ms=500, timeout_seconds=10)

    def login(self, user: str) -> Session:
        """Log in as *user* with the password in its secret, over verified TLS."""
        name = MASTER_SECRET if user == self.master else f"day2/{INSTANCE}/{user}"
        session: Session = psycopg2.connect(
            host=self.server.host,
            port=self.server.port,
            dbname=DATABASE,
            user=user,
            password=self.cloud.secrets[name]["password"],
            sslmode="verify-full",
            sslrootcert=str(self.ca_file),
        )
        session.autocommit = True
        return session

    def query(
        self, statement: str, values: Sequence[object] = (), *, user: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run *statement* on a connection of its own, as *user* or as the superuser."""
        session = self.login(user) if user else self.server.superuser(DATABASE)
        with closing(session):
            return query(session, statement, values)

    @contextmanager
    def lock_held(self) -> Iterator[Session]:
        """Hold the lock of the database, as another run would."""
        with closing(self.connect_as_runner()) as session:
            acquire_lock(session, Budget.of(5), wait_seconds=0)
            yield session

    def wait_until_somebody_waits(self) -> None:
        """Return once a session of the server waits for another one's lock."""
        for _ in range(200):
            if self.query("SELECT 1 FROM pg_locks WHERE NOT granted"):
                return
            time.sleep(0.02)
        raise AssertionError("nobody waits")

    def next_transaction(self) -> int:
        """Return the number that the server's next writing transaction will get."""
        return int(self.query("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])

    def passwords(self) -> list[str]:
        """Return every password that there is."""
        return [str(fields["password"]) for fields in self.cloud.secrets.values()]


def make_empty(server: Server, *, master: str = "postgres") -> None:
    """Drop every role and database that a test made, and make ``shop`` anew."""
    with closing(server.superuser()) as session:
        databases = query(session, "SELECT datname FROM pg_database WHERE oid >= 16384")
        for (name,) in databases:
            _execute(session, "DROP DATABASE {} WITH (FORCE)", name)
        roles = query(
            session,
            "SELECT rolname FROM pg_roles WHERE oid >= 16384 AND rolname <> ALL (%s)",
            ([*RDS_ROLES, server.master],),
        )
        if roles:
            # All at once: a role may be the grantor of another's membership.
            names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in roles)
            query(session, sql.SQL("DROP ROLE {}").format(names).as_string(session))
        if master != server.master:
            _execute(
                session, "CREATE ROLE {} LOGIN CREATEDB CREATEROLE IN ROLE rds_superuser", master
            )
            server.set_password(master, server.master_password)
        _execute(session, "CREATE DATABASE {} OWNER {}", DATABASE, master)


def _execute(session: Any, statement: str, *names: str) -> None:
    query(session, sql.SQL(statement).format(*map(sql.Identifier, names)).as_string(session))
