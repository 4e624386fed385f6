"""Getting into a database: found, waited for, and entered with a password that fits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from core.access.locate import Place, locate, with_password_at
from core.access.naming import find
from core.actions.run import Run
from core.budget import pauses
from core.decisions.patience import inside_seconds, is_rds_at_it
from core.errors import AwaitsPerson, InstanceNotReady, NotReady, Unreachable, WrongPassword
from core.postgres.session import Session, connect, translating

logger = logging.getLogger(__name__)


@contextmanager
def entered(run: Run) -> Iterator[tuple[Place, Session]]:
    """
    Find the database of *run* and hold a session with it, waiting for what is not there yet.

    What PostgreSQL refuses inside, outside a revision, is raised as what it means.

    Raises:
        NotReady: It is not there, and whoever asked does not wait inside for any longer.
    """
    place, session = _enter(run)
    if place.warning:
        logger.warning(place.warning)
    with closing(session), translating(place.database):
        yield place, session


def _enter(run: Run) -> tuple[Place, Session]:
    for pause in pauses(0.2, 15.0):
        try:
            place = _locate(run)
            run.report.instance = place.name
            run.report.database = place.database.name
            run.report.warnings = [place.warning] if place.warning else []
            if place.managed is not None:
                run.report.resource_id = place.managed.resource_id
            return place, _connect_or_explain(place, run)
        except AwaitsPerson:
            raise
        except NotReady as error:
            most = inside_seconds(run.request)
            is_late = run.budget.left() < pause + run.settings.minimum_slice_seconds
            if is_late or run.waited_seconds + pause > most:
                raise
            logger.info("not ready yet, trying again in %.1f s: %s", pause, error)
            run.budget.sleep(pause)
    raise AssertionError("pauses never end")


def _locate(run: Run) -> Place:
    """Find the database of *run*; by then the report says whose it is, also where that fails."""
    if run.request.instance is None:
        return locate(run.request, run.cloud, run.settings)
    found = find(run.request, run.cloud, run.settings)
    run.report.instance = found.identifier
    return locate(run.request, run.cloud, run.settings, found)


def _connect_or_explain(place: Place, run: Run) -> Session:
    """Connect; where that cannot be, say what RDS is doing, or whose groups are in the way."""
    try:
        return connect_to(place, run)
    except NotReady as error:
        status = place.managed.status if place.managed else ""
        if is_rds_at_it(status):
            raise InstanceNotReady(f"{error}; {place.name} is {status}") from error
        groups = place.managed.security_groups if place.managed else ()
        if not groups or not isinstance(error, Unreachable):
            raise
        ours = run.settings.security_group_ids or "the function's"
        raise Unreachable(
            f"{error}; {place.name} is {status}, so let its "
            f"security group {', '.join(groups)} admit {ours} on port {place.database.port}"
        ) from error


def connect_to(place: Place, run: Run) -> Session:
    """Connect; with a password that was just rotated away, try the current and the next one."""

    def attempt(there: Place) -> Session:
        return connect(
            there.database,
            relation_lock_timeout_ms=run.settings.relation_lock_timeout_ms,
            timeout_seconds=run.budget.left(),
        )

    try:
        return attempt(place)
    except WrongPassword:
        for stage in ("AWSCURRENT", "AWSPENDING"):
            other = with_password_at(place, run.cloud, stage)
            if other is None:
                continue
            try:
                return attempt(other)
            except WrongPassword:
                continue
        raise
