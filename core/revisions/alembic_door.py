"""Alembic, on the connection that is lent to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData

from core.postgres.lending import Loan
from core.postgres.transactions import Account
from core.revisions import dialect
from core.revisions.books import SCHEMA

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory


def configure(environment: EnvironmentContext, **options: Any) -> None:
    """Configure Alembic's *environment* the one way that every run of ours shares."""
    if "connection" in options:
        dialect.refuse_unbound_in(options["connection"])
    environment.configure(
        # Day-2 operations have no models: autogenerate is to find nothing, ever.
        target_metadata=MetaData(),
        include_object=lambda *_: False,
        version_table_schema=SCHEMA,
        **options,
    )
    _let_blocks_nest(environment.get_context())


def _let_blocks_nest(migration: MigrationContext) -> None:
    """Have an autocommit block in another one do nothing: there is no transaction to commit."""
    block, is_open = migration.autocommit_block, False

    @contextmanager
    def nesting() -> Iterator[None]:
        nonlocal is_open
        if is_open:
            yield
            return
        is_open = True
        try:
            with block():
                yield
        finally:
            is_open = False

    migration.autocommit_block = nesting  # type: ignore[method-assign]


@contextmanager
def environment_of(config: Config, directory: ScriptDirectory) -> Iterator[EnvironmentContext]:
    """Have Alembic work by *config* on *directory*, whatever a revision does with Alembic."""
    environment = EnvironmentContext(config, directory)
    environment.__enter__()
    try:
        yield environment
    finally:
        # A revision that ran a command of Alembic's has taken away what is taken away here.
        with suppress(KeyError):
            environment.__exit__(None, None, None)


class Door:
    """Alembic, on the connection that is lent: made anew where a revision has used that up."""

    def __init__(self, environment: EnvironmentContext, loan: Loan) -> None:
        self._environment = environment
        self._loan = loan
        self._bind: object = None
        self._made: tuple[int, ...] = ()
        self._account: Account | None = None

    def migration(self, account: Account) -> MigrationContext:
        """Return Alembic's context, whose autocommit block tells *account* that it is one."""
        self._account = account
        bind = self._loan.bind()
        if bind is not self._bind or self._made != _parts(self._environment.get_context()):
            self._bind = bind
            configure(self._environment, connection=bind)
            self._tell_of_blocks(self._environment.get_context())
            self._made = _parts(self._environment.get_context())
        return self._environment.get_context()

    def _tell_of_blocks(self, migration: MigrationContext) -> None:
        block = migration.autocommit_block

        @contextmanager
        def declared() -> Iterator[None]:
            account = self._account
            was_declared = account is not None and account.is_declared
            if account is not None:
                account.is_declared = True
            try:
                with block():
                    yield
            finally:
                if account is not None:
                    account.is_declared = was_declared

        migration.autocommit_block = declared  # type: ignore[method-assign]


def _parts(migration: MigrationContext) -> tuple[int, ...]:
    """Return what a revision could have put others for, by what each of them is."""
    return tuple(map(id, (migration, migration.connection, migration.impl, migration.opts)))
