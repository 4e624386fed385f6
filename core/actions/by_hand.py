"""
What only a person may ask for: going back, and saying where a database stands.

Each is a direct request, refused unless the function's parameter AllowRollback is set, and
names the revision that it starts from, so that it does what its sender saw and no more.
"""

from __future__ import annotations

import logging

from core.access.locate import Place
from core.actions.apply import apply
from core.actions.keeping import keep, look_up_keeper, refuse_anothers
from core.actions.logins import passwords_of
from core.actions.recorded import recorded
from core.actions.run import Run
from core.actions.takeover import is_of_our_making
from core.actions.writer import at_the_writer, entered_alone
from core.decisions.keeper import Keeper
from core.decisions.plan import known_current, plan_rollback
from core.decisions.target import declared_target
from core.errors import InvalidField, Rejected, UnknownRevision
from core.model import HEAD, Result, TargetSource
from core.outcome import Outcome
from core.postgres.roles import role_exists, set_password
from core.postgres.session import DriverError, Session, is_broken, query
from core.revisions import history
from core.revisions.books import SCHEMA, VERSION_TABLE
from core.revisions.history import Position
from core.revisions.marks import TAKEN_OVER, mark_role
from core.revisions.promises import PromisedRole
from core.settings import target_parameter

logger = logging.getLogger(__name__)

BASE = "base"

_PLAIN_TABLE = """
SELECT pg_get_userbyid(relowner), pg_get_userbyid(relowner) = current_user,
    relkind = 'r' AND NOT relrowsecurity AND NOT relhasrules AND NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attgenerated <> ''
    )
FROM pg_class AS c WHERE c.oid = 'public.alembic_version'::regclass
"""


def rollback(run: Run) -> Result:
    """Go back to an exact earlier revision, one downgrade and one transaction each."""
    _checked(run)
    return at_the_writer(run, _roll_back)


def stamp(run: Run) -> Result:
    """
    Record that the database is at a revision, without running anything.

    Stamping the current revision records its file's checksum anew: the way out where a
    file was changed on purpose.
    """
    _checked(run)
    return at_the_writer(run, _stamp)


def adopt(run: Run) -> Result:
    """
    Take over a database that another stack keeps, an older tool migrated, or a stamp told of.

    Of an older tool's, what ``public.alembic_version`` says is copied and never moved. The
    logins that are not ours yet get new passwords: theirs are in files or secrets of others.
    """
    _checked(run)
    return at_the_writer(run, _adopt)


def _roll_back(run: Run) -> Result:
    target = str(run.request.target)
    with entered_alone(run) as (place, session, at):
        is_done = _is_done(run, session, at)
        if not is_done:
            _check_position(run, session, at)
            refuse_anothers(run, place, session, at)
            history.refuse_another(history.rows(session), run.revisions.history, at.current)
            todo = plan_rollback(run.revisions.identifiers, at.current, target)
            _check_declared(run, place, at.current, target)
            run.report.pending = list(todo.revisions)
            for identifier in todo.revisions:
                description = run.revisions.descriptions[identifier]
                about = {"revision": identifier}
                logger.info("%s: will be rolled back (%s)", identifier, description, extra=about)
            keep(run, place, session)
            with recorded(run, session, todo):
                last_row = run.first_row or 0
                is_done = apply(run, place, session, todo, last_row=last_row, upward=False)
    if not is_done:
        message = (
            f"Rolled back {len(run.report.applied)} migration(s), to {run.report.final_revision};"
            " the time budget ended: send the request again with that from_revision"
        )
        return Result(Outcome.INCOMPLETE, message, run.report)
    message = f"Rolled back {len(run.report.applied)} migration(s) to {target}"
    logger.info("%s: %s", message, ", ".join(run.report.applied))
    return Result(Outcome.APPLIED, message, run.report)


def _stamp(run: Run) -> Result:
    target = str(run.request.target)
    with entered_alone(run) as (place, session, at):
        if not _is_done(run, session, at):
            _check_position(run, session, at)
            refuse_anothers(run, place, session, at)
            if target not in run.revisions.identifiers:
                raise UnknownRevision(target, run.revisions.identifiers)
            _check_declared(run, place, at.current, target)
            applied = run.revisions.up_to(target)
            missing = _missing(run, session, applied)
            if missing:
                run.report.warnings.append(
                    f"the database lacks {', '.join(missing)}, which its revisions up to {target} "
                    "promise: send the action check"
                )
            keep(run, place, session)
            # Every file up to there is vouched for by whoever stamps.
            _record(run, session, applied, "stamp", at)
        # Nothing of them was run.
        run.report.applied = []
    was_at = run.report.previous_revision or BASE
    message = f"Stamped {place.name}: it was at {was_at}, and is at {target}"
    logger.info(message)
    return Result(Outcome.APPLIED, message, run.report)


