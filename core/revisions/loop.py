"""
The loop that carries out revisions: the one way, for the function and the ``alembic`` command.

A revision is recorded only if every transaction of its that was given an id was committed, and
its record goes with the last of them.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData

from core.errors import MigrationError, NotReady, RevisionFailed
from core.postgres import names
from core.postgres.lending import Loan
from core.postgres.notices import Notices, listen
from core.postgres.session import (
    HOLDS_LOCK,
    DriverError,
    Session,
    is_broken,
    lock_holder,
    opening,
    query,
    sqlstate_of,
    storable,
    take_lock,
)
from core.postgres.transactions import STAMP, Account, OutOfTime
from core.revisions import dialect, scripts
from core.revisions.books import SCHEMA, VERSION_TABLE
from core.revisions.containment import contained
from core.revisions.failure import failure_details
from core.revisions.history import MOVED, Recorder, Step

logger = logging.getLogger(__name__)

# How long a full look at the schema of a revision's names is relied on.
_FULL_LOOK_SECONDS = 1.0

# PostgreSQL documentation, Appendix A.
_QUERY_CANCELED = "57014"
_ADMIN_SHUTDOWN = "57P01"

# A statement that was cut off by our own time leaves no more of it than this.
_LATE_SECONDS = 0.25


class Supervisor(Protocol):
    """Who has revisions carried out: it sets the session for each, and hears of each commit."""

    def session_settings(self) -> str:
        """Return the SQL that brings the session to where a revision may begin."""
        ...

    def time_left(self) -> float:
        """Return the seconds that are left, which may be infinite."""
        ...

    def may_go_on(self) -> bool:
        """Say whether there is time for one more revision."""
        ...

    def committed(self, revision: str) -> None:
        """Take note that *revision* is committed."""
        ...

    def warned(self, texts: Sequence[str]) -> None:
        """Take note of warnings, of the server's or ours, each naming its revision."""
        ...


class Untrue(Exception):
    """It would not be true to record a revision; the message says why, and what to do."""


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


def carry_out(
    environment: EnvironmentContext,
    session: Session,
    steps: Sequence[Step],
    *,
    recorder: Recorder,
    supervisor: Supervisor,
) -> None:
    """
    Carry out *steps* in the order given, each in a transaction of its own.

    The first is begun in any case, and each further one if *supervisor* says so: its
    transaction is then opened in one round trip with the commit of the one before it.

    Raises:
        RevisionFailed: A revision failed; the database has what came before it.
        NotReady: What a revision needs is not there yet, and it has committed nothing.
    """
    with contained():
        _carry_out(environment, session, steps, recorder=recorder, supervisor=supervisor)


def _carry_out(
    environment: EnvironmentContext,
    session: Session,
    steps: Sequence[Step],
    *,
    recorder: Recorder,
    supervisor: Supervisor,
) -> None:
    schema = names.checked_schema(environment.config.get_main_option("revision_schema"))
    loan = Loan(session, settings=supervisor.session_settings, time_left=supervisor.time_left)
    try:
        session.make_transactional()
        # SQLAlchemy looks at the server once, and rolls back what is open then.
        loan.bind()
        listen(session)
        door = _Door(environment, loan)
        for step in steps:
            recorder.begin()
            one = _One(door, session, loan, step, schema, recorder=recorder, supervisor=supervisor)
            goes_on = one.carry_out(is_last=step is steps[-1])
            supervisor.committed(step.revision.identifier)
            if not goes_on:
                break
    finally:
        loan.end()
        session.let_go()


class _Door:
    """Alembic, on the connection that is lent: made anew where a revision has used that up."""

    def __init__(self, environment: EnvironmentContext, loan: Loan) -> None:
        self._environment = environment
        self._loan = loan
        self._bind: object = None
        self._account: Account | None = None

    def migration(self, account: Account) -> MigrationContext:
        """Return Alembic's context, whose autocommit block tells *account* that it is one."""
        self._account = account
        bind = self._loan.bind()
        if bind is not self._bind:
            self._bind = bind
            configure(self._environment, connection=bind)
            self._tell_of_blocks(self._environment.get_context())
        return self._environment.get_context()

    def _tell_of_blocks(self, migration: MigrationContext) -> None:
        block = migration.autocommit_block

        @contextmanager
        def declared() -> Iterator[None]:
            account = self._account
            if account is not None:
                account.is_declared = True
            try:
                with block():
                    yield
            finally:
                if account is not None:
                    account.is_declared = False

        migration.autocommit_block = declared  # type: ignore[method-assign]


