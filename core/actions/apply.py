"""Applying a plan, and reading back from the database what came of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing, nullcontext

from core.access.locate import Place
from core.actions.entry import connect_to, connect_to_writer
from core.actions.logins import passwords_of, prove_entry, settle
from core.actions.run import Run
from core.budget import pauses
from core.decisions.plan import Plan
from core.errors import AccessDenied, MigrationError, NotReady, RevisionFailed, RunFailed
from core.postgres.beginning import session_settings
from core.postgres.blockers import ITSELF, Watch
from core.postgres.refusals import translating
from core.postgres.session import Session, is_broken, query
from core.postgres.writer import takes_writes
from core.revisions import history
from core.revisions.books import without_word
from core.revisions.history import Recorder

logger = logging.getLogger(__name__)

# As many as an answer shows.
MOST_WARNINGS = 60

# PostgreSQL documentation, Appendix A.
_LOCK_NOT_AVAILABLE = "55P03"
# What an application or an administrator does at the same moment: a deadlock, a conflict of
# serializable transactions, and a change of the same privilege or the same table, which the server
# knows by no code of its own and says in no other language.
_CONFLICTS = ("40P01", "40001")
_INTERNAL_ERROR = "XX000"
_CHANGED_MEANWHILE = "tuple concurrently"
_OPERATOR_INTERVENTION = "57P"
_READ_ONLY = "25006"

# Of the margin: what a revision has done by the end of the budget is recorded, not thrown away.
_RECORD_SECONDS = 1.0


def apply(
    run: Run, place: Place, session: Session, todo: Plan, *, last_row: int, upward: bool = True
) -> bool:
    """
    Carry out *todo*, then read back what the database says of it.

    *last_row* is the last row of the history before this run; *upward* says whether to
    upgrade or to downgrade.

    Returns:
        Whether all of it is done; if not, the time budget ended between two revisions.

    Raises:
        RevisionFailed: A revision failed, for good or for too many tries.
        NotReady: The connection broke.
    """
    application = _Application(run, place, session, todo, upward=upward)
    try:
        with translating(place.database):
            is_done = application.carry_out()
    except (RevisionFailed, NotReady) as error:
        code = getattr(error, "sqlstate", None) or ""
        if code == _READ_ONLY and not is_broken(session) and not takes_writes(session):
            # What it says of the history may be of a moment ago, too.
            session.close()
        is_ended = is_broken(session) or code.startswith(_OPERATOR_INTERVENTION)
        if is_ended or not session.is_idle:
            _read_back_anew(run, place, todo, last_row)
        else:
            read_back(run, session, todo.revisions, last_row)
        again = (
            "run the same request again, and it carries on"
            if upward
            else "send the request again with the from_revision that status shows"
        )
        unknown = run.report.details.get("unknown")
        if unknown:
            # Nothing is claimed: neither that it failed nor that the rest was asked for.
            raise NotReady(f"{error}; {unknown}: {again}") from error
        if isinstance(error, RevisionFailed):
            run.report.at = error.at
            if error.is_late and not (application.had_whole_time or error.has_committed):
                # It had what was left of the budget; the next run gives it a whole one.
                return False
            if is_ended and error.revision in run.report.applied:
                raise NotReady(
                    f"the connection broke as {error.revision} was committed, and it is "
                    f"{_done(upward=upward)}: {again}"
                ) from error
            if is_ended and not error.is_late and not error.has_committed:
                raise NotReady(f"{error}: {again}") from error
        raise
    except Exception:
        # Whatever else it is: what was committed before it is told.
        _read_back_anew(run, place, todo, last_row)
        raise
    read_back(run, session, todo.revisions, last_row)
    if is_done and run.report.final_revision != todo.target:
        raise RunFailed(
            f"the database says {run.report.final_revision}, not {todo.target}: a revision "
            "changed schema day2 by itself; compare it with the history"
        )
    return is_done


class _Application:
    """One plan being carried out: how far it is, and how often the next revision was tried."""

    def __init__(
        self, run: Run, place: Place, session: Session, todo: Plan, *, upward: bool
    ) -> None:
        self._run = run
        self._place = place
        self._session = session
        self._todo = todo
        self._upward = upward
        self._passwords = passwords_of(run, place)
        # What operations.login_by_iam made, until it is proven that the master enters beside it.
        self._iam_logins: set[str] = set()
        self._recorder = Recorder(
            trigger=run.request.trigger.value,
            request_id=run.request_id,
            checksums=run.revisions.checksums,
        )
        self._done = 0
        self._tries = 0
        self._unsaid = 0
        self._first_seconds = run.budget.left()

    def carry_out(self) -> bool:
        """
        Carry out the plan; a revision that meets a lock is tried again.

        Returns:
            Whether all of it is done.
        """
        blockers = ""
        for pause in pauses(0.2, 3.0):
            watch = self._watch() if self._tries else nullcontext()
            self._tries += 1
            try:
                with watch:
                    self._run.revisions.run(
                        self._session,
                        self._todo.revisions[self._done :],
                        upward=self._upward,
                        recorder=self._recorder,
                        supervisor=self,
                        attributes={
                            "login_passwords": self._passwords,
                            "iam_logins": self._iam_logins,
                            "take_over": self._run.request.take_over,
                        },
                    )
            except RevisionFailed as error:
                # What the failed revision made is gone, or was committed by its own doing.
                self._proved_entry()
                if isinstance(watch, Watch):
                    blockers = watch.found() or blockers
                if not self._may_try_again(error, pause):
                    described = self._with_blockers(error, blockers)
                    if described is error:
                        raise
                    # What the server said stays the cause; its traceback goes to the log.
                    raise described from error.__cause__
                logger.info(
                    "%s: met a lock, or another's change (%s), trying again",
                    error.revision,
                    error.sqlstate,
                )
                self._run.budget.sleep(pause)
            else:
                if not self._proved_entry() or not self.may_go_on():
                    break
        return self._done == len(self._todo.revisions)

    def _proved_entry(self) -> bool:
        """Prove that the master enters, if logins by IAM were made; say whether there is more."""
        if self._iam_logins and not is_broken(self._session):
            logins = sorted(self._iam_logins)
            self._iam_logins.clear()
            last = self._todo.revisions[max(0, self._done - 1)]
            prove_entry(self._run, self._place, self._session, logins, revision=last)
            return self._done < len(self._todo.revisions)
        return False

    @property
    def had_whole_time(self) -> bool:
        """Whether the revision that was begun last had the time of a whole run, or most of it."""
        return self._done == 0 and self._first_seconds >= self._run.whole_seconds / 2

    def time_left(self) -> float:
        """Return what is left of the budget, in seconds."""
        return self._run.budget.left()

    def session_settings(self) -> str:
        """Give a revision what is left of the budget for its statements, and time to record it."""
        left = max(self._run.budget.left(), _RECORD_SECONDS)
        return session_settings(self._session, statement_timeout_seconds=left)

    def may_go_on(self) -> bool:
        """
        Say whether what is left of the budget is enough to begin another revision.

        Not in one round trip with the commit of a login by IAM: that is proven in between.
        """
        return (
            not self._iam_logins
            and self._run.budget.left() >= self._run.settings.minimum_slice_seconds
        )

    def committed(self, revision: str) -> None:
        """Settle the passwords that *revision* set, and count it."""
        self._done += 1
        self._tries = 1
        settle(self._passwords)
        done = _done(upward=self._upward)
        logger.info("%s: %s", revision, done, extra={"revision": revision})

    def warned(self, texts: Sequence[str]) -> None:
        """Have the answer say so too, as far as somebody reads it."""
        warnings = self._run.report.warnings
        room = max(0, MOST_WARNINGS - len(warnings))
        warnings.extend(texts[:room])
        self._unsaid += len(texts[room:])
        if self._unsaid:
            warnings[MOST_WARNINGS:] = [f"{self._unsaid:,} more warnings are in the log"]

    def _may_try_again(self, error: RevisionFailed, pause: float) -> bool:
        """Say whether somebody else was in the way, and time and tries are left."""
        settings = self._run.settings
        return (
            (error.sqlstate == _LOCK_NOT_AVAILABLE or _is_conflict(error))
            # A retry is safe only where everything was rolled back.
            and not error.has_committed
            and self._tries < settings.revision_tries
            and self._run.budget.left() > pause + settings.relation_lock_timeout_ms / 1000
        )

    def _with_blockers(self, error: RevisionFailed, blockers: str) -> RevisionFailed:
        """Return *error* saying how often it was tried, and who was in the way."""
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            who = blockers or "the session that holds the lock could not be seen"
            remedy = (
                "do all of it there, or commit it first"
                if ITSELF in who
                else "have that ended, or try again later"
            )
        elif _is_conflict(error):
            who = "somebody was changing the same things each time"
            remedy = "try again when they have ended"
        else:
            return error
        return RevisionFailed(
            f"{error}; {who}; tried {self._tries} time(s): {remedy}",
            revision=error.revision,
            sqlstate=error.sqlstate,
            has_committed=error.has_committed,
            at=error.at,
        )

    def _watch(self) -> Watch:
        pid = self._session.info.backend_pid
        return Watch(lambda: connect_to(self._place, self._run), pid)


def _done(*, upward: bool) -> str:
    return "applied" if upward else "rolled back"


def _is_conflict(error: RevisionFailed) -> bool:
    """Say whether *error* is what two who do the same at the same moment meet."""
    return error.sqlstate in _CONFLICTS or (
        error.sqlstate == _INTERNAL_ERROR and _CHANGED_MEANWHILE in str(error)
    )


def read_back(run: Run, session: Session, todo: Sequence[str], last_row: int) -> None:
    """Read what was committed by this run: Alembic's own word is given before the commit."""
    query(session, session_settings(session, statement_timeout_seconds=30))
    try:
        at = history.position(session)
    except (AccessDenied, RunFailed) as error:
        # What is found as a run begins has another word: that nothing was changed.
        run.report.final_revision = None
        told = f"could not read back what was committed: {without_word(error)}"
        run.report.details["unknown"] = told
        raise type(error)(told) from error
    run.report.final_revision = at.current
    run.report.applied = [
        row.revision
        for row in history.rows(session, after=last_row)
        if row.request_id == run.request_id and row.revision is not None
    ]
    run.report.pending = [one for one in todo if one not in run.report.applied]


def _read_back_anew(run: Run, place: Place, todo: Plan, last_row: int) -> None:
    """Read back from whoever writes now, if that answers; else nothing is claimed."""
    try:
        with closing(connect_to_writer(place, run)) as session, translating(place.database):
            read_back(run, session, todo.revisions, last_row)
    except MigrationError as error:
        run.report.final_revision = None
        told = f"could not read back what was committed: {error}"
        run.report.details.setdefault("unknown", told)
