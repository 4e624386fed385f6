"""The passwords of logins, brought in line with the database: after each commit and each run."""

from __future__ import annotations

import logging

from core.access.locate import Place
from core.access.login_passwords import LoginVault, Vault
from core.actions.run import Run
from core.errors import MigrationError
from core.postgres.session import (
    Session,
    role_exists,
    set_password,
    translating,
)

logger = logging.getLogger(__name__)


def vault_of(run: Run, place: Place) -> Vault:
    """Return where the passwords of the logins at *place* are kept."""
    resource_id = place.instance.dbi_resource_id if place.instance else None
    return LoginVault(
        run.cloud,
        run.folder_at(place.name),
        run.settings.prefix,
        place.address,
        resource_id=resource_id,
    )


def settle(vault: Vault) -> None:
    """Settle the passwords of a committed revision; the next run does it where this fails."""
    try:
        vault.settle()
    except MigrationError:
        logger.exception("a login's secret stays tagged as unset: its password is set once more")


def reconcile_logins(run: Run, place: Place, session: Session) -> None:
    """
    Make the password of every promised login that of its secret, where that is in doubt.

    A database restored from another instance's snapshot has the roles with the other's
    passwords, and none of the secrets. A run that died right after its commit leaves a
    secret that is tagged as unset. A login whose secret is settled is never touched.
    """
    applied = run.revisions.up_to(run.report.final_revision)
    vault = vault_of(run, place)
    with translating(place.database):
        for login in run.promises.up_to(applied).password_logins:
            if vault.needs_setting(login) and role_exists(session, login):
                known = vault.password(login, role_exists=True)
                set_password(session, login, known.password)
                logger.info("login %s has the password of its secret now", login)
        vault.settle()
