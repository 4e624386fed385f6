"""Two real servers of one database behind one endpoint: what writes, and what follows it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.postgres.session import query
from infra.local.postgres.server import Server
from tests.equipment.proxy import Proxy
from tests.equipment.waiting import wait_for
from tests.equipment.world import DATABASE, World

_ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


def wait_for_sleep(world: World) -> None:
    """Return when a statement of a revision sleeps."""
    wait_for(lambda: world.query(_ASLEEP), "a statement that sleeps")


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

    def catch_up(self) -> None:
        """Return when the reader has all that the writer has committed."""
        ((there,),) = self.world.query("SELECT pg_current_wal_flush_lsn()")
        with closing(self.reader.superuser(DATABASE)) as session:
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
    writer = world.server
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
        if writer.pid is None:
            writer.start()
