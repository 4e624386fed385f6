"""The PostgreSQL servers of tests and instances, on every PostgreSQL found."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from infra.local.postgres import certificates
from infra.local.postgres.certificates import Authority
from infra.local.postgres.programs import (
    ServerError,
    available_programs,
    find_programs,
    pip_programs,
)
from infra.local.postgres.server import Server

PASSWORD = "b0ss's"

MakeServer = Callable[..., Server]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make a CA; its certificate is in ``ca.pem`` of the test's folder."""
    made = Authority.create()
    (tmp_path / "ca.pem").write_bytes(made.pem)
    return made


@pytest.fixture(params=available_programs(), ids=lambda programs: programs.version)
def make_server(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority
) -> Iterator[MakeServer]:
    """Make a server with a certificate for localhost, or a given one, or None."""
    made: list[Server] = []
    usual = authority.issue()

    def make(*, certificate: certificates.Certificate | None = usual, **more: Any) -> Server:
        files = certificate.write(tmp_path) if certificate else None
        server = Server.create(
            certificate=files,
            master="boss",
            master_password=PASSWORD,
            database="app",
            programs=request.param,
            **more,
        )
        made.append(server)
        return server

    yield make
    for server in made:
        server.remove()


def connect(server: Server, tmp_path: Path, **more: Any) -> Any:
    """Connect as the master, verify-full."""
    return psycopg2.connect(
        **{
            "host": server.host,
            "port": server.port,
            "user": "boss",
            "password": PASSWORD,
            "dbname": "app",
            "sslmode": "verify-full",
            "sslrootcert": str(tmp_path / "ca.pem"),
            **more,
        }
    )


def ask(connection: Any, query: str) -> Any:
    """Return the first row of *query*, committed, and close the connection."""
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone() if cursor.description else None


def test_both_an_installed_and_a_pinned_postgresql_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pinned one is always there, so that there is one wherever pip works."""
    monkeypatch.delenv("PG_BIN", raising=False)

    assert pip_programs() in available_programs()
    assert pip_programs().major == 18


def test_folder_without_a_server_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PG_BIN that holds none must not be passed over in silence."""
    monkeypatch.setenv("PG_BIN", str(tmp_path))

    with pytest.raises(ServerError, match="has no PostgreSQL"):
        find_programs()


