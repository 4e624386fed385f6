"""Servers that are not what they should be: each named, none told a password."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.errors import MigrationError, NotReady, RunFailed, UntrustedServer
from core.model import Database
from core.postgres.connecting import connect
from infra.local.postgres.certificates import Authority, Certificate

USER = "the-master"
PASSWORD = "marker-of-the-password"
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@dataclass
class FakeServer:
    """
    Looks like PostgreSQL until the handshake is over, and keeps all that arrives.

    Attributes:
        certificate: What it shows; without one it offers no TLS.
        received: Every byte that a client sent, decrypted where there was TLS.
    """

    certificate: Certificate | None
    folder: Path
    received: list[bytes] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Listen, and yield the port."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            thread.start()
            yield int(listener.getsockname()[1])
            # Wakes accept(), which a close alone does not.
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(30)
                try:
                    self._serve(client)
                except OSError:
                    # The client does not trust us and goes: that is what it should do.
                    continue

    def _serve(self, client: socket.socket) -> None:
        first = client.recv(8)
        self.received.append(first)
        if first != SSL_REQUEST:
            return
        if self.certificate is None:
            client.sendall(b"N")
            self._keep(client)
            return
        client.sendall(b"S")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*self.certificate.write(self.folder))
        with tls.wrap_socket(client, server_side=True) as secured:
            self._keep(secured)

    def _keep(self, client: socket.socket) -> None:
        # Nothing comes from who does not trust us; whoever does is hung up on, and tries no more.
        if arrived := client.recv(4096):
            self.received.append(arrived)


# What the server shows, by the CA that we trust and another; and what we say of it.
CASES: dict[str, tuple[Callable[[Authority, Authority], Certificate | None], str]] = {
    "another CA": (
        lambda _ours, other: other.issue(["localhost"]),
        "is not signed by a CA in ca.pem",
    ),
    "another name": (
        lambda ours, _other: ours.issue(["orders.example.com"]),
        "is for another name than localhost",
    ),
    "expired": (
        lambda ours, _other: ours.issue(["localhost"], lifetime=dt.timedelta(days=-1)),
        "has expired",
    ),
    "no TLS": (lambda _ours, _other: None, "offers no TLS"),
}


def attempt(port: int, ca_file: Path, **other: Any) -> MigrationError:
    """Try to connect, and return why that failed."""
    fields: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "name": "shop",
        "user": USER,
        "password": PASSWORD,
        "ca_file": str(ca_file),
    }
    with pytest.raises(MigrationError) as raised:
        connect(Database(**fields | other), relation_lock_timeout_ms=500, timeout_seconds=30)
    return raised.value


@pytest.mark.parametrize("case", CASES)
def test_untrusted_server_is_named_and_told_nothing(
    case: str, authority: Authority, ca_file: Path, tmp_path: Path
) -> None:
    """The answer says what is wrong; neither user nor password was sent, and nothing in clear."""
    shown, problem = CASES[case]
    server = FakeServer(shown(authority, Authority.create("another CA")), tmp_path)

    with server.listening() as port:
        error = attempt(port, ca_file)

    assert type(error) is UntrustedServer
    assert problem in str(error)
    assert "no password was sent" in str(error)
    assert set(server.received) == {SSL_REQUEST}


def test_trusted_server_is_told_the_user_and_no_more(
    authority: Authority, ca_file: Path, tmp_path: Path
) -> None:
    """The other side of the proof: behind a good certificate this server sees the start packet."""
    server = FakeServer(authority.issue(["localhost"]), tmp_path)

    with server.listening() as port:
        error = attempt(port, ca_file)

    arrived = b"".join(server.received)
    assert type(error) is NotReady
    assert USER.encode() in arrived
    assert PASSWORD.encode() not in arrived


def test_the_address_alone_is_no_name(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    """A certificate for the name does not hold for the address: we go by what RDS says."""
    server = FakeServer(authority.issue(["localhost"]), tmp_path)

    with server.listening() as port:
        error = attempt(port, ca_file, host="127.0.0.1")

    assert type(error) is UntrustedServer
    assert set(server.received) == {SSL_REQUEST}


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_bad_ca_file_is_no_reason_to_trust(
    content: str | None, authority: Authority, tmp_path: Path
) -> None:
    """Without roots nobody is trusted; it is our own fault, and says so."""
    ca_file = tmp_path / "roots.pem"
    if content is not None:
        ca_file.write_text(content)
    server = FakeServer(authority.issue(["localhost"]), tmp_path)

    with server.listening() as port:
        error = attempt(port, ca_file)

    assert type(error) is RunFailed
    assert "CaFile" in str(error)
    assert set(server.received) <= {SSL_REQUEST}


@pytest.mark.parametrize("variable", ["PGSSLMODE", "PGHOSTADDR", "PGSSLROOTCERT", "PGREQUIRESSL"])
def test_libpqs_variables_change_nothing(
    variable: str,
    authority: Authority,
    ca_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What libpq would take from its environment does not weaken us."""
    values = {"PGSSLMODE": "disable", "PGHOSTADDR": "127.0.0.1", "PGREQUIRESSL": "0"}
    monkeypatch.setenv(variable, values.get(variable, str(tmp_path / "nothing.pem")))
    server = FakeServer(Authority.create("another CA").issue(["localhost"]), tmp_path)

    with server.listening() as port:
        error = attempt(port, ca_file)

    assert type(error) is UntrustedServer
    assert set(server.received) == {SSL_REQUEST}
    assert authority.pem
