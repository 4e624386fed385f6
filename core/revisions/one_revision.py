"""
One revision being carried out: its transaction opened, its script run, its record committed.

It is recorded only if every transaction of its that was given an id was committed, and its
record goes with the last of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from alembic.operations import Operations

from core.errors import AccessDenied, NotReady, RevisionFailed, RunFailed
from core.postgres import names
from core.postgres.beginning import opening, prepare_openings
from core.postgres.lending import Loan
from core.postgres.lock import HOLDS_LOCK, lock_holder, take_lock
from core.postgres.names import Look
from core.postgres.notices import Notices
from core.postgres.session import DriverError, Session, is_broken, query, sqlstate_of, storable
from core.postgres.transactions import STAMP, Account, OutOfTime
from core.revisions import books, scripts
from core.revisions.alembic_door import Door
from core.revisions.books import SCHEMA, VERSION_TABLE
from core.revisions.containment import nothing_left
from core.revisions.failure import (
    DEPENDENTS,
    FAILED_TRANSACTION,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    UNDEFINED_TABLE,
    failure_details,
    misses_schema,
    named,
    reason_of,
    text_of,
    untrue,
    why_off_path,
    with_those_behind,
)
from core.revisions.history import MOVED, NOT_MOVED, Recorder, Step
from core.revisions.interruption import Interruption
from core.revisions.supervisor import Supervisor
from core.revisions.truth import Untrue, check, left_invalid

logger = logging.getLogger(__name__)

# How long a full look at the schema of a revision's names is relied on.
_FULL_LOOK_SECONDS = 1.0

# What a row or a privilege, a rule, and a constraint say where they close our books.
_CLOSED = ("42501", "0A000", "23514")

_MOVED_BY_OTHERS = (
    f"{SCHEMA}.{VERSION_TABLE} was changed during this run, by the revision itself or by somebody "
    f"else: schema {SCHEMA} is the runner's alone"
)

# A statement that was cut off by our own time leaves no more of it than this.
_LATE_SECONDS = 0.25


class OneRevision:
    """One revision being carried out."""

    def __init__(
        self,
        door: Door,
        session: Session,
        loan: Loan,
        step: Step,
        schema: str,
        *,
        interruption: Interruption,
        recorder: Recorder,
        supervisor: Supervisor,
    ) -> None:
        self._schema = schema
        self._interruption = interruption
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
            prepare = prepare_openings(self._schema)
            self._loan.look = Look.IN_FULL
            self._loan.looked_in_full_at = time.monotonic()
            opened = query(session, f"{settings}; {prepare}; {opening(Look.IN_FULL)}")
        if self._loan.look is Look.AT_MYSELF and opened[0][-1] == names.OURS:
            # Others may create there, too. They are looked at from now on: none may be a login.
            self._loan.look = Look.AT_WHO_MAY_CREATE
            opened = query(session, opening(self._loan.look))
        ((stamp, next_id, holds_lock, self._loan.path),) = opened
        account = Account(
            session,
            next_id=next_id,
            stamp=stamp,
            time_left=self._supervisor.time_left,
            where=scripts.where,
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
            self._bring_back(account)
            if self._interruption.word is not None:
                # No fault of the revision's, whatever it made of it.
                logger.warning(
                    "%s was interrupted: its open transaction is rolled back", self._name
                )
                if error is self._interruption.word:
                    raise
                raise self._interruption.word from error
            failure = self._failure(error, account)
            if failure is error:
                raise
            raise failure from error
        return goes_on

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
            self._loan.look = Look.IN_FULL
        elif self._loan.look is Look.IN_FULL:
            self._loan.look = Look.AT_MYSELF
        return opening(self._loan.look)

    def _run(self, account: Account) -> None:
        """Run the script in the transaction that is open, keeping *account* of it."""
        migration = self._door.migration(account)
        with Operations.context(migration):
            # Alembic's autocommit_block commits what is begun here. It is ended below, by us.
            migration.begin_transaction()
            self._session.account = account
            self._session.notices_of = self._notices
            try:
                with (
                    nothing_left(self._name, self._supervisor.warned) as undone,
                    self._interruption.at_work(),
                ):
                    scripts.carry_out(
                        self._step.revision, "upgrade" if self._step.is_upward else "downgrade"
                    )
                if undone:
                    raise untrue(undone[0])
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
        # is left. Our own statement does not, and what follows begins by the same settings.
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
        try:
            found = query(session, f"{record} SELECT {STAMP}, {HOLDS_LOCK} FROM {MOVED}", values)
        except DriverError as error:
            code = sqlstate_of(error)
            at = (error.diag.schema_name, error.diag.table_name)
            if code == NOT_MOVED and at == (SCHEMA, VERSION_TABLE):
                raise Untrue(_MOVED_BY_OTHERS) from error
            if code == UNDEFINED_TABLE and f'"{SCHEMA}.' in str(error):
                raise Untrue(
                    f"{text_of(error)}: the revision dropped or renamed what the runner keeps its "
                    f"records in: leave schema {SCHEMA} alone"
                ) from error
            if code in _CLOSED and account.may_have_changed_books:
                raise Untrue(
                    f"{text_of(error)}: the revision changed what the runner keeps its records in: "
                    f"leave schema {SCHEMA} alone"
                ) from error
            raise
        self._look_at_books((account, *self._others))
        if not found:
            raise Untrue(_MOVED_BY_OTHERS)
        ((stamp, holds_lock),) = found
        account.finish(session, stamp)
        for one in self._others:
            one.finish(session)
        check(session, (account, *self._others))
        if not holds_lock:
            self._take_lock_again()
        self._warn((account, *self._others))

    def _look_at_books(self, accounts: Sequence[Account]) -> None:
        """
        Hold the books to be ours still, where a statement may have changed that.

        Raises:
            Untrue: They are not: with this commit no further run could read them.
        """
        if not any(one.may_have_changed_books for one in accounts):
            return
        try:
            books.verify(self._session)
        except (AccessDenied, RunFailed) as error:
            raise Untrue(
                f"it changed what the runner keeps its records in ({books.without_word(error)}): "
                f"leave schema {SCHEMA} alone"
            ) from error

    def _warn(self, accounts: Sequence[Account]) -> None:
        if any(one.undeclared for one in accounts):
            text = f"{self._name}: committed by itself: what fails in the middle stays in part"
            logger.warning(text)
            self._supervisor.warned([text])

    def _take_lock_again(self) -> None:
        """Take the run's lock again, which a revision gave up, unless another run has it."""
        if not take_lock(self._session):
            holder = lock_holder(self._session) or "a run that has just ended"
            raise Untrue(
                f"it gave up the lock of the run, and {holder} had taken it: "
                "leave advisory locks alone (pg_advisory_unlock_all, DISCARD ALL)"
            )
        logger.warning("%s: gave up the lock of the run: it was taken again", self._name)

    def _bring_back(self, account: Account) -> None:
        """Roll back what is open, and have the session back as it was before the revision."""
        self._session.account = None
        self._loan.take_back()
        self._session.let_go()
        self._warn((account, *self._others))

    def _failure(self, error: BaseException, account: Account) -> BaseException:
        """Return *error* as ours; the session is brought back."""
        session = self._session
        accounts = (account, *self._others)
        is_broken_now = is_broken(session)
        has_committed = any(one.has_committed for one in accounts)
        if isinstance(error, NotReady) and not has_committed:
            return error
        code = sqlstate_of(error)
        details = failure_details(error, self._step.revision.file)
        is_late = self._supervisor.time_left() <= _LATE_SECONDS and (
            # What was done about it may have failed, too.
            any(
                isinstance(one, OutOfTime) or sqlstate_of(one) == QUERY_CANCELED
                for one in with_those_behind(error)
            )
            or (code is None and is_broken_now)
        )
        reason = (
            f"its time was over after {self._recorder.seconds:.0f} s: split it, do its work in "
            "batches over several revisions, or raise TimeoutSeconds"
            if is_late
            else reason_of(error, code, is_broken=is_broken_now)
        )
        at = details.at
        if code == FAILED_TRANSACTION and account.failed is not None:
            first, at = account.failed
            reason += (
                f": it went on after {reason_of(first, sqlstate_of(first), is_broken=False)} at "
                f"{at}: let that end it, or do the statement in op.get_bind().begin_nested()"
            )
        if not is_broken_now and misses_schema(error, code, path=self._loan.path):
            reason += f"; {why_off_path(session, self._schema)}"
        if has_committed and not isinstance(error, Untrue):
            reason += "; what it committed itself before is kept"
        invalid = (
            []
            if is_broken_now
            else [name for one in accounts for name in one.builds.still_invalid(session)]
        )
        if invalid and not isinstance(error, Untrue):
            reason += f"; {left_invalid(invalid)}"
            in_the_way = ", ".join(filter(None, (one.builds.in_the_way for one in accounts)))
            if in_the_way and (is_late or code == LOCK_NOT_AVAILABLE):
                reason += f"; it waited for the end of each older transaction: {in_the_way}"
        if code == DEPENDENTS and details.detail:
            reason += f" ({named(details.detail)})"
        if details.hint and not is_late:
            reason += f" (hint: {details.hint})"
        details = details._replace(at=at)
        logger.error("%s failed at %s", self._name, at, extra=details.for_the_log())
        return RevisionFailed(
            f"revision {self._name} failed: {reason}",
            revision=self._name,
            sqlstate=code,
            has_committed=has_committed,
            is_late=is_late,
            at=at,
        )
