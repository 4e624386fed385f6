"""Getting into a database: found, waited for, and entered with a password that fits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from core.access.locate import Place, locate, refuse_secondary, with_password_at, with_secret
from core.access.naming import find
from core.actions.run import Run
from core.budget import pauses
from core.decisions.eligibility import BEING_MADE
from core.decisions.patience import FULL, inside_seconds, is_rds_at_it
from core.errors import (
    AccessDenied,
    AwaitsPerson,
    InstanceNotReady,
    LockBusy,
    MigrationError,
    NoSuchInstance,
    NotReady,
    OutOfReach,
    Unreachable,
    WrongPassword,
)
from core.postgres.blockers import writers
from core.postgres.connecting import connect
from core.postgres.lock import acquire_lock
from core.postgres.refusals import translating
from core.postgres.session import DriverError, Session, is_broken
from core.postgres.writer import not_writer, takes_writes

logger = logging.getLogger(__name__)


@contextmanager
def entered(run: Run, *, alone: bool = False) -> Iterator[tuple[Place, Session]]:
    """
    Find the database of *run* and hold a session with it, waiting for what is not there yet.

    What PostgreSQL refuses inside, outside a revision, is raised as what it means. *alone* holds
    the lock too, which only a server that takes writes gives.

    Raises:
        NotReady: It is not there, and whoever asked does not wait inside for any longer.
        LockBusy: Another run holds the lock, or somebody else what is needed.
    """
    place, session = _enter(run, alone=alone)
    if place.warning:
        logger.warning(place.warning)
    with closing(session):
        try:
            with translating(place.database):
                yield place, session
        except NotReady:
            run.is_cut = is_broken(session)
            raise
        except LockBusy as error:
            if not isinstance(error.__cause__, DriverError) or not session.is_idle:
                raise
            who = writers(session)
            raise LockBusy(f"{error}; it is one of {who}" if who else str(error)) from error


def _enter(run: Run, *, alone: bool) -> tuple[Place, Session]:
    is_first, begun = True, run.budget.left()
    for pause in pauses(0.2, 15.0):
        place: Place | None = None
        try:
            place = _locate(run)
            run.report.instance = place.name
            run.report.database = place.database.name
            if place.warning and place.warning not in run.report.warnings:
                run.report.warnings.append(place.warning)
            if place.managed is not None:
                run.report.resource_id = place.managed.resource_id
            return place, _connect(place, run, alone=alone)
        except (AwaitsPerson, OutOfReach):
            raise
        except NotReady as error:
            silent = None if isinstance(error, InstanceNotReady) else place
            if silent is not None and is_first:
                is_first = False
                refuse_secondary(silent, run.request, run.cloud)
            left = run.budget.left()
            is_late = left < pause + run.settings.minimum_slice_seconds
            sleeps = place is not None and place.managed is not None and place.managed.sleeps
            patience = inside_seconds(
                run.request, sleeps=sleeps, has_begun=run.first_row is not None
            )
            if is_late or begun - left + pause > patience:
                if silent is not None:
                    _wait_for_the_writer(run, silent)
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


def _wait_for_the_writer(run: Run, place: Place) -> None:
    """
    Have a cluster waited for as an instance is, whose own writer RDS is still making.

    Raises:
        InstanceNotReady: So it is.
    """
    writer = place.managed.writer if place.managed else None
    if writer is None:
        return
    try:
        status = run.cloud.instance(writer).status
    except NoSuchInstance:
        return
    if status in BEING_MADE:
        raise InstanceNotReady(f"{place.name} has no writer yet: {writer} is {status}")


def _connect(place: Place, run: Run, *, alone: bool) -> Session:
    """Connect, and take the lock where *alone*."""
    session = _connect_or_explain(place, run)
    if alone:
        try:
            with translating(place.database):
                acquire_lock(session, run.budget, wait_seconds=run.settings.lock_wait_seconds)
        except BaseException:
            session.close()
            raise
    return session


def _connect_or_explain(place: Place, run: Run) -> Session:
    """Connect; where that cannot be, say what RDS is doing, or whose groups are in the way."""
    try:
        return connect_to(place, run)
    except NotReady as error:
        status = place.managed.status if place.managed else ""
        if is_rds_at_it(status):
            raise InstanceNotReady(f"{error}; {place.name} is {status}") from error
        if status == FULL:
            raise AwaitsPerson(f"{error}; {place.name} is {FULL}: give it more storage") from error
        groups = place.managed.security_groups if place.managed else ()
        if not groups or not isinstance(error, Unreachable):
            raise
        ours = run.settings.security_group_ids or "the function's"
        asleep = ", and may be asleep" if place.managed and place.managed.sleeps else ""
        raise Unreachable(
            f"{error}; {place.name} is {status}{asleep}, so let its "
            f"security group {', '.join(groups)} admit {ours} on port {place.database.port}"
        ) from error


def connect_to_writer(place: Place, run: Run) -> Session:
    """Connect as ``connect_to`` does, and refuse a server that takes no writes."""
    session = connect_to(place, run)
    try:
        with translating(place.database):
            if not takes_writes(session):
                raise not_writer(session)
    except MigrationError:
        session.close()
        raise
    return session


def connect_to(place: Place, run: Run) -> Session:
    """
    Connect; with a password that was just rotated away, try the current and the next one.

    A master that takes no token is entered by its secret: tokens are preferred, no more.
    """

    def attempt(there: Place) -> Session:
        return connect(
            there.database,
            relation_lock_timeout_ms=run.settings.relation_lock_timeout_ms,
            timeout_seconds=run.budget.left(),
        )

    try:
        return attempt(place)
    except WrongPassword as error:
        if place.secret is None:
            return attempt(_by_secret(place, run, error))
        for stage in ("AWSCURRENT", "AWSPENDING"):
            other = with_password_at(place, run.cloud, stage)
            if other is None:
                continue
            try:
                return attempt(other)
            except WrongPassword:
                continue
        raise


def _by_secret(place: Place, run: Run, refused: WrongPassword) -> Place:
    """
    Return *place* by its master secret, since its master is one of those who enter with a password.

    Raises:
        AccessDenied: It has none.
    """
    user = place.database.user
    other = with_secret(place, run.cloud, run.settings)
    if other is None:
        raise AccessDenied(
            f"{place.name} takes passwords only from {user} (28P01), and a token was given: GRANT "
            f"rds_iam TO {user}, or name its master secret: let RDS manage it, tag the instance "
            f"{run.settings.prefix}:secret, or set the parameter MasterSecretName"
        ) from refused
    run.warn(
        f"{place.name} took no token from {user} and is entered by its master secret: GRANT "
        f"rds_iam TO {user}, or set the parameter IamAuthentication to false"
    )
    return other
