"""One server with TLS and SCRAM, databases on it, and the floor: psycopg2 with nothing around."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from infra.local.postgres.certificates import Authority
from infra.local.postgres.server import Server

MASTER, PASSWORD = "postgres", "benchmark"
# As on a real instance: a commit waits for its disk.
SETTINGS = {"fsync": "on", "full_page_writes": "on", "autovacuum": "off"}


@dataclass(frozen=True)
class Databases:
    """A server of the benchmark's own."""

    server: Server
    ca_file: Path

    @classmethod
    def start(cls, folder: Path) -> Databases:
        """Start a server in *folder*."""
        authority = Authority.create()
        ca_file = folder / "ca.pem"
        ca_file.write_bytes(authority.pem)
        files = authority.issue(["localhost"]).write(folder)
        server = Server.create(
            folder / "server",
            certificate=files,
            master=MASTER,
            master_password=PASSWORD,
            settings=SETTINGS,
        )
        return cls(server, ca_file)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which libpq verifies the server, whoever calls it."""
        return {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(self.ca_file)}

    def addressed(self, name: str) -> dict[str, str]:
        """Return the variables by which every tool finds database *name*."""
        return {
            **self.environment,
            "DATABASE_URL": self.url(name),
            "PGHOST": "localhost",
            "PGPORT": str(self.server.port),
            "PGUSER": MASTER,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": name,
        }

    def url(self, name: str, scheme: str = "postgresql", **options: str) -> str:
        """Return the URL of database *name*; it asks for the same verification."""
        given = {"sslmode": "verify-full", "sslrootcert": str(self.ca_file), **options}
        query = "&".join(f"{key}={value}" for key, value in given.items())
        return f"{scheme}://{MASTER}:{PASSWORD}@localhost:{self.server.port}/{name}?{query}"

    def connect(self, name: str) -> Any:
        """Connect to database *name*."""
        return psycopg2.connect(self.url(name))

    def make(self, name: str) -> None:
        """Make database *name* anew, empty, with nothing left to be written of what was before."""
        with closing(self.server.superuser()) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            cursor.execute(f"CREATE DATABASE {name} OWNER {MASTER}")
            cursor.execute("CHECKPOINT")

    def schemas(self, name: str) -> int:
        """Return how many schemas of the benchmark's revisions database *name* has."""
        with closing(self.connect(name)) as connection, connection.cursor() as cursor:
            cursor.execute(r"SELECT count(*) FROM pg_namespace WHERE nspname ~ '^s_\d+$'")
            return int(cursor.fetchone()[0])


def look(databases: Databases, name: str) -> None:
    """Connect, select the revision, close: the least that any run could do."""
    with closing(databases.connect(name)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT version_num FROM day2.alembic_version")
        cursor.fetchall()


def apply_raw(databases: Databases, name: str, statements: Sequence[str]) -> None:
    """Apply *statements*, each with its version row in a transaction of its own."""
    with closing(databases.connect(name)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE version (number varchar(32) NOT NULL)")
        cursor.execute("INSERT INTO version VALUES ('base')")
        connection.commit()
        for number, statement in enumerate(statements, start=1):
            cursor.execute(statement)
            cursor.execute("UPDATE version SET number = %s", (f"{number:05d}",))
            connection.commit()
