"""
Real PostgreSQL servers that look like RDS instances: made, started, stopped, reset, removed.

Only the standard library and psycopg2, since LocalStack's process and the tests both use it.
Like RDS: the superuser ``rdsadmin`` is hidden, the master is a member of ``rds_superuser`` and no
superuser, TCP is TLS only, and members of ``rds_iam`` cannot log in with a password.
"""

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from infra.local import processes
from infra.local.postgres import likeness
from infra.local.postgres.extensions import preloaded, server_program
from infra.local.postgres.programs import Programs, ServerError, find_programs, run
from infra.local.state import State, free_port, port_is_free, shared_folder

START_SECONDS = 60

STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

# PostgreSQL 15's release notes; before, RDS gives the schema to the master: infra/AWS.md.
PUBLIC_IS_THE_DATABASE_OWNERS_SINCE = 15

# Nothing here has to survive a crash of the machine.  A crash of the server is another matter:
# tests kill it, so synchronous_commit stays on.
THROW_AWAY_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass
class Server:
    """
    One PostgreSQL server in a folder of its own, reachable at ``localhost`` and *port*.

    Attributes:
        certificate: Files of the certificate and key to show; without them TLS is not offered and
            plain connections are accepted, unlike any RDS instance we would talk to.
        settings: Server settings by name, such as ``log_statement``.
    """

    programs: Programs
    folder: Path
    port: int
    certificate: tuple[Path, Path] | None
    settings: Mapping[str, str] = field(default_factory=dict)
    master: str = "postgres"
    master_password: str = field(default="", repr=False)
    database: str | None = None

    host = "localhost"

    @classmethod
    def create(
        cls,
        folder: Path | None = None,
        *,
        certificate: tuple[Path, Path] | None,
        master: str = "postgres",
        master_password: str,
        database: str | None = None,
        settings: Mapping[str, str] | None = None,
        programs: Programs | None = None,
        port: int | None = None,
        source: Path | None = None,
        primary: "Server | None" = None,
    ) -> "Server":
        """
        Make and start a new server with *master* and, if given, the *database* it owns.

        *source* is a data folder to start from in place of an empty server, such as a snapshot
        made by :meth:`copy_data`; its master is *master* already and gets *master_password*.
        With *primary* it is a standby of that server, in recovery until it is promoted.
        """
        server = cls(
            programs or find_programs(),
            folder or _new_folder(),
            port or free_port(),
            certificate,
            dict(settings or {}),
            master,
            master_password,
            database,
        )
        server.folder.mkdir(parents=True, exist_ok=True)
        server.folder.chmod(0o700)
        processes.give(server.folder)
        if certificate:
            for name, source_file in zip(("server.crt", "server.key"), certificate, strict=True):
                server._write(name, source_file.read_text())
        server._write("pg_hba.conf", server._access_rules())
        if primary:
            primary.back_up(server.data)
            server.follow(primary)
        else:
            server._fill(source)
        return server

    @property
    def version(self) -> str:
        """PostgreSQL's version, such as ``15.18``."""
        return self.programs.version

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int | None:
        """The postmaster's pid while it runs, else None."""
        pid = processes.read_pid(self.data / "postmaster.pid")
        return pid if pid is not None and processes.is_running(pid, self.data) else None

    def start(self) -> None:
        """
        Start the server and return when it accepts connections.

        Raises:
            ServerError: It ended or was not ready in time; holds the last lines of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._start_postmaster(deadline):
            # A postmaster that was just killed may be a zombie that holds its lock file, and its
            # children may take a moment to see that it is gone.
            if pid := processes.read_pid(self.data / "postmaster.pid"):
                processes.wait_gone(pid, self.data, START_SECONDS)
            time.sleep(0.1)
        if self._needs_front:
            self._start_front(deadline)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``smart`` waits for clients, ``fast`` ends them, ``immediate`` is a crash."""
        processes.stop_recorded(self.folder / "front.pid", self.folder)
        if pid := self.pid:
            processes.stop(pid, self.data, first=STOP_SIGNALS[mode], timeout_seconds=START_SECONDS)

    def kill(self) -> None:
        """Kill the postmaster as a crash of the machine would, and leave all else as it is."""
        if pid := self.pid:
            os.kill(pid, signal.SIGKILL)
            processes.wait_gone(pid, self.data, START_SECONDS)

    def reset(self) -> None:
        """Make the server as it was created: empty, same master, same database, same port."""
        self.stop("immediate")
        shutil.rmtree(self.data)
        self._fill(None)

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def copy_data(self, target: Path) -> None:
        """Copy the data to the new folder *target*, stopping the server for a moment."""
        was_running = self.pid is not None
        self.stop()
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(self.data, target)
        if was_running:
            self.start()

    def back_up(self, target: Path) -> None:
        """Copy the data of the running server to the new folder *target*."""
        target.parent.mkdir(parents=True, exist_ok=True)
        processes.give(target.parent)
        address = ["-h", self.folder, "-p", str(self.port), "-U", "rdsadmin"]
        _run(
            [self.programs.client("pg_basebackup"), *address, "-D", target, "-c", "fast", "-N"],
            as_server=True,
            password=_superuser_password_file().read_text(),
        )

    def follow(self, primary: "Server") -> None:
        """
        Be a standby of *primary*: start in recovery, or turn to it while in recovery.

        The data must be a copy of the primary's, or of what it was promoted from.
        """
        login = {
            "host": str(primary.folder),
            "port": str(primary.port),
            "user": "rdsadmin",
            "password": _superuser_password_file().read_text(),
        }
        address = " ".join(f"{name}='{value}'" for name, value in login.items())
        # What the primary still has when a standby comes back from being stopped.
        self.settings = {**self.settings, "wal_keep_size": "256MB", "primary_conninfo": address}
        self._write("postgresql.conf", self._configuration())
        if pid := self.pid:
            os.kill(pid, signal.SIGHUP)
            return
        signal_file = self.data / "standby.signal"
        signal_file.touch()
        processes.give(signal_file)
        self.start()

    def promote(self) -> None:
        """End the standby's recovery: from now on it is written to."""
        with contextlib.closing(self.superuser()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_promote()")

    def move_to(self, port: int) -> None:
        """Listen on *port* when it is started the next time; it is stopped now."""
        self.port = port
        self._write("postgresql.conf", self._configuration())

    def set_password(self, role: str, password: str) -> None:
        """Give *role* the *password*; only its SCRAM verifier travels, so no log shows it."""
        with contextlib.closing(self.superuser()) as connection, connection.cursor() as cursor:
            verifier = encrypt_password(password, role, connection, "scram-sha-256")
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
            cursor.execute(statement.format(sql.Identifier(role), sql.Literal(verifier)))
        if role == self.master:
            self.master_password = password

    def superuser(self, database: str = "postgres") -> Any:
        """Connect as the superuser ``rdsadmin``, by the unix socket, in autocommit."""
        connection = psycopg2.connect(
            host=str(self.folder),
            # Empty, or PGHOSTADDR would make it a TCP connection.
            hostaddr="",
            port=self.port,
            user="rdsadmin",
            password=_superuser_password_file().read_text(),
            dbname=database,
        )
        connection.autocommit = True
        return connection

    def give_public(self, database: str, role: str) -> None:
        """Make *role*, who owns *database*, the owner of its schema public, as on RDS."""
        if self.programs.major >= PUBLIC_IS_THE_DATABASE_OWNERS_SINCE:
            return
        with contextlib.closing(self.superuser(database)) as session, session.cursor() as cursor:
            statement = sql.SQL("ALTER SCHEMA public OWNER TO {}")
            cursor.execute(statement.format(sql.Identifier(role)))

    def _fill(self, source: Path | None) -> None:
        """Fill the data folder from *source* or an empty server's, and start it with its master."""
        _copy(source or _template(self.programs), self.data)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._write("postgresql.conf", self._configuration())
        self.start()
        if source:
            self.set_password(self.master, self.master_password)
        else:
            self._create_master()

    def _create_master(self) -> None:
        with contextlib.closing(self.superuser()) as connection, connection.cursor() as cursor:
            master = sql.Identifier(self.master)
            cursor.execute(
                sql.SQL(
                    "CREATE ROLE {} LOGIN CREATEDB CREATEROLE VALID UNTIL 'infinity'"
                    " IN ROLE rds_superuser"
                ).format(master)
            )
            # RDS gives these two to the master, who so owns their schema public.
            for database in ("postgres", "template1"):
                statement = sql.SQL("ALTER DATABASE {} OWNER TO {}")
                cursor.execute(statement.format(sql.Identifier(database), master))
                self.give_public(database, self.master)
            if self.database and self.database != "postgres":
                statement = sql.SQL("CREATE DATABASE {} OWNER {}")
                cursor.execute(statement.format(sql.Identifier(self.database), master))
        self.set_password(self.master, self.master_password)

    @property
    def _needs_front(self) -> bool:
        """Whether something has to stand before it: for TLS, or for what RDS asks at login."""
        return self.certificate is not None and (
            not _has_openssl(self.programs)
            or likeness.query_before_login(self.programs.major) is not None
        )

    def _access_rules(self) -> str:
        """Return ``pg_hba.conf``."""
        rules = [
            "local replication rdsadmin scram-sha-256",
            *likeness.access_rules(self.programs.major, kind="local", address=""),
        ]
        # Behind the front everybody comes by the unix socket.
        if not self._needs_front:
            kind = "hostssl" if self.certificate else "host"
            rules += [
                f"{kind} all rdsadmin all reject",
                *likeness.access_rules(self.programs.major, kind=kind, address="127.0.0.1/32 "),
            ]
        return "\n".join([*rules, ""])

    def _configuration(self) -> str:
        """Return ``postgresql.conf``."""
        settings = THROW_AWAY_SETTINGS | {
            "listen_addresses": "" if self._needs_front else "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
            "hba_file": str(self.folder / "pg_hba.conf"),
            "password_encryption": "scram-sha-256",
            "shared_preload_libraries": preloaded(self.programs),
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }
        if self.certificate and not self._needs_front:
            settings |= {
                "ssl": "on",
                "ssl_cert_file": str(self.folder / "server.crt"),
                "ssl_key_file": str(self.folder / "server.key"),
            }
        quoted = {
            name: value.replace("'", "''") for name, value in {**settings, **self.settings}.items()
        }
        return "".join(f"{name} = '{value}'\n" for name, value in quoted.items())

    def _start_postmaster(self, deadline: float) -> bool:
        """Start PostgreSQL itself; False when an earlier one is not quite gone."""
        if self.pid:
            return True
        log = self.folder / "log"
        log.touch(mode=0o600)
        begin = log.stat().st_size
        configuration = f"--config-file={self.folder / 'postgresql.conf'}"
        process = processes.start(
            [server_program(self.programs), configuration, "-D", self.data],
            log=log,
            user=processes.unprivileged(),
        )
        while time.monotonic() < deadline:
            if process.poll() is not None:
                tail = log.read_bytes()[begin:].decode(errors="replace")
                if "already exists" in tail or "still in use" in tail:
                    return False
                raise ServerError(f"PostgreSQL {self.version} did not start: {tail[-2000:]}")
            with contextlib.suppress(OSError, IndexError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if int(lines[0]) == process.pid and lines[7].strip() == "ready":
                    return True
            time.sleep(0.01)
        process.kill()
        process.wait()
        raise ServerError(f"PostgreSQL {self.version} was not ready in {START_SECONDS} s")

    def _start_front(self, deadline: float) -> None:
        """Start the front, unless it outlived the server, and wait until it listens."""
        running = processes.read_pid(self.folder / "front.pid")
        if running is not None and processes.is_running(running, self.folder):
            return
        front = Path(__file__).with_name("tls_front.py")
        socket = self.folder / f".s.PGSQL.{self.port}"
        files = [self.folder / "server.crt", self.folder / "server.key"]
        command: list[str | Path] = [sys.executable, front, str(self.port), socket, *files]
        if query := likeness.query_before_login(self.programs.major):
            command += [query, _superuser_password_file()]
        process = processes.start(command, log=self.folder / "log")
        self._write("front.pid", str(process.pid))
        while port_is_free(self.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"the TLS front did not start: {self.log[-2000:]}")
            time.sleep(0.01)

    def _write(self, name: str, text: str) -> None:
        """Write a file of the server's folder, readable by its user alone."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        processes.give(path)


def remove_servers(folder: Path) -> None:
    """Stop and remove every server below *folder*, whoever started it."""
    for pid_file in folder.glob("*/front.pid"):
        processes.stop_recorded(pid_file, pid_file.parent)
    for pid_file in folder.glob("*/data/postmaster.pid"):
        if pid := processes.read_pid(pid_file):
            processes.stop(pid, pid_file.parent, first=signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


def _template(programs: Programs) -> Path:
    """Return the data folder of an empty server that has RDS's roles, made once for *programs*."""
    roles = likeness.statements(programs.major)
    login_check = likeness.login_check(programs.major)
    name = hashlib.sha256(f"{programs}{roles}{login_check}".encode()).hexdigest()[:8]
    template = _templates() / f"{programs.major}-{name}"
    if template.exists():
        return template
    with tempfile.TemporaryDirectory(dir=_templates()) as temporary:
        made = Path(temporary) / "data"
        processes.give(Path(temporary))
        _run(
            [
                *(programs.folder / "initdb", "--no-sync", "-D", made, "-E", "UTF8"),
                *("-U", "rdsadmin", "-A", "scram-sha-256", "--pwfile", _superuser_password_file()),
                f"--locale={'C' if sys.platform == 'darwin' else 'C.UTF-8'}",
            ],
            as_server=True,
        )
        _single_user(programs, made, "postgres", roles + login_check)
        _single_user(programs, made, "template1", login_check)
        with contextlib.suppress(OSError):  # another process made it meanwhile
            made.rename(template)
    return template


def _superuser_password_file() -> Path:
    """Return the file with the password of every server's ``rdsadmin``, made once a checkout."""
    path = _templates() / "superuser"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(secrets.token_urlsafe(24))
        made = Path(file.name)
        processes.give(made)
        # Whoever was first has decided it.
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    return path


@functools.cache
def _has_openssl(programs: Programs) -> bool:
    command = [programs.folder / "postgres", "-C", "ssl_library", "-D", _template(programs)]
    return _run(command, as_server=True).strip() == "OpenSSL"


def _single_user(programs: Programs, data: Path, database: str, statements: list[str]) -> None:
    """Run *statements* in *database* on a server that is down."""
    output = _run(
        [programs.folder / "postgres", "--single", "-D", data, database],
        as_server=True,
        # In single-user mode a statement ends with its line.
        given="".join(f"{' '.join(statement.split())}\n" for statement in statements),
    )
    if "ERROR" in output:
        raise ServerError(output[-2000:])


def _templates() -> Path:
    """Return the folder of what all servers of this checkout start from."""
    folder = shared_folder() / "templates"
    folder.mkdir(mode=0o711, exist_ok=True)
    return folder


def _new_folder() -> Path:
    """Return a new folder for a server of this process."""
    state = State.of_process()
    state.make()
    return Path(tempfile.mkdtemp(prefix="s", dir=state.servers))


def _copy(source: Path, target: Path) -> None:
    """Copy a data folder, owners and modes kept."""
    _run(["cp", "-R", "-p", source, target])


def _run(
    command: list[Any], *, as_server: bool = False, given: str = "", password: str = ""
) -> str:
    """Run *command*, as the server's user or as ours, and return what it printed."""
    options = processes.unprivileged() if as_server else {}
    if password:
        # Only this user can read a process's environment, and anybody its command line.
        options["env"] = os.environ | {"PGPASSWORD": password}
    return run(command, given=given, **options)
