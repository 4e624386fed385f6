"""
How Alembic reaches a database: through the runner's session, or by itself from a URL.

The runner (``core/revisions/runner.py``) lends its connection in ``config.attributes``. The plain
``alembic`` command takes ``-x url=…`` or DATABASE_URL, and goes by the same rules: the
lock, schema ``day2``, one transaction a revision, a history row in each.
"""

import getpass
import logging.config
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import URL, Connection, MetaData, create_engine, make_url
from sqlalchemy.pool import NullPool

from core.access.login_passwords import LoginVault, Vault
from core.budget import Budget
from core.errors import MigrationError
from core.postgres.session import acquire_lock
from core.revisions import books, dialect, rendering, scripts
from core.revisions.history import Recorder
from core.revisions.manifest import Revision
from core.settings import Settings

config = context.config
LOCK_WAIT_SECONDS = 60
logger = logging.getLogger("core.revisions")


def configure(**options: Any) -> None:
    """Configure Alembic the one way that every run of ours shares."""
    if "connection" in options:
        dialect.refuse_unbound_in(options["connection"])
    on_apply: Any = [] if "connection" in config.attributes else by_hand()
    context.configure(
        # Day-2 operations have no models: autogenerate is to find nothing, ever.
        target_metadata=MetaData(),
        include_object=lambda *_: False,
        version_table_schema=books.SCHEMA,
        transaction_per_migration=True,
        # The runner writes each row itself, together with the revision.
        on_version_apply=on_apply,
        **options,
    )


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
        return config.attributes.get(rendering.BUILD) or scripts.read(Path(context.script.versions))
    except MigrationError as error:
        # The command prints this one's text; of any other it prints a traceback.
        raise CommandError(str(error)) from error


def database_url() -> str:
    """Return the URL that the command was given."""
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("no database: give -x url=postgresql://… or set DATABASE_URL")
    return url


@contextmanager
def session_of_our_own() -> Iterator[Connection]:
    """Connect by URL, make schema day2 unless we only look, and hold the lock."""
    # SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3, which is not installed.
    url = make_url(database_url()).set(drivername="postgresql+psycopg2")
    # As in the function: a default role of the user's would own schema day2 and all that follows.
    options = {"options": f"{url.query.get('options', '')} -c role=none".strip()}
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=options)
    with engine.connect() as connection:
        configure(connection=connection)
        if not context.get_context().opts.get("dont_mutate"):
            config.attributes.setdefault("vault", vault(url))
            session: Any = connection.connection.driver_connection
            session.autocommit = True
            acquire_lock(session, Budget.of(LOCK_WAIT_SECONDS), wait_seconds=LOCK_WAIT_SECONDS)
            books.bring_up(session)
            session.autocommit = False
        connection.commit()
        yield connection


def vault(url: URL) -> Vault:
    """Return where logins' passwords are kept: Secrets Manager, under -x instance=… or the host."""
    # Imported here: a run of the function has its vault, and a script on paper needs none.
    from core.aws import Aws

    host = url.host or "localhost"
    name = context.get_x_argument(as_dictionary=True).get("instance", host)
    address = {"host": host, "port": url.port or 5432, "dbname": url.database or "postgres"}
    settings = Settings.from_env(os.environ)
    return LoginVault(Aws(settings), f"{settings.prefix}/{name}", settings.prefix, address)


if config.config_file_name and getattr(config, "cmd_opts", None) is not None:
    logging.config.fileConfig(config.config_file_name, disable_existing_loggers=False)

if context.is_offline_mode():
    paper = config.attributes.get(rendering.PAPER) or rendering.Paper()
    scripts.lay(context.script, build(), paper)
    configure(dialect_name="postgresql")
    # A script that starts at base makes everything it needs.
    if not context.get_starting_revision_argument():
        context.get_context().impl.static_output(books.CREATE)
    with context.begin_transaction():
        context.run_migrations()
    if rendering.PAPER not in config.attributes:
        for revision, reasons in paper.partial.items():
            logger.warning("revision %s is not whole in this script: %s", revision, reasons[0])
        if paper.refused:
            raise CommandError("; ".join(paper.refused))
elif "connection" in config.attributes:
    configure(connection=config.attributes["connection"])
    with context.begin_transaction():
        context.run_migrations()
else:
    scripts.lay(context.script, build())
    try:
        with session_of_our_own():
            with context.begin_transaction():
                context.run_migrations()
            if "vault" in config.attributes:
                config.attributes["vault"].settle()
    except MigrationError as error:
        # The command prints this one's text; of any other it prints a traceback.
        raise CommandError(str(error)) from error
