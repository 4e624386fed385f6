"""
Where clients of a cluster connect: an address that leads to one server now, and to another later.

On AWS the name of the endpoint is what moves.  Here the port stays, and each new connection is
passed on as it is, TLS and all, to the server that the endpoint names at that moment.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from infra.local.postgres.tls_front import copy


@dataclass
class Endpoint:
    """
    A host and port of this machine that passes connections on.

    Attributes:
        target: Returns the port of the server to connect to, and may take its time: the client
            waits meanwhile.  None turns the client away.
        idle_since: When the last connection went (``time.monotonic``); None while there is one.
    """

    host: str
    port: int
    target: Callable[[], int | None] = lambda: None
    idle_since: float | None = field(default_factory=time.monotonic)
    _listener: asyncio.Server | None = None
    _connections: int = 0

    def open(self) -> None:
        """Listen, unless it does already."""
        _wait(self._open())

    def refuse(self) -> None:
        """Listen no more; what is connected stays so until its server ends it."""
        _wait(self._refuse())

    async def _open(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, self.host, self.port)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self.idle_since = None
        try:
            port = await asyncio.to_thread(self.target)
            if port is not None:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer))
        except OSError:
            # The server is down, or either end went away: the client sees it.
            pass
        finally:
            writer.close()
            self._connections -= 1
            if not self._connections:
                self.idle_since = time.monotonic()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop of all endpoints, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cluster endpoints", daemon=True).start()
    return loop


def _wait(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, _loop()).result(10)
