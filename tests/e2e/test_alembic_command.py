"""The plain ``alembic`` command against an instance: env.py's own path, and the function after."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.account import ROOT, Account

NAME = "by-hand"


@pytest.fixture(scope="module", autouse=True)
def instance(account: Account) -> Iterator[None]:
    """Make an instance that no event touches."""
    account.create(NAME, tagged=False)
    account.has_become(NAME, "available")
    yield
    account.remove(NAME)


def test_upgrade_by_url_is_as_good_as_a_run(account: Account) -> None:
    """The same history and the same secrets: the function finds nothing left to do."""
    assert alembic(account, "current").stdout == ""

    upgraded = alembic(account, "-x", f"instance={NAME}", "upgrade", "head")

    assert upgraded.returncode == 0, upgraded.stderr
    assert alembic(account, "current").stdout.split() == ["004", "(head)"]
    for login in ("app_user", "analytics_user", "backup_user"):
        secret = account.secret(f"day2/{NAME}/{login}")
        row = account.query(NAME, "SELECT session_user::text", secret)
        assert row == (login,)
        assert secret["password"] not in upgraded.stdout + upgraded.stderr
    status = account.ask(instance=NAME, action="status")
    assert {row["by"].split()[0] for row in status["history"]} == {"command"}
    assert account.ask(instance=NAME, target_revision="head")["outcome"] == "UP_TO_DATE"


def test_server_with_an_unknown_certificate_is_refused(account: Account) -> None:
    """The environment that `make env` prints asks for verified TLS, and libpq holds to it."""
    refused = alembic(account, "current", PGSSLROOTCERT="system")

    assert refused.returncode != 0
    assert "certificate verify failed" in refused.stderr


def alembic(account: Account, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would after ``eval "$(make -s env)"``."""
    login, endpoint = account.master(NAME), account.has_become(NAME, "available")["Endpoint"]
    url = (
        f"postgresql://{login['username']}:{quote(login['password'], safe='')}"
        f"@{endpoint['Address']}:{endpoint['Port']}/shop"
    )
    return subprocess.run(
        [Path(sys.executable).with_name("alembic"), *words],
        cwd=ROOT,
        env=os.environ | account.aws.environment() | {"DATABASE_URL": url} | more,
        capture_output=True,
        text=True,
        check=False,
    )