class _One:
    """One revision being carried out."""

    def __init__(
        self,
        door: _Door,
        session: Session,
        loan: Loan,
        step: Step,
        schema: str,
        *,
        recorder: Recorder,
        supervisor: Supervisor,
    ) -> None:
        self._schema = schema
        self._door = door
        self._session = session
        self._loan = loan
        self._step = step
        self._recorder = recorder
        self._supervisor = supervisor
        self._name = step.revision.identifier
        self._others: list[Account] = []
        self._notices = Notices(self._name)

    def carry_out(self, *, is_last: bool) -> bool:
        """Run the revision and record it; return whether the next one is to be begun."""
        session = self._session
        opened = session.opened()
        if opened is None:
            session.make_transactional()
            # Also where a revision has thrown away what was prepared (DISCARD ALL).
            settings = self._supervisor.session_settings()
            prepare = names.prepare_look(self._schema)
            self._loan.looked_in_full_at = time.monotonic()
            opened = query(session, f"{settings}; {prepare}; {self._opening()}")
        ((stamp, next_id, holds_lock, self._loan.path),) = opened
        account = Account(
            session, next_id=next_id, stamp=stamp, time_left=self._supervisor.time_left
        )
        try:
            if not holds_lock:
                self._take_lock_again()
            self._run(account)
            goes_on = not is_last and self._supervisor.may_go_on()
            following = (
                self._next_opening(account) if goes_on and session.begins_as_by_default else None
            )
            if not self._is_recorded_at_once(account, following):
                self._record(account)
                self._loan.take_back()
                session.commit_and_open(following)
        except BaseException as error:
            # The one place that catches everything: a revision may raise anything at all.
            failure = self._failure(error, account)
            if failure is error:
                raise
            raise failure from error
        return goes_on

    def _opening(self) -> str:
        return opening(self._supervisor.session_settings())

    def _next_opening(self, account: Account) -> str:
        """
        Return what opens the next transaction: a schema that was just trusted is looked at less.

        In full again where this revision committed by itself, so that somebody could have put
        something there in between, and where the last full look is a while ago.
        """
        now = time.monotonic()
        is_full = (
            self._loan.path == names.OURS
            or account.has_committed
            or now - self._loan.looked_in_full_at > _FULL_LOOK_SECONDS
        )
        if is_full:
            self._loan.looked_in_full_at = now
        look = names.LOOK if is_full else names.LOOK_AGAIN
        return opening(self._supervisor.session_settings(), look)

    def _run(self, account: Account) -> None:
        """Run the script in the transaction that is open, keeping *account* of it."""
        migration = self._door.migration(account)
        with Operations.context(migration):
            # Alembic's autocommit_block commits what is begun here. It is ended below, by us.
            migration.begin_transaction()
            self._session.account = account
            self._session.notices_of = self._notices
            try:
                with _interrupted_with(self._session):
                    scripts.carry_out(
                        self._step.revision, "upgrade" if self._step.is_upward else "downgrade"
                    )
            finally:
                self._session.account = None
                self._others = self._loan.close_others()
                self._session.notices_of = None
                self._notices.end()
                self._supervisor.warned(self._notices.warnings)

    def _is_recorded_at_once(self, account: Account, following: str | None) -> bool:
        """
        Record, commit and open what is *following* in one round trip, and say whether that is so.

        Only where nothing was seen but one transaction; the server holds that to be true before
        it commits. In any other case nothing is done: that is looked into one by one.
        """
        session = self._session
        if following is None or self._others or session.is_two_phase or not account.is_plain:
            return False
        self._loan.take_back()
        record, values = self._recording()
        is_as_seen = f"{STAMP} = {account.stamp} AND {HOLDS_LOCK}"
        return session.committed_with(
            # Divided by zero, it fails.
            f"{record} SELECT 1 / count(*) FROM {MOVED} WHERE {is_as_seen}",
            values,
            following,
        )

    def _recording(self) -> tuple[str, tuple[object, ...]]:
        """
        Return the statements that move the database by the step, for a SELECT to follow.

        Our own statements do not go through SQLAlchemy, which takes longer with each than the
        server does.
        """
        move, values = self._recorder.move(self._step)
        # What the revision deferred to its commit finds names as it did, and has the time that
        # is left. Our own statement does not, and the next transaction begins as that does.
        settings = self._supervisor.session_settings()
        statements = (
            f"{settings}; {names.set_path(self._loan.path)}; SET CONSTRAINTS ALL IMMEDIATE; "
            f"{settings}; {move}"
        )
        return statements, storable(self._session, values)

    def _record(self, account: Account) -> None:
        """
        Write that the revision was carried out, if that is so.

        Raises:
            Untrue: It is not so.
        """
        session = self._session
        session.make_transactional()
        record, values = self._recording()
        found = query(session, f"{record} SELECT {STAMP}, {HOLDS_LOCK} FROM {MOVED}", values)
        if not found:
            raise Untrue(f"{SCHEMA}.{VERSION_TABLE} was changed by somebody else during this run")
        ((stamp, holds_lock),) = found
        account.finish(session, stamp)
        for one in self._others:
            one.finish(session)
        self._check((account, *self._others))
        if not holds_lock:
            self._take_lock_again()
        self._warn((account, *self._others))

    def _warn(self, accounts: Sequence[Account]) -> None:
        if any(one.undeclared for one in accounts):
            text = f"{self._name}: committed by itself: what fails in the middle stays in part"
            logger.warning(text)
            self._supervisor.warned([text])

    def _check(self, accounts: Sequence[Account]) -> None:
        """Raise if a transaction of the revision is not committed, or an index not built."""
        lost = sum(one.lost for one in accounts)
        if lost:
            kept = any(one.has_committed for one in accounts)
            raise Untrue(
                f"it rolled back its own work ({lost} transaction{'s' * (lost > 1)} with changes)"
                f": that is lost, and so is what came after it in the last transaction; "
                f"{'what it committed itself is kept' if kept else 'nothing of it is kept'}: "
                "take out what rolls back (ROLLBACK, rollback(), a connection closed uncommitted)"
            )
        if self._session.is_two_phase:
            raise Untrue("it began a transaction of two phases, and did not end it: end it")
        prepared = [name for one in accounts for name in one.prepared]
        if prepared:
            raise Untrue(
                f"it left the prepared transaction {', '.join(map(repr, prepared))}, which holds "
                "its locks: end it with COMMIT PREPARED or ROLLBACK PREPARED"
            )
        invalid = [name for one in accounts for name in one.still_invalid(self._session)]
        if invalid:
            raise Untrue(_invalid(invalid))

    def _take_lock_again(self) -> None:
        """Take the run's lock again, which a revision gave up, unless another run has it."""
        if not take_lock(self._session):
            holder = lock_holder(self._session) or "a run that has just ended"
            raise Untrue(
                f"it gave up the lock of the run, and {holder} had taken it: "
                "leave advisory locks alone (pg_advisory_unlock_all, DISCARD ALL)"
            )
        logger.warning("%s: gave up the lock of the run: it was taken again", self._name)

    def _misses_schema(self, error: BaseException, code: str | None) -> bool:
        """Say whether *error* may come of a schema that the path was not trusted with."""
        return self._loan.path == names.OURS and (
            code in names.NOT_FOUND or (code == names.NOT_ALLOWED and "pg_catalog" in str(error))
        )

    def _why_off_path(self) -> str:
        """Say why the revision did not find the names of its schema, and the way out."""
        schema = self._schema
        try:
            # Not with the time that is left, which may be none.
            query(self._session, "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL")
            found = ", ".join(one for (one,) in query(self._session, names.reasons(schema)))
        except DriverError as error:
            found = f"why, cannot be seen: {sqlstate_of(error) or 'the connection broke'}"
        return (
            f"schema {schema} is not searched, because its names cannot be trusted"
            f" ({found}): write {schema}. before the name, or take that away"
            f" (REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, or from the login)"
        )

    def _failure(self, error: BaseException, account: Account) -> BaseException:
        """Bring the session back, and return *error* as ours."""
        session = self._session
        accounts = (account, *self._others)
        session.account = None
        self._loan.take_back()
        session.let_go()
        is_broken_now = is_broken(session)
        has_committed = any(one.has_committed for one in accounts)
        self._warn(accounts)
        if isinstance(error, NotReady) and not has_committed:
            return error
        code = sqlstate_of(error)
        details = failure_details(error, self._step.revision.file)
        is_late = self._supervisor.time_left() <= _LATE_SECONDS and (
            isinstance(error, OutOfTime)
            or code == _QUERY_CANCELED
            or (code is None and is_broken_now)
        )
        reason = (
            f"its time was over after {self._recorder.seconds:.0f} s: split it, do its work in "
            "batches over several revisions, or raise TimeoutSeconds"
            if is_late
            else _reason(error, code, is_broken=is_broken_now)
        )
        if not is_broken_now and self._misses_schema(error, code):
            reason += f"; {self._why_off_path()}"
        if has_committed and not isinstance(error, Untrue):
            reason += "; what it committed itself before is kept"
        invalid = (
            []
            if is_broken_now
            else [name for one in accounts for name in one.still_invalid(session)]
        )
        if invalid and not isinstance(error, Untrue):
            reason += f"; {_invalid(invalid)}"
        if details.hint and not is_late:
            reason += f" (hint: {details.hint})"
        logger.error("%s failed at %s", self._name, details.at, extra=details.for_the_log())
        return RevisionFailed(
            f"revision {self._name} failed: {reason}",
            revision=self._name,
            sqlstate=code,
            has_committed=has_committed,
            is_late=is_late,
            at=details.at,
        )


