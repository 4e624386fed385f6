"""A session lent to SQLAlchemy, whose engine opens others to the same database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import URL, Connection, Engine, Pool, create_engine
from sqlalchemy.pool import NullPool

from core.postgres import names
from core.postgres.notices import listen
from core.postgres.session import DriverError, Session
from core.postgres.transactions import NEXT_ID, STAMP, Account


def listeners_of_all() -> list[MutableMapping[type, deque[Any]]]:
    """Return who listens to every engine and every pool, those to come too: by kind, by event."""
    return [
        getattr(kind.dispatch, name)._clslevel  # noqa: SLF001 - it cannot be asked for otherwise
        for kind in (Engine, Pool)
        for name in kind.dispatch._event_names  # noqa: SLF001
    ]


class Loan:
    """
    The engine over one *session*, and what was opened by it.

    The URL names the database and the user, and no password: a revision may print it.
    ``engine.connect()`` is a session of its own, as with the plain command; the first one,
    which is the revision's bind, is *session* itself, and stays ours.

    Args:
        settings: Returns the SQL that another session begins with.
        time_left: Returns the seconds that another session has.

    Attributes:
        path: The search path that another session begins with.
    """

    def __init__(
        self,
        session: Session,
        *,
        settings: Callable[[], str] = str,
        time_left: Callable[[], float] = lambda: float("inf"),
    ) -> None:
        self.path = names.OURS
        # How the schema of that path was looked at, and when in full, by the monotonic clock.
        self.look = names.Look.IN_FULL
        self.looked_in_full_at = 0.0
        self._session = session
        self._others: list[tuple[Session, Account]] = []
        self._is_wanted = False
        self._bind: Connection | None = None
        self._settings = settings
        self._time_left = time_left
        url = URL.create(
            "postgresql+psycopg2",
            username=session.info.user,
            host=session.info.host,
            port=session.info.port,
            database=session.info.dbname,
        )
        self._engine = create_engine(
            url,
            creator=self._connect,
            poolclass=NullPool,
            use_native_hstore=False,
            # An error's text must not show what a statement was given.
            hide_parameters=True,
        )

    def bind(self) -> Connection:
        """Return the session as SQLAlchemy's connection: the one before, if that is as it was."""
        if self._bind is None:
            self._is_wanted = self._session.is_lent = True
            self._bind = self._engine.connect()
        return self._bind

    def take_back(self) -> None:
        """
        Have SQLAlchemy forget the transaction that it takes for open, without a word to the server.

        What a revision has closed, or set to another isolation level, is made anew.
        """
        bind = self._bind
        if bind is None:
            return
        self._session.is_deaf = True
        try:
            is_untouched = not (bind.closed or bind.invalidated or bind.get_execution_options())
            # What SQLAlchemy has for the driver's connection can be closed by itself.
            is_untouched = is_untouched and bind.connection.is_valid
            if is_untouched:
                with suppress(Exception):
                    bind.rollback()
                is_untouched = not bind.in_transaction()
            if not is_untouched:
                self._bind = None
                with suppress(Exception):
                    bind.close()
        finally:
            self._session.is_deaf = False

    def cancel(self) -> None:
        """Have the server give up what this session, and those that were opened, are at."""
        for session in (self._session, *(other for other, _ in self._others)):
            if not session.closed:
                session.cancel()

    def close_others(self) -> list[Account]:
        """Close the sessions that a revision opened, and return their accounts."""
        others, self._others = self._others, []
        for session, _ in others:
            if not session.closed:
                # What broke is rolled back by the server.
                with suppress(DriverError):
                    session.close()
            # SQLAlchemy may come back to it, when what holds it is collected.
            session.is_deaf = True
        return [account for _, account in others]

    def end(self) -> None:
        """Take the session back for good."""
        self.close_others()
        self.take_back()
        self._session.is_lent = False

    def _connect(self) -> Session:
        if self._is_wanted:
            self._is_wanted = False
            return self._session
        session = self._session.another()
        listen(session)
        session.notices_of = self._session.notices_of
        ((next_id, stamp),) = session.ask(f"SELECT {NEXT_ID}, {STAMP}")
        if settings := self._settings():
            session.ask(f"{settings}; {names.set_path(self.path)}")
        session.autocommit = False
        session.account = Account(session, next_id=next_id, stamp=stamp, time_left=self._time_left)
        self._others.append((session, session.account))
        return session


@contextmanager
def lend(session: Session) -> Iterator[Connection]:
    """Lend *session* to SQLAlchemy, outside any transaction; it stays ours."""
    loan = Loan(session)
    session.make_transactional()
    try:
        connection = loan.bind()
        connection.commit()
        yield connection
    finally:
        loan.end()
        session.let_go()
