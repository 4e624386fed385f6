"""A TCP proxy before a server, that can go silent, cut off, or start to work again."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
import threading
from typing import Self

# linux/filter.h: a program of one instruction, BPF_RET|BPF_K with 0: take no byte of any packet.
_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)

CHUNK_BYTES = 65_536


class Proxy:
    """
    Forwards every connection to ``127.0.0.1`` and *port*.

    Attributes:
        port: Where it listens itself.
        forwarded_bytes: What has passed so far, both ways.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.forwarded_bytes = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lost: list[tuple[socket.socket, socket.socket]] = []
        self._flows = threading.Event()
        self._flows.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Without it, accept() would go on in its thread.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()
        self._pairs, self._lost = self._lost, []
        self.cut()

    def lead_to(self, port: int) -> None:
        """Lead who connects from now on to *port*, as an endpoint does after a failover."""
        self._to = port

    def stop_forwarding(self) -> None:
        """Hold what comes from now on, and close nothing: a hung box in the middle."""
        self._flows.clear()

    def lose_packets(self) -> None:
        """
        Go silent below TCP too, where the system can: nothing is acknowledged any more.

        As a network does that is cut in the middle: nobody hears of it. (Linux. Elsewhere
        the kernel goes on acknowledging, and this is :meth:`stop_forwarding`.)
        """
        self.stop_forwarding()
        if sys.platform != "linux":
            return
        code = ctypes.create_string_buffer(_DROP_ALL)
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def cut(self) -> None:
        """Close every connection that there is, at once."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs.clear()

    def mend(self) -> None:
        """Forward again, for those who connect anew; the old connections stay lost."""
        self._lost += self._pairs
        self._pairs = []
        self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._pairs.append((client, server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        pair_is_lost = False
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                if not self._flows.is_set():
                    # What came while we were silent is lost for good, as are the two.
                    pair_is_lost = True
                    break
                self.forwarded_bytes += len(chunk)
                sink.sendall(chunk)
        if pair_is_lost:
            return
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