@contextmanager
def _interrupted_with(session: Session) -> Iterator[None]:
    """
    Raise OutOfTime in here, in whatever Python is at work, when *session* is cut.

    Only the main thread can be interrupted, and that is the one in which Lambda calls us.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ident = threading.main_thread().ident or 0
    is_running = True

    def interrupt(*_: object) -> None:
        if is_running:
            raise OutOfTime

    before = signal.signal(signal.SIGUSR1, interrupt)
    session.when_cut(lambda: signal.pthread_kill(ident, signal.SIGUSR1))
    try:
        yield
    finally:
        is_running = False
        session.when_cut(None)
        signal.signal(signal.SIGUSR1, before)


def _invalid(indexes: Sequence[str]) -> str:
    """Say that these *indexes* are INVALID, and the way out."""
    drops = "; ".join(f"DROP INDEX CONCURRENTLY {name}" for name in indexes)
    return (
        f"index {', '.join(indexes)} was left INVALID: it serves no query, and a unique one still "
        f"refuses rows: {drops}; then run the revision again"
    )


def _reason(error: BaseException, code: str | None, *, is_broken: bool) -> str:
    """Return why a revision failed: the server's code and first line, or the error's."""
    origin = getattr(error, "orig", error)
    lines = str(origin).strip().splitlines()
    first = lines[0] if lines else type(origin).__name__
    if isinstance(error, Untrue | MigrationError):
        return str(error)
    if code == _QUERY_CANCELED:
        return (
            f"{code} {first}: the run had time left, so somebody cancelled it, or a timeout that "
            "the revision set itself"
        )
    if code == _ADMIN_SHUTDOWN:
        return f"{code} {first}: somebody ended the session, or the server is shutting down"
    if code is not None:
        return f"{code} {first}"
    if is_broken and isinstance(origin, DriverError):
        # Over TLS the driver loses what the server says as it ends a session.
        return (
            f"the connection broke ({first}): somebody ended the session, or the server or the "
            "network went away"
        )
    return f"{type(origin).__name__}: {first}"