def _adopt(run: Run) -> Result:
    target = str(run.request.target)
    with entered_alone(run) as (place, session, at):
        if not _is_done(run, session, at):
            _take_over(run, place, session, at, target)
    message = f"Adopted {place.name} at {target}; its logins have new passwords in Secrets Manager"
    logger.info(message)
    return Result(Outcome.APPLIED, message, run.report)


def _take_over(run: Run, place: Place, session: Session, at: Position, target: str) -> None:
    _check_position(run, session, at)
    is_anothers = look_up_keeper(run, place, session, at) is Keeper.ANOTHER
    if at.current is None:
        found = _foreign_revision(run, session, place)
        where = "public.alembic_version"
    else:
        found, where = at.current, f"{SCHEMA}.{VERSION_TABLE}"
    roles = [
        role
        for role in run.promises.up_to(run.revisions.up_to(found)).roles
        if role_exists(session, role.name)
        and (at.current is None or is_anothers or not _is_ours(session, role))
    ]
    if at.current is not None and not is_anothers and not roles:
        raise Rejected(f"{place.name} is managed already, at {at.current}: nothing to adopt")
    if found != target:
        raise InvalidField("target_revision", f"{where} says {found}", "name that revision")
    _check_declared(run, place, at.current, target)
    applied = run.revisions.up_to(target)
    _check_objects(run, session, applied)
    keep(run, place, session)
    passwords = passwords_of(run, place)
    for role in roles:
        if role.login == "password":
            known = passwords.password(role.name, role_exists=True)
            set_password(session, role.name, known.password)
            logger.info("login %s has a password of its own now", role.name)
    passwords.settle()
    for role in roles:
        mark_role(session, role.name, TAKEN_OVER)
    _record(run, session, applied, "adopt", at)


def _checked(run: Run) -> None:
    """
    Check that the request is allowed, and names an exact target and start.

    Raises:
        Rejected: It is not, or does not.
    """
    request = run.request
    if not run.settings.allow_rollback:
        raise Rejected(
            f"action: {request.action.value} is not allowed by this function: "
            "set its parameter AllowRollback to true for as long as you need it"
        )
    if request.target is None or request.target == HEAD:
        raise InvalidField(
            "target_revision", "is missing, or not an exact revision", "name one exact revision"
        )
    if request.from_revision is None:
        raise InvalidField(
            "from_revision", "is missing", f"give the revision that status shows, or {BASE!r}"
        )
    run.report.target_revision = request.target
    run.report.target_source = TargetSource.REQUEST


def _is_done(run: Run, session: Session, at: Position) -> bool:
    """Say whether the run did all of it before it had to go on at another server."""
    return at.current == run.request.target and _was_us(run, session)


def _was_us(run: Run, session: Session) -> bool:
    """Say whether the database is where this run has brought it, and nobody else since."""
    if not run.is_moved:
        return False
    since = history.rows(session, after=run.first_row or 0)
    return bool(since) and all(row.request_id == run.request_id for row in since)


def _check_position(run: Run, session: Session, at: Position) -> None:
    """
    Check that the database is where the request says it is, or where this run has brought it.

    Raises:
        InvalidField: It is not.
    """
    known_current(run.revisions.identifiers, at.current)
    if run.request.from_revision != (at.current or BASE) and not _was_us(run, session):
        raise InvalidField(
            "from_revision",
            f"the database is at {at.current or BASE}, not at {run.request.from_revision}",
            "give the revision that status shows",
        )


def _check_declared(run: Run, place: Place, current: str | None, target: str) -> None:
    """
    Refuse a change that the next sweep would undo, or that it could not go on from.

    Where nobody declared a target, no event moves a database that is past base. A declared one
    that is newer takes it further, from where it was said to be; back is another direction.
    """
    if place.managed is None:
        return
    declared = run.declared(place.name)
    if declared is not None:
        goal, kind = declared_target(declared).target, "declared target"
    elif run.settings.follow_head:
        goal, kind = HEAD, "target (by FollowHead)"
    else:
        return
    identifiers = run.revisions.identifiers
    wanted = identifiers.index(target)
    is_newer = goal == HEAD or goal in identifiers[wanted:]
    goes_back = current is not None and wanted < identifiers.index(current)
    if goal != target and (goes_back or not is_newer):
        raise Rejected(
            f"target_revision: the {kind} of {place.name} is {goal}, and the next sweep "
            f"would go by it: write {target} to "
            f"{target_parameter(run.settings.prefix, place.name)} first"
        )


