"""Whose a database is: looked up before anything is done to it, and written down when it is."""

from __future__ import annotations

import logging

from core.access.locate import Place
from core.actions.run import Run
from core.actions.takeover import was_made
from core.decisions.keeper import Keeper, keeper
from core.errors import ManagedByAnother
from core.postgres.roles import role_exists
from core.postgres.session import Session
from core.revisions import books
from core.revisions.history import Position
from core.revisions.marks import MADE, mark_role

logger = logging.getLogger(__name__)


def look_up_keeper(run: Run, place: Place, session: Session, at: Position) -> Keeper:
    """
    Return whose the database is, and note where its logins' secrets are.

    A database keeps the folder of its secrets when its instance is renamed; a restored copy
    gets one of its own.
    """
    # Anew at each server: after a failover it may be without them.
    run.book = books.read(session) if at.last_row else None
    book = run.book or books.Book(books.VERSION)
    verdict = keeper(
        book.keeper,
        book.dbi_resource_id,
        stack=run.settings.prefix,
        instance=_resource_id(place),
    )
    run.is_copy = verdict is Keeper.A_COPYS
    if verdict is Keeper.OURS:
        run.secret_folder = book.secret_folder
    return verdict


def refuse_anothers(run: Run, place: Place, session: Session, at: Position) -> None:
    """
    Refuse a database that another stack keeps.

    Raises:
        ManagedByAnother: It does; the error says how to hand the database over.
    """
    if look_up_keeper(run, place, session, at) is Keeper.ANOTHER:
        raise ManagedByAnother(place.name, str(run.book and run.book.keeper), at.current)


def keep(run: Run, place: Place, session: Session) -> None:
    """
    Bring the books up to date, close them to others, and write that this stack keeps the database.

    Where they were read under the lock, which nobody else has had since, that is not done again.

    A copy whose logins are left stays its original's by its books, so that the first run for
    a target of its own knows it for what it is.
    """
    book = run.book
    if book is None or book.version < books.VERSION or book.is_open:
        books.bring_up(session)
        book = books.read(session)
    if run.leaves_logins:
        return
    if book.keeper is None:
        _mark_roles(run, session)
    ours = (run.settings.prefix, _resource_id(place), run.folder_at(place.name))
    if (book.keeper, book.dbi_resource_id, book.secret_folder) != ours:
        books.keep(session, *ours)
        logger.info("%s is kept by the stack %s from now on", place.name, run.settings.prefix)


def _mark_roles(run: Run, session: Session) -> None:
    """Mark the roles that an earlier build made, at its first run by this one."""
    for role in run.promises.up_to(run.revisions.up_to(run.report.final_revision)).roles:
        if role_exists(session, role.name) and was_made(session, role.since):
            mark_role(session, role.name, MADE)


def _resource_id(place: Place) -> str | None:
    return place.managed.resource_id if place.managed else None