def test_master_is_no_superuser(make_server: MakeServer, tmp_path: Path) -> None:
    """What RDS refuses its master is refused."""
    server = make_server()

    for statement in (
        "ALTER SYSTEM SET work_mem = '1GB'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT * FROM pg_authid",
        "CREATE ROLE another SUPERUSER",
    ):
        connection = connect(server, tmp_path)
        connection.autocommit = True
        with (
            contextlib.closing(connection),
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute(statement)


def test_server_comes_back_as_it_was_after_stop_and_kill(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """What was committed is there."""
    server = make_server()
    ask(connect(server, tmp_path), "CREATE TABLE kept AS SELECT 42 AS answer")

    for end in (server.stop, server.kill):
        end()
        assert server.pid is None
        server.start()
        assert ask(connect(server, tmp_path), "SELECT answer FROM kept") == (42,)


def test_reset_server_is_empty_and_at_the_same_address(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """Roles are gone too, which dropping a database would leave."""
    server = make_server()
    ask(connect(server, tmp_path), "CREATE ROLE left_over")
    ask(connect(server, tmp_path), "CREATE TABLE left_over ()")

    server.reset()

    query = "SELECT to_regclass('left_over'), to_regrole('left_over')"
    assert ask(connect(server, tmp_path), query) == (None, None)


def test_no_password_is_in_the_servers_log(make_server: MakeServer, tmp_path: Path) -> None:
    """Only verifiers travel, so a log of all statements has none."""
    server = make_server(settings={"log_statement": "all"})

    server.set_password("boss", "n3w&secret")

    assert ask(connect(server, tmp_path, password="n3w&secret"), "SELECT 'seen'") == ("seen",)
    assert "SELECT 'seen'" in server.log
    assert "ALTER ROLE" in server.log
    assert PASSWORD not in server.log
    assert "n3w&secret" not in server.log


def run(connection: Any, *statements: str) -> None:
    """Run *statements* in autocommit, and close the connection."""
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


REFUSED_FOR_IAM = "rejects connection|PAM authentication failed"


@pytest.mark.parametrize("database", ["app", "postgres"])
def test_member_of_rds_iam_cannot_log_in_with_a_password(
    make_server: MakeServer, tmp_path: Path, database: str
) -> None:
    """As on RDS, where that locks out a master, whoever granted it or a role that has it."""
    server = make_server()
    run(
        connect(server, tmp_path),
        "CREATE ROLE reader LOGIN PASSWORD 'of reader'",
        "GRANT rds_iam TO reader",
    )
    with pytest.raises(psycopg2.OperationalError, match=REFUSED_FOR_IAM):
        connect(server, tmp_path, user="reader", password="of reader", dbname=database)
    if server.programs.major >= 16:
        # The grant of CREATE ROLE, with the ADMIN option only, is not counted.
        connect(server, tmp_path, dbname=database).close()

    run(connect(server, tmp_path), "GRANT reader TO boss")
    with pytest.raises(psycopg2.OperationalError, match=REFUSED_FOR_IAM):
        connect(server, tmp_path, dbname=database)
    run(server.superuser(), "DROP ROLE reader")
    connect(server, tmp_path, dbname=database).close()


def test_chain_of_several_kinds_of_membership_counts(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """Acting as one role that inherits from another is a way to rds_iam too."""
    server = make_server()
    if server.programs.major < 16:
        options = ("", "")
    else:
        options = ("WITH INHERIT FALSE, SET TRUE", "WITH INHERIT TRUE, SET FALSE")

    run(
        connect(server, tmp_path),
        "CREATE ROLE ops",
        "CREATE ROLE tokens",
        f"GRANT ops TO boss {options[0]}",
        f"GRANT tokens TO ops {options[1]}",
        "GRANT rds_iam TO tokens",
    )

    with pytest.raises(psycopg2.OperationalError, match=REFUSED_FOR_IAM):
        connect(server, tmp_path)


def test_master_makes_the_extensions_that_rds_offers(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """And drops them; what RDS does not offer is refused, as PostgreSQL refuses it."""
    server = make_server()
    for name in ("pg_stat_statements", "postgres_fdw", "dblink", "pageinspect", "hstore"):
        run(connect(server, tmp_path), f"CREATE EXTENSION {name}", f"DROP EXTENSION {name}")
    run(
        connect(server, tmp_path),
        "CREATE EXTENSION pg_stat_statements",
        "SELECT FROM pg_stat_statements",
    )

    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(connect(server, tmp_path), "CREATE EXTENSION file_fdw")


@pytest.mark.parametrize("role", ["rds_iam", "rds_password", "rds_replication"])
def test_master_grants_rds_roles(make_server: MakeServer, tmp_path: Path, role: str) -> None:
    """As on RDS, on every version: and it can still log in, and take them away again."""
    server = make_server()

    run(connect(server, tmp_path), "CREATE ROLE worker", f"GRANT {role} TO worker")
    assert ask(server.superuser(), f"SELECT pg_has_role('worker', '{role}', 'USAGE')") == (True,)
    run(connect(server, tmp_path), f"REVOKE {role} FROM worker", "DROP ROLE worker")


def test_superuser_has_no_way_in_but_the_socket(make_server: MakeServer, tmp_path: Path) -> None:
    """Not even with a guess at its password."""
    server = make_server()

    with pytest.raises(psycopg2.OperationalError, match="rdsadmin"):
        connect(server, tmp_path, user="rdsadmin", password=PASSWORD)


def test_wrong_certificates_are_told_apart(
    make_server: MakeServer, tmp_path: Path, authority: Authority
) -> None:
    """Another CA, another name, expired: each as libpq says it."""
    for certificate, refusal in (
        (Authority.create().issue(), "certificate verify failed"),
        (authority.issue(["elsewhere.example"]), "does not match host name"),
        (authority.issue(lifetime=dt.timedelta(seconds=-1)), "certificate verify failed"),
    ):
        server = make_server(certificate=certificate)

        with pytest.raises(psycopg2.OperationalError, match=refusal):
            connect(server, tmp_path)


def test_server_without_tls_can_be_made(make_server: MakeServer, tmp_path: Path) -> None:
    """To see it refused."""
    server = make_server(certificate=None)

    with pytest.raises(psycopg2.OperationalError, match="does not support SSL"):
        connect(server, tmp_path)
    assert ask(connect(server, tmp_path, sslmode="disable"), "SELECT 1") == (1,)
