"""The door to Alembic: carrying out the revisions of a build."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.errors import NotReady, RevisionFailed, RunFailed
from core.postgres.session import Session, is_broken, is_ended_unseen, lend, query, sqlstate_of
from core.revisions import manifest, rendering, scripts
from core.revisions.books import SCHEMA, VERSION_TABLE
from core.revisions.history import Position, Recorder, Step
from core.revisions.manifest import Revision
from core.settings import ROOT

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationStep
    from alembic.script import ScriptDirectory

logger = logging.getLogger(__name__)

# Asked for at both ends of a revision, with statements that are sent anyway: each costs a
# revision a round trip.
_TRANSACTION = "SELECT transaction_timestamp()::text"
_RETURNING = " RETURNING transaction_timestamp()::text"


class Supervisor(Protocol):
    """Who has revisions carried out: it sets the session for each, and hears of each commit."""

    def session_settings(self) -> str:
        """Return the SQL that brings the session to where a revision may begin."""
        ...

    def may_go_on(self) -> bool:
        """Say whether there is time for one more revision."""
        ...

    def committed(self, revision: str) -> None:
        """Take note that *revision* is committed."""
        ...


class Revisions:
    """
    The revisions of one build, loaded once.

    Alembic is imported where a revision is run, and nowhere else: a run with nothing to apply
    does without.

    Args:
        ini: The ``alembic.ini`` that names the folder of scripts.

    Attributes:
        compared: Which files were found changed, by where the database was that said so.
    """

    def __init__(self, ini: Path = ROOT / "alembic.ini") -> None:
        self._ini = ini
        self.compared: dict[Position, list[str]] = {}

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        from alembic.script import ScriptDirectory

        return ScriptDirectory.from_config(self._config())

    def _config(self, **attributes: object) -> Config:
        from alembic.config import Config

        config = Config(str(self._ini))
        config.attributes.update(attributes)
        return config

    @cached_property
    def history(self) -> tuple[Revision, ...]:
        """
        All revisions, oldest first: one line from one base to one head.

        Raises:
            RunFailed: A script cannot be read, or the revisions are no single line.
        """
        listed = manifest.read(self._ini.parent)
        return scripts.read(Path(self._scripts.versions)) if listed is None else listed

    @cached_property
    def identifiers(self) -> tuple[str, ...]:
        """The identifiers of the history, oldest first."""
        return tuple(revision.identifier for revision in self.history)

    @cached_property
    def descriptions(self) -> Mapping[str, str]:
        """What each revision does, by identifier."""
        return {revision.identifier: revision.description for revision in self.history}

    def up_to(self, revision: str | None) -> tuple[str, ...]:
        """Return the identifiers up to *revision*; none for base or one that is not ours."""
        if revision not in self.identifiers:
            return ()
        return self.identifiers[: self.identifiers.index(revision) + 1]

    @cached_property
    def checksums(self) -> Mapping[str, str]:
        """The checksum of each revision's file, by identifier."""
        return {revision.identifier: revision.checksum for revision in self.history}

    def run(
        self,
        session: Session,
        revisions: Sequence[str],
        *,
        upward: bool,
        recorder: Recorder,
        supervisor: Supervisor,
        attributes: Mapping[str, object],
    ) -> None:
        """
        Carry out *revisions* in the order given, each in a transaction of its own.

        The first is begun in any case, and each further one if *supervisor* says so: its
        transaction is then opened in one round trip with the commit of the one before it.

        Raises:
            RevisionFailed: A revision failed; the database has what came before it.
        """
        from alembic.runtime.environment import EnvironmentContext

        way = self._way(upward=upward)
        begun: list[str] = []

        def opening() -> str:
            return f"{supervisor.session_settings()}; {_TRANSACTION}"

        def steps(_heads: object, migration: Any) -> Iterator[MigrationStep]:
            goes_on = True
            for identifier in revisions:
                if not goes_on:
                    break
                begun.append(identifier)
                recorder.begin()
                with migration.begin_transaction(_per_migration=True):
                    transaction = session.opened() or query(session, opening())
                    _carry_out(
                        way[identifier],
                        migration,
                        session,
                        recorder,
                        supervisor,
                        transaction=transaction,
                    )
                    goes_on = identifier != revisions[-1] and supervisor.may_go_on()
                    if goes_on:
                        session.open_next(opening())
                supervisor.committed(identifier)
            # Alembic has nothing left to do: it would write the version with a statement of
            # its own, built anew each time, and that was a quarter of what a revision cost.
            yield from ()

        try:
            with (
                lend(session) as connection,
                EnvironmentContext(
                    self._config(connection=connection, **attributes),
                    self._scripts,
                    fn=steps,
                ),
            ):
                self._scripts.run_env()
        except (Exception, SystemExit) as error:
            # The one place that catches everything: a revision may raise anything at all.
            if isinstance(error, NotReady):
                raise
            if not begun:
                # Alembic had a first look; what SQLAlchemy wraps is the driver's error.
                origin = getattr(error, "orig", None)
                if origin is None:
                    raise
                raise origin from error
            raise _failure(begun[-1], error, session) from error

    def _way(self, *, upward: bool) -> Mapping[str, Step]:
        """Return the step that each revision is, by identifier."""
        below = (None, *self.identifiers)
        return {
            one.identifier: Step(one, *((start, end) if upward else (end, start)))
            for one, start, end in zip(self.history, below, self.identifiers, strict=False)
        }

    def sql(self, revisions: Sequence[str], current: str | None) -> dict[str, str]:
        """
        Return the SQL that each of *revisions* would run on a database at *current*.

        Nothing is connected to and no secret is made.
        """
        return rendering.sql(self._ini, self.history, revisions, current) if revisions else {}


