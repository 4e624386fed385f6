"""
How the ``alembic`` command reaches a database: from a URL, or by a session of ours that is lent.

The function does without this file: ``core/revisions/runner.py`` has its session. The plain
``alembic`` command takes ``-x url=…`` or DATABASE_URL and goes by the same loop, and so by the same
rules: the lock, schema ``day2``, one transaction a revision, a history row in each.
"""

import getpass
import ipaddress
import logging.config
import math
import os
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import psycopg2
from alembic import context
from alembic.util import CommandError
from sqlalchemy import URL, make_url

from core.access.login_passwords import LoginPasswords, Passwords
from core.budget import Budget
from core.errors import MigrationError, RunFailed
from core.postgres.beginning import session_settings
from core.postgres.connecting import start_options
from core.postgres.lending import lend
from core.postgres.lock import acquire_lock
from core.postgres.session import Session, query
from core.revisions import alembic_door, books, history, loop, rendering, scripts
from core.revisions.folder import Folder
from core.revisions.history import Recorder
from core.revisions.manifest import Revision
from core.settings import INI, Settings

# As a module, what Alembic calls its environment.
environment: Any = context
config = context.config
LOCK_WAIT_SECONDS = 60
logger = logging.getLogger("core.revisions")


def by_hand() -> Recorder:
    """Return the recorder of a run that somebody started with the ``alembic`` command."""
    return Recorder(
        trigger="command",
        request_id=getpass.getuser(),
        checksums={one.identifier: one.checksum for one in build()},
    )


@cache
def build() -> Sequence[Revision]:
    """Return the revisions, read as the function reads them."""
    try:
        return config.attributes.get(rendering.BUILD) or scripts.read(versions())
    except MigrationError as error:
        # The command prints this one's text; of any other it prints a traceback.
        raise CommandError(str(error)) from error


def versions() -> Path:
    """Return where the revisions are: in the folder that MIGRATIONS names, if it names one."""
    given = os.environ.get("MIGRATIONS")
    # Whoever works in another folder, with the variable set for make, means that one here, too.
    if given is not None and Path(config.config_file_name or "").absolute() == INI:
        return Folder.named(given, "MIGRATIONS").versions
    return Path(context.script.versions)


def is_about_files() -> bool:
    """
    Say whether the command only reads or writes revisions, so that no database is asked.

    Raises:
        CommandError: It would write one that we cannot have.
    """
    options: Any = getattr(config, "cmd_opts", None)
    command = options.cmd[0].__name__ if hasattr(options, "cmd") else ""
    if command == "merge":
        raise CommandError("our history is one line: give the later one the other as down_revision")
    if command == "revision" and options.autogenerate:
        raise CommandError(
            "there are no models of tables to compare the database with: make new-migration"
        )
    if command == "history":
        return not (options.indicate_current or "current" in (options.rev_range or "").split(":"))
    return command == "revision"


def read_or_write_files() -> None:
    """Have ``history`` or ``revision`` do its work in the folder that is meant."""
    context.script.version_locations = [str(versions())]
    environment.configure(dialect_name="postgresql")
    migration = context.get_context()
    migration.opts["fn"]((), migration)


def database_url() -> str:
    """Return the URL that the command was given."""
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("no database: give -x url=postgresql://… or set DATABASE_URL")
    return url


class ByHand:
    """The supervisor of a run that somebody started with the command: it has all the time."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def session_settings(self) -> str:
        """Set no limit of time."""
        return session_settings(self._session, statement_timeout_seconds=None)

    def time_left(self) -> float:
        """Say that there is no end."""
        return math.inf

    def may_go_on(self) -> bool:
        """Go on."""
        return True

    def committed(self, revision: str) -> None:
        """Settle the passwords that *revision* set."""
        if "login_passwords" in config.attributes:
            config.attributes["login_passwords"].settle()
        logger.info("%s: done", revision)

    def warned(self, texts: Sequence[str]) -> None:
        """Say no more: each was logged."""


def session_of_our_own() -> Session:
    """Connect by URL, with what the function's own sessions start with."""
    # SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3, which is not installed.
    url = make_url(database_url()).set(drivername="postgresql+psycopg2")
    config.attributes.setdefault("login_passwords", passwords_at(url))
    _, given = url.get_dialect()().create_connect_args(url)
    parameters = over_verified_tls(dict(given))
    # The user's own go first: a default role of theirs would own schema day2 and all that follows.
    options = f"{parameters.get('options', '')} {start_options()}".strip()
    return Session.open({**parameters, "options": options})


