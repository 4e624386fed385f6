"""Two real servers of one database behind one endpoint: what writes, and what follows it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.postgres.session import DriverError, query
from infra.local.postgres.server import Server
from tests.equipment.proxy import Proxy
from tests.equipment.waiting import wait_for
from tests.equipment.world import DATABASE, World

_ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
_OF_A_RUN = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'day2' AND "


def wait_for_sleep(world: World) -> None:
    """Return when a statement of a revision sleeps."""
    wait_for(lambda: world.query(_ASLEEP), "a statement that sleeps")


def wait_for_waiter(world: World) -> None:
    """Return when a run waits for a lock."""
    wait_for(
        lambda: world.query(f"{_OF_A_RUN} wait_event_type = 'Lock'"), "a run that waits for a lock"
    )


@contextmanager
def held(world: World, statement: str) -> Iterator[Any]:
    """Hold what *statement* locks, and let go afterwards; yield the session that does."""
    with closing(world.server.superuser(DATABASE)) as session:
        session.autocommit = False
        query(session, statement)
        yield session
        # A failover may have ended it before.
        with suppress(DriverError):
            session.rollback()


@dataclass
class Pair:
    """
    The endpoint of a database, and the two servers that it may lead to.

    Attributes:
        writer: The one that writes at first, which is the world's own.
        reader: The one that follows it, in recovery.
    """

    world: World
    endpoint: Proxy
    writer: Server
    reader: Server

    def slow_on_the_first(self) -> str:
        """Return a statement of a revision that takes long on the first writer alone."""
        port = f"current_setting('port')::int = {self.writer.port}"
        return f'op.execute("SELECT pg_sleep(CASE WHEN {port} THEN 60 ELSE 0 END)")'

    def wait_for_sleep(self) -> None:
        """Return when a revision sleeps, and the reader has caught up."""
        wait_for_sleep(self.world)
        self.catch_up()

    def catch_up(self, follower: Server | None = None) -> None:
        """Return when *follower*, the reader, has all that the writer of the moment committed."""
        ((there,),) = self.world.query("SELECT pg_current_wal_flush_lsn()")
        with closing((follower or self.reader).superuser(DATABASE)) as session:
            wait_for(
                lambda: query(session, "SELECT pg_last_wal_replay_lsn() >= %s", (there,))[0][0],
                "the reader at the writer's place",
            )

    def fall_behind(self) -> None:
        """Have the reader follow no more: what is committed from now on, it will not have."""
        with closing(self.reader.superuser()) as session:
            query(session, "ALTER SYSTEM SET primary_conninfo = ''")
            query(session, "SELECT pg_reload_conf()")
        with closing(self.writer.superuser()) as session:
            wait_for(
                lambda: query(session, "SELECT count(*) = 0 FROM pg_stat_replication")[0][0],
                "the end of the following",
            )

    def hold_answers(self) -> None:
        """Have the writer commit from now on, and tell nobody: it waits for another standby."""

        def commit() -> None:
            with suppress(DriverError), closing(self.writer.superuser(DATABASE)) as one:
                while True:
                    query(one, "SELECT pg_logical_emit_message(true, 'day2', '')")

        with closing(self.writer.superuser(DATABASE)) as session:
            query(session, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            query(session, "SELECT pg_reload_conf()")
            # SHOW does not tell: another process has to read it, too.
            threading.Thread(target=commit, daemon=True).start()
            wait_for(
                lambda: query(
                    session, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                ),
                "a commit that is not answered",
            )
            # It keeps what it has read, until it starts anew.
            query(session, "ALTER SYSTEM RESET synchronous_standby_names")

    def wait_for_commit(self) -> None:
        """Return when a run has committed, and was not told so."""
        wait_for(
            lambda: self.world.query(f"{_OF_A_RUN} wait_event = 'SyncRep'"),
            "a run that has committed",
        )
        self.catch_up()

    def fail_back(self) -> None:
        """Have the first writer follow the other one, and take its place again."""
        self.writer.follow(self.reader)
        self.catch_up(self.writer)
        self.endpoint.lead_to(self.writer.port)
        self.reader.stop()
        self.world.server = self.writer
        self.writer.promote()

    def fail_over(self, mode: str = "fast", *, promote: bool = True) -> None:
        """Stop the writer, lead to the other server, and let it write."""
        self.endpoint.lead_to(self.reader.port)
        self.writer.stop(mode)
        # So that the world looks at what is kept.
        self.world.server = self.reader
        if promote:
            self.reader.promote()


@contextmanager
def followed(world: World) -> Iterator[Pair]:
    """Have the server of *world* followed by another, and its endpoint lead to the first."""
    writer, settings = world.server, world.server.settings
    reader = Server.create(
        # Beside the world's own, which are removed with it.
        Path(tempfile.mkdtemp(prefix="s", dir=writer.folder.parent)),
        certificate=writer.certificate,
        master_password=writer.master_password,
        settings=writer.settings,
        programs=writer.programs,
        primary=writer,
    )
    try:
        with Proxy(writer.port) as endpoint:
            world.port = endpoint.port
            world.declare_instance()
            yield Pair(world, endpoint, writer, reader)
    finally:
        reader.remove()
        world.server = writer
        writer.settings = settings
        if writer.pid is None:
            writer.start()