def _foreign_revision(run: Run, session: Session, place: Place) -> str:
    """
    Return the one revision in ``public.alembic_version``, if it can only be ours.

    To read what somebody else owns can run his code as us: a view, a rule, a policy. So the
    table is locked first, which runs nothing, and read only if it is a plain one of ours.
    """
    if query(session, "SELECT to_regclass('public.alembic_version')")[0][0] is None:
        raise Rejected(f"{place.name} has no public.alembic_version: there is nothing to adopt")
    session.autocommit = False
    try:
        rows = _rows_of_a_plain_table(session)
    finally:
        session.rollback()
        session.autocommit = True
    if len(rows) != 1:
        raise Rejected(
            f"public.alembic_version of {place.name} holds {len(rows)} revisions, not one: "
            "another tool's history branches, and ours does not"
        )
    found = str(rows[0][0])
    if found not in run.revisions.identifiers:
        raise Rejected(
            f"public.alembic_version of {place.name} says {found}, so it is another tool's table, "
            "such as an application's own: day2 leaves it as it is. Say by the action stamp where "
            "the database stands, or deploy the build that has this revision if it is one of ours"
        )
    # An application's Alembic makes its tables as the role that owns its version table.
    others = query(
        session,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND relname <> 'alembic_version' AND relowner ="
        " (SELECT relowner FROM pg_class WHERE oid = 'public.alembic_version'::regclass)"
        " ORDER BY relname LIMIT 3",
    )
    if others:
        names = ", ".join(name for (name,) in others)
        raise Rejected(
            f"public.alembic_version of {place.name} may be an application's own: its owner has "
            f"{names} there too; stamp the database instead, if you know better"
        )
    return found


def _rows_of_a_plain_table(session: Session) -> list[tuple[object, ...]]:
    """Read ``public.alembic_version`` in the transaction that is open, if that runs nothing."""
    # What cannot be locked is told in our words; what was looked at before the lock may be another.
    _refuse_what_may_run(session)
    query(session, "LOCK TABLE ONLY public.alembic_version IN ACCESS SHARE MODE")
    _refuse_what_may_run(session)
    return query(session, "SELECT version_num FROM ONLY public.alembic_version")


def _refuse_what_may_run(session: Session) -> None:
    """
    Refuse a ``public.alembic_version`` whose reading could run somebody's code.

    Raises:
        Rejected: It is another's, or not a plain table.
    """
    ((owner, is_ours, is_plain),) = query(session, _PLAIN_TABLE)
    if not is_ours:
        raise Rejected(
            f"public.alembic_version belongs to {owner}, so it is not read: look at it, and hand "
            "it over to the master (ALTER TABLE … OWNER TO), or stamp the database"
        )
    if not is_plain:
        raise Rejected(
            "public.alembic_version is more than a plain table (a view, a rule, a policy or a "
            "computed column), so it is not read: stamp the database instead"
        )


def _is_ours(session: Session, role: PromisedRole) -> bool:
    return is_of_our_making(session, role.name, role.since)


def _check_objects(run: Run, session: Session, applied: tuple[str, ...]) -> None:
    """Refuse to adopt a database that lacks what the revisions promise."""
    missing = _missing(run, session, applied)
    if missing:
        raise Rejected(
            f"the database lacks {', '.join(missing)}, which revision {applied[-1]} promises: "
            "it was not migrated by this history"
        )


def _missing(run: Run, session: Session, applied: tuple[str, ...]) -> list[str]:
    """Return the roles, schemas and tables that the revisions *applied* promise, and are not."""
    promised = run.promises.up_to(applied)
    return [
        f"{kind} {thing.name}"
        for kind, lookup, things in (
            ("role", "to_regrole", [role for role in promised.roles if not role.is_internal]),
            ("schema", "to_regnamespace", promised.schemas),
            ("table", "to_regclass", promised.tables),
        )
        for thing in things
        if query(session, f"SELECT {lookup}(%s)", (thing.name,))[0][0] is None
    ]


def _record(
    run: Run, session: Session, applied: tuple[str, ...], direction: str, at: Position
) -> None:
    """Write the current revision and the history rows that say how it came, in one transaction."""
    values = [
        (one, run.revisions.descriptions[one], run.revisions.checksums[one]) for one in applied
    ]
    try:
        history.record_by_hand(
            session,
            values,
            direction=direction,
            previous=at.current,
            trigger=run.request.trigger.value,
            request_id=run.request_id,
        )
    except DriverError:
        if is_broken(session):
            run.report.final_revision = None
            run.report.details["unknown"] = "the connection broke as it was recorded"
        raise
    run.report.applied = list(applied)
    run.report.final_revision = history.position(session).current