def _carry_out(
    step: Step,
    migration: Any,
    session: Session,
    recorder: Recorder,
    supervisor: Supervisor,
    *,
    transaction: object,
) -> None:
    """
    Run the script of *step* in the *transaction* that is open, then write that it was.

    Our own statements do not go through SQLAlchemy, which takes longer with each than the
    server does; and only this one script is loaded, however many there are.

    A revision that ends its transaction itself is named in a warning: had it failed behind
    that, a part of it would have stayed.
    """
    script = scripts.load(step.revision)
    declared = migration._transaction  # noqa: SLF001 - Alembic tells nowhere else
    try:
        (script.upgrade if step.is_upward else script.downgrade)()
    finally:
        has_committed = is_ended_unseen(session)
        if has_committed:
            # The driver takes it for open; without this our records would be committed
            # one by one.
            session.rollback()
            _warn_of_commit(step.revision.identifier)
    # Not only our role: the next transaction begins as the session is by then, and what the
    # revision deferred to its commit has the time that is left.
    move, values = recorder.move(step)
    found = query(session, f"{supervisor.session_settings()}; {move}{_RETURNING}", values)
    if not found:
        raise RunFailed(f"{SCHEMA}.{VERSION_TABLE} was changed meanwhile, and not by this run")
    # Alembic's own autocommit_block says what it does, and leaves another transaction.
    is_declared = migration._transaction is not declared  # noqa: SLF001
    if found != transaction and not is_declared and not has_committed:
        _warn_of_commit(step.revision.identifier)


def _warn_of_commit(revision: str) -> None:
    logger.warning(
        "%s: committed by itself: if it fails in the middle, a part of it stays", revision
    )


def _failure(revision: str, error: BaseException, session: Session) -> RevisionFailed:
    """Return *error* of *revision* as ours, naming the server's code and first line."""
    code = sqlstate_of(error)
    origin = getattr(error, "orig", error)
    lines = str(origin).strip().splitlines()
    reason = lines[0] if lines else type(origin).__name__
    if code is None and is_broken(session):
        reason = "the connection broke"
    coded = f"{code} {reason}" if code else f"{type(origin).__name__}: {reason}"
    return RevisionFailed(f"revision {revision} failed: {coded}", revision=revision, sqlstate=code)
