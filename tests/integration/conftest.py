"""Every PostgreSQL found, one server each, which each test finds empty and leaves as it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.postgres.certificates import Authority
from infra.local.postgres.programs import Programs, available_programs
from infra.local.postgres.server import Server
from tests.equipment.site import Site, make_empty

# What the tests look into afterwards: the log of every statement, and transaction numbers.
SERVER_SETTINGS = {
    "log_statement": "all",
    "autovacuum": "off",
}


@pytest.fixture(scope="session", params=available_programs(), ids=lambda found: found.version)
def programs(request: pytest.FixtureRequest) -> Programs:
    """Return one installed PostgreSQL."""
    return request.param


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Return the CA that signs what the servers show."""
    return Authority.create()


@pytest.fixture(scope="session")
def ca_file(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file with the CA's own certificate."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_bytes(authority.pem)
    return path


@pytest.fixture(scope="session")
def servers(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Programs], Server]]:
    """Return the one server of a PostgreSQL, certified as ``localhost`` and nothing else."""
    made = authority.issue(["localhost"])
    folder = tmp_path_factory.mktemp("server-tls")
    files = (folder / "server.crt", folder / "server.key")
    for file, content in zip(files, (made.certificate, made.key), strict=True):
        file.write_bytes(content)
    running: dict[Programs, Server] = {}

    def find(programs: Programs) -> Server:
        if programs not in running:
            running[programs] = Server.create(
                certificate=files,
                master_password="master's p%ss@word:/?#",
                settings=SERVER_SETTINGS,
                programs=programs,
            )
        return running[programs]

    yield find
    for server in running.values():
        server.remove()


# Of a module: one that asks for another PostgreSQL than its folder would get the folder's server
# if that were the session's.
@pytest.fixture(scope="module")
def server(programs: Programs, servers: Callable[[Programs], Server]) -> Server:
    """Return the server of the PostgreSQL that is asked for."""
    return servers(programs)


@pytest.fixture
def site(server: Server, ca_file: Path) -> Site:
    """Return an instance whose database is empty."""
    make_empty(server)
    return Site(server, ca_file)


@pytest.fixture(scope="module")
def at_head(server: Server, ca_file: Path) -> Site:
    """Return an instance at head, shared by a module whose tests do not need it untouched."""
    make_empty(server)
    site = Site(server, ca_file)
    site.run()
    return site
