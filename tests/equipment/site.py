"""One managed database on a real server, with all that a test does to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2 import sql

from core.budget import Budget
from core.postgres.lock import acquire_lock
from core.postgres.session import Session, query
from core.revisions.runner import Revisions
from infra.local.postgres.server import Server
from infra.trial.database import (
    DATABASE,
    INSTANCE,
    LOCK_WAIT_SECONDS,
    MASTER_SECRET,
    REQUEST_ID,
    TrialDatabase,
)
from tests.equipment.histories import OURS
from tests.equipment.waiting import wait_for

__all__ = ["DATABASE", "INSTANCE", "MASTER_SECRET", "REQUEST_ID"]

REVISIONS = Revisions(folder=OURS)
HEAD_LOGINS = ("app_user", "analytics_user", "backup_user")

RDS_ROLES = ("rdsadmin", "rds_superuser", "rds_password", "rds_iam", "rds_replication")


@dataclass
class Site(TrialDatabase):
    """The instance ``orders`` and its database ``shop``, with all that a test does to it."""

    revisions: Revisions = field(default_factory=lambda: REVISIONS)

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
            acquire_lock(session, Budget.of(LOCK_WAIT_SECONDS), wait_seconds=LOCK_WAIT_SECONDS)
            yield session

    def wait_until_somebody_waits(self) -> None:
        """Return once a session of the server waits for another one's lock."""
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        wait_for(lambda: self.query(waiting), "a session that waits")

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
    server.give_public(DATABASE, master)


def after_going_back(before: str) -> str:
    """
    Return the catalogue *before* 001 as its downgrade leaves it.

    PUBLIC may use ``public`` again and not create in it, which it may at first until PostgreSQL 15.
    """
    return before.replace("PUBLIC=CREATE,USAGE", "PUBLIC=USAGE")


def _execute(session: Any, statement: str, *names: str) -> None:
    query(session, sql.SQL(statement).format(*map(sql.Identifier, names)).as_string(session))