def over_verified_tls(parameters: dict[str, Any]) -> dict[str, Any]:
    """
    Return libpq's *parameters* with what the function insists on, but for this machine's servers.

    Raises:
        CommandError: They ask for less, of a server elsewhere.
    """
    where = next(
        (
            str(found)
            for found in (
                parameters.get("hostaddr"),
                parameters.get("host"),
                os.environ.get("PGHOSTADDR"),
                os.environ.get("PGHOST"),
            )
            if found
        ),
        # A service may name any server.
        "?" if "service" in parameters or "PGSERVICE" in os.environ else "",
    )
    if all(is_of_this_machine(host) for host in where.split(",")):
        return parameters
    wanted = parameters.get("sslmode", "verify-full")
    if wanted != "verify-full":
        raise CommandError(
            f"sslmode={wanted}: anybody on the way could be that server: give "
            "sslmode=verify-full, and sslrootcert=… unless the server is of RDS"
        )
    authorities = os.environ.get("PGSSLROOTCERT") or Settings.from_env(os.environ).ca_file
    # With a Kerberos ticket libpq would come without TLS.
    insisted = {"sslmode": "verify-full", "gssencmode": "disable"}
    return {"sslrootcert": authorities, **parameters, **insisted}


def is_of_this_machine(host: str) -> bool:
    """Say whether *host* is a socket or a loopback address, which nobody stands between."""
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(session: Session) -> None:
    """Do over *session* what the command wants: look, carry out, or stamp."""
    # Before anything is read: what somebody else made there would run as us.
    books.is_there(session)
    with lend(session) as connection:
        alembic_door.configure(environment, connection=connection)
        migration = context.get_context()
        if migration.opts.get("dont_mutate"):
            list(migration.opts["fn"](migration.get_current_heads(), migration))
            return
    acquire_lock(session, Budget.of(LOCK_WAIT_SECONDS), wait_seconds=LOCK_WAIT_SECONDS)
    books.bring_up(session)
    start = history.position(session).current
    with lend(session) as connection:
        alembic_door.configure(environment, connection=connection)
        migration = context.get_context()
        heads = (start,) if start and not migration.opts.get("purge") else ()
        steps = [step.info for step in migration.opts["fn"](heads, migration)]
    if any(step.is_stamp for step in steps):
        (end,) = steps[-1].destination_revision_ids or (None,)
        history.stamp(
            session, start, revision(end), trigger="command", request_id=getpass.getuser()
        )
    elif steps:
        history.refuse_another(history.rows(session), build(), start)
        names = [step.up_revision_id for step in steps]
        loop.carry_out(
            environment,
            session,
            history.way(build(), names, upward=steps[0].is_upgrade),
            recorder=by_hand(),
            supervisor=ByHand(session),
        )


def prove_entry(session: Session, logins: Collection[str]) -> None:
    """Prove that the URL's user still enters beside *logins* by IAM, or take rds_iam from them."""
    if not logins or session.closed:
        return
    try:
        session_of_our_own().close()
    except psycopg2.OperationalError as error:
        names = ", ".join(sorted(logins))
        for login in sorted(logins):
            query(session, f'REVOKE rds_iam FROM "{login}"')
        raise RunFailed(
            f"the revisions are committed, and the login {names} by IAM locked their user out: "
            "rds_iam was revoked (infra/AWS.md)"
        ) from error


def revision(identifier: str | None) -> Revision | None:
    """Return the revision of the build that *identifier* names."""
    return next((one for one in build() if one.identifier == identifier), None)


def passwords_at(url: URL) -> Passwords:
    """Return where logins' passwords are kept: Secrets Manager, under -x instance=… or the host."""
    # Imported here: a run of the function has made it, and a script on paper needs none.
    from core.aws.account import Aws

    host = url.host or "localhost"
    name = context.get_x_argument(as_dictionary=True).get("instance", host)
    address = {"host": host, "port": url.port or 5432, "dbname": url.database or "postgres"}
    settings = Settings.from_env(os.environ)
    return LoginPasswords(Aws(settings), f"{settings.prefix}/{name}", settings.prefix, address)


about_files = is_about_files()
if config.config_file_name and getattr(config, "cmd_opts", None) and not about_files:
    logging.config.fileConfig(config.config_file_name, disable_existing_loggers=False)

if about_files:
    scripts.lay(context.script, build())
    read_or_write_files()
elif context.is_offline_mode():
    paper = config.attributes.get(rendering.PAPER) or rendering.Paper()
    scripts.lay(context.script, build(), paper)
    alembic_door.configure(
        environment,
        dialect_name="postgresql",
        transaction_per_migration=True,
        on_version_apply=by_hand(),
    )
    # A script that starts at base makes everything it needs.
    if not context.get_starting_revision_argument():
        context.get_context().impl.static_output(books.CREATE)
    with context.begin_transaction():
        context.run_migrations()
    if rendering.PAPER not in config.attributes:
        for one, reasons in paper.partial.items():
            logger.warning("revision %s is not whole in this script: %s", one, reasons[0])
        if paper.refused:
            raise CommandError("; ".join(paper.refused))
else:
    scripts.lay(context.script, build())
    try:
        if "connection" in config.attributes:
            # A session of ours that is lent: by the tests, say.
            run(config.attributes["connection"].connection.driver_connection)
        else:
            with closing(session_of_our_own()) as session:
                logins = config.attributes.setdefault("iam_logins", set())
                try:
                    run(session)
                finally:
                    prove_entry(session, logins)
    except MigrationError as error:
        # The command prints this one's text; of any other it prints a traceback.
        raise CommandError(str(error)) from error
    except psycopg2.Error as error:
        raise CommandError(str(error).strip()) from error
