"""
The loop that carries out revisions: the one way, for the function and the ``alembic`` command.

A revision is recorded only if every transaction of its that was given an id was committed, and
its record goes with the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic.runtime.environment import EnvironmentContext

from core.postgres import names
from core.postgres.lending import Loan
from core.postgres.notices import listen
from core.postgres.session import Session
from core.revisions.alembic_door import Door
from core.revisions.containment import contained
from core.revisions.history import Recorder, Step
from core.revisions.interruption import Interruption
from core.revisions.one_revision import OneRevision
from core.revisions.supervisor import Supervisor


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
        BaseException: A signal's handler raised it, such as KeyboardInterrupt: what was not
            committed is rolled back, and no further revision is begun.
    """
    with contained(supervisor.warned):
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
        door = Door(environment, loan)
        interruption = Interruption(session, loan)
        with interruption.heard():
            for step in steps:
                recorder.begin()
                one = OneRevision(
                    door,
                    session,
                    loan,
                    step,
                    schema,
                    interruption=interruption,
                    recorder=recorder,
                    supervisor=supervisor,
                )
                goes_on = one.carry_out(is_last=step is steps[-1])
                supervisor.committed(step.revision.identifier)
                if not goes_on:
                    break
    finally:
        loan.end()
        session.let_go()
