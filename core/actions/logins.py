"""The passwords of logins, brought in line with the database: after each commit and each run."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import chain

from core.access.locate import Place
from core.access.login_passwords import LoginPasswords, Passwords
from core.actions.entry import connect_to
from core.actions.run import Run
from core.actions.takeover import is_of_our_making
from core.decisions.eligibility import Verdict, eligibility
from core.errors import (
    AccessDenied,
    MigrationError,
    NotFound,
    NotReady,
    Rejected,
    RevisionFailed,
    WrongPassword,
)
from core.model import Trigger
from core.postgres.connecting import connect
from core.postgres.refusals import translating
from core.postgres.roles import role_exists, set_password
from core.postgres.session import Session, query

logger = logging.getLogger(__name__)


def passwords_of(run: Run, place: Place) -> Passwords:
    """Return where the passwords of the logins at *place* are kept."""
    resource_id = place.managed.resource_id if place.managed else None
    return LoginPasswords(
        run.cloud,
        run.folder_at(place.name),
        run.settings.prefix,
        place.address,
        resource_id=resource_id,
        user_of=cache(partial(_user_of, run)),
    )


def _user_of(run: Run, resource_id: str) -> str | None:
    """
    Return which instance or cluster has *resource_id*, if there is one that this stack migrates.

    One that was untagged, stopped or replaced by a switchover leaves its secrets to who took its
    name.
    """
    for one in chain(run.cloud.instances(), run.cloud.clusters()):
        if one.resource_id == resource_id:
            is_left = eligibility(one, run.settings).verdict is Verdict.SKIP
            return None if is_left else f"{one.kind} {one.identifier}"
    return None


def settle(passwords: Passwords) -> None:
    """Settle the passwords of a committed revision; the next run does it where this fails."""
    try:
        passwords.settle()
    except MigrationError:
        logger.exception(
            "a login's secret stays tagged as unset: the next run sets its password again"
        )


def prove_entry(
    run: Run, place: Place, session: Session, logins: Collection[str], *, revision: str
) -> None:
    """
    Prove that the master still enters, now that *revision* made *logins* that enter by IAM.

    RDS wants a token of whoever is a member of ``rds_iam``, by whatever chain; which chains
    it counts is not in our hands (infra/AWS.md). *session* is open still, so what locked the
    master out can be undone over it.

    Raises:
        RevisionFailed: The master was locked out; ``rds_iam`` is taken from *logins* again.
    """
    names = ", ".join(sorted(logins))
    try:
        connect_to(place, run).close()
    except AccessDenied as error:
        undone = "rds_iam could not be revoked: revoke it at once"
        with suppress(MigrationError), translating(place.database):
            for login in sorted(logins):
                query(session, f'REVOKE rds_iam FROM "{login}"')
            connect_to(place, run).close()
            undone = "rds_iam was revoked, and the master enters again"
        raise RevisionFailed(
            f"revision {revision} is committed, and its login {names} by IAM locked the master "
            f"out ({error}): {undone}; take {names} from every role of the master "
            "(infra/AWS.md)",
            revision=revision,
        ) from error
    except NotReady as error:
        run.warn(f"could not prove that the master enters beside {names}: {error}")
    else:
        logger.info("the master enters, beside the login %s by IAM", names)


def refused_logins(run: Run, place: Place, logins: Iterable[str]) -> Iterator[tuple[str, str]]:
    """
    Yield which of *logins* the server refuses with the password of its secret, and the remedy.

    The catalogue hides from all but superusers whether a role has a password at all, so the
    only proof is to log in. What else is in the way of a login is not told here.
    """
    passwords = passwords_of(run, place)
    for login in logins:
        secret = f"{run.folder_at(place.name)}/{login}"
        try:
            password = passwords.current(login)
            connect(
                replace(place.database, user=login, password=password),
                relation_lock_timeout_ms=run.settings.relation_lock_timeout_ms,
                timeout_seconds=run.budget.left(),
            ).close()
        except WrongPassword:
            tag = f"{run.settings.prefix}:unset=true"
            yield login, f"-- tag the secret {secret} {tag}, and run migrate: it sets the password"
        except NotFound:
            yield login, f"-- run migrate: it makes the secret {secret}, and sets the password"
        except Rejected as error:
            yield login, f"-- {error}"
        except MigrationError as error:
            run.warn(f"could not prove that {login} enters: {error}")


def reconcile_logins(run: Run, place: Place, session: Session) -> None:
    """
    Make the password of every login of ours that of its secret, where that is in doubt.

    A database restored from another instance's snapshot has the roles with the other's
    passwords, and none of the secrets. A run that died right after its commit leaves a
    secret that is tagged as unset. A login whose secret is settled is never touched, and
    neither is one that was there before and that nobody told us to take over. Nor are those of
    a copy that nobody gave a target of its own.
    """
    if run.leaves_logins:
        run.warn(
            f"{place.name} is a restored copy without a target of its own: its logins keep their "
            "passwords; to give them others, write its parameter, or send migrate",
        )
        return
    applied = run.revisions.up_to(run.report.final_revision)
    passwords = passwords_of(run, place)
    settled: list[str] = []
    may_have_moved = _may_have_moved(run, place)
    with translating(place.database):
        for login in run.promises.up_to(applied).password_logins:
            if not passwords.needs_setting(login.name):
                if may_have_moved:
                    _move(passwords, login.name)
                continue
            if not role_exists(session, login.name):
                continue
            if not is_of_our_making(session, login.name, login.since):
                _leave_alone(run, login.name)
                continue
            known = passwords.password(login.name, role_exists=True)
            set_password(session, login.name, known.password)
            settled.append(login.name)
            logger.info("login %s has the password of its secret now", login.name)
        passwords.settle()
    if settled:
        run.report.details["settled_logins"] = settled


def lead_to(run: Run, place: Place) -> None:
    """
    Write into the secrets of the logins where their database is now, which is else left alone.

    A new name has no declared target at first, and applications are to find the database by it.
    """
    if run.book is None or run.is_copy or not _may_have_moved(run, place):
        return
    applied = run.revisions.up_to(run.report.final_revision)
    passwords = passwords_of(run, place)
    for login in run.promises.up_to(applied).password_logins:
        if not passwords.needs_setting(login.name):
            _move(passwords, login.name)


def _may_have_moved(run: Run, place: Place) -> bool:
    """Say whether the database may have a new address: by its name, or by what woke the run."""
    # A new name makes a new endpoint, and a restart may be the sign of one.
    woken_by = (Trigger.INSTANCE, Trigger.CLUSTER)
    return run.has_new_name(place.name) or run.request.trigger in woken_by


def _move(passwords: Passwords, login: str) -> None:
    if passwords.move(login):
        logger.info("the secret of login %s has the new address now", login)


def _leave_alone(run: Run, login: str) -> None:
    run.warn(
        f"login {login} was there before, and its password stays as it is: to take it over, "
        "send the action adopt",
    )
