"""A run that changes a database, at the server that writes: it goes on where that fails over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from core.access.locate import Place
from core.actions.apply import read_back
from core.actions.entry import entered
from core.actions.run import Run
from core.errors import NotReady
from core.model import Result
from core.postgres.session import Session
from core.revisions import history
from core.revisions.history import Position

logger = logging.getLogger(__name__)

# What brings its server down is not run for as long as there is time.
_MOST_SERVERS = 3


def at_the_writer(run: Run, attempt: Callable[[Run], Result]) -> Result:
    """
    Return what *attempt* comes to, made once more at each new writer that there is on the way.

    Only another server than before is gone on at: a session that ended by itself, or by
    somebody's hand, ends its run.
    """
    for servers in count(1):
        try:
            return attempt(run)
        except NotReady as error:
            has_time = run.budget.left() >= run.settings.minimum_slice_seconds
            if not run.is_cut or not has_time or servers == _MOST_SERVERS:
                raise
            logger.warning("the connection was lost, looking for the writer: %s", error)
            run.ended, run.is_cut = error, False
    raise AssertionError("counting never ends")


@contextmanager
def entered_alone(run: Run) -> Iterator[tuple[Place, Session, Position]]:
    """
    Hold the lock of the database of *run*, and know where it stands.

    Where the run goes on at another server, its report has what is there of it.

    Raises:
        NotReady: As ``entered`` does; and again how the connection before this one ended, if
            this is the same server.
    """
    with entered(run, alone=True) as (place, session):
        if run.ended is not None and session.server_started == run.server_started:
            raise run.ended
        run.server_started = session.server_started
        at = history.position(session)
        _begin(run, session, at)
        yield place, session, at


def _begin(run: Run, session: Session, at: Position) -> None:
    """Note where the database is when the run begins, or goes on at another server."""
    if run.first_row is None:
        run.first_row = at.last_row
        run.report.found_at(at.current)
        return
    run.is_moved = True
    # A writer that was promoted without all of it has lost some of the rows.
    run.first_row = min(run.first_row, at.last_row)
    run.report.details.pop("unknown", None)
    read_back(run, session, (), run.first_row)
    run.report.warnings.append("its server failed over: the run went on at the new writer")
    logger.info("going on at the new writer, from %s", at.current or "base")
