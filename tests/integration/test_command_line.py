"""The plain ``alembic`` command, as any user of Alembic would try it on our history."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg2.extensions import encrypt_password
from sqlalchemy import URL

from core.operations.roles import VERIFIER_PLACEHOLDER
from core.postgres.session import query
from core.settings import ROOT
from infra import new_migrations
from infra.trial.catalogue import catalogue
from tests.equipment import preloaded
from tests.equipment.histories import copy_of_ours, history_of
from tests.equipment.single import programs  # noqa: F401
from tests.equipment.site import DATABASE, HEAD_LOGINS, INSTANCE, REVISIONS, Site, make_empty

HEAD_LOGIN_PASSWORD = "made by hand"


def alembic(
    *arguments: str,
    folder: Path = ROOT,
    variables: Mapping[str, str] | None = None,
    run: Callable[..., subprocess.CompletedProcess[str]] = preloaded.run,
) -> subprocess.CompletedProcess[str]:
    """Run the command in *folder*, where AWS is nowhere to be found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONPATH": str(ROOT),
    }
    return run("alembic", *arguments, cwd=folder, env=kept | nowhere | (variables or {}))


def run_anew(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run *module* in an interpreter that has loaded nothing, as a person does."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def url_of(site: Site) -> str:
    """Return the URL of the database, as a user would write it: no driver named."""
    url = URL.create(
        "postgresql",
        site.master,
        site.server.master_password,
        site.server.host,
        site.server.port,
        DATABASE,
        {"sslmode": "verify-full", "sslrootcert": str(site.ca_file)},
    )
    return url.render_as_string(hide_password=False)


def test_history_lists_the_revisions(tmp_path: Path) -> None:
    """``alembic history`` needs no database, and shows each revision's description."""
    copy_of_ours(tmp_path, versions=True)

    shown = alembic("history", folder=tmp_path)

    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert [line.partition(", ")[2] for line in lines] == [
        revision.description for revision in reversed(REVISIONS.history)
    ]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("history",), 0, "<base> -> 001 (head), First role\n"),
        (("revision", "-m", "Second"), 0, "Generating {folder}/versions/002_second.py"),
        (("revision", "--autogenerate"), 255, "FAILED: there are no models of tables"),
        (("merge", "heads"), 255, "FAILED: our history is one line"),
        (("history", "-i"), 1, "no database: give -x url="),
    ],
)
def test_the_folder_that_is_named_is_meant(
    tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    """Also where no database is asked; none is written where it would be no revision of it."""
    folder = new_migrations.make(str(tmp_path / "acme"))
    more = ("--rev-id", "002") if "-m" in words else ()

    done = alembic(*words, *more, variables={"MIGRATIONS": str(folder)})

    assert done.returncode == status
    assert (done.stdout + done.stderr).startswith(said.format(folder=folder))
    assert len(list((folder / "versions").glob("*.py"))) == 1 + bool(more)


def test_database_that_is_not_named_is_asked_for() -> None:
    """Without a URL the command says how to give one, in one line."""
    refused = alembic("current")

    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "no database: give -x url=postgresql://… or set DATABASE_URL"
    )


def test_current_tells_the_revision_and_changes_nothing(site: Site) -> None:
    """``alembic current`` takes the URL as an option, and writes nothing."""
    site.run(target="002")
    before = site.next_transaction()

    shown = alembic("-x", f"url={url_of(site)}", "current")

    assert (shown.returncode, shown.stdout) == (0, "002\n")
    assert site.next_transaction() == before


def test_current_of_an_empty_database_is_nothing(site: Site) -> None:
    """A database that was never migrated is at no revision; the URL may be in the environment."""
    shown = alembic("current", variables={"DATABASE_URL": url_of(site)})

    assert (shown.returncode, shown.stdout) == (0, "")
    assert site.query("SELECT to_regnamespace('day2')::text") == [(None,)]


def test_script_brings_an_empty_database_to_head(site: Site) -> None:
    """
    ``alembic upgrade head --sql`` writes all that a run does.

    But for the logins' verifiers, for which it has placeholders to fill in.
    """
    site.run()
    at_head = catalogue(site.server, DATABASE)
    history = "SELECT revision, direction, description, checksum FROM day2.history ORDER BY id"
    rows = site.query(history)
    make_empty(site.server)

    script = alembic("upgrade", "head", "--sql", run=run_anew)
    with closing(site.login(site.master)) as session:
        text = script.stdout
        for user in HEAD_LOGINS:
            made = encrypt_password(HEAD_LOGIN_PASSWORD, user, session, "scram-sha-256")
            text = text.replace(VERIFIER_PLACEHOLDER, made, 1)
        query(session, text)

    assert script.returncode == 0
    assert VERIFIER_PLACEHOLDER not in text
    assert catalogue(site.server, DATABASE) == at_head
    assert site.query(history) == rows
    assert site.query("SELECT version_num FROM day2.alembic_version") == [("004",)]
    for user in HEAD_LOGINS:
        site.cloud.secrets[f"day2/{INSTANCE}/{user}"]["password"] = HEAD_LOGIN_PASSWORD
        assert site.query("SELECT session_user", user=user) == [(user,)]


def test_script_says_what_it_cannot_know() -> None:
    """Each login of the script has a note, and no verifier and no password was made for it."""
    script = alembic("upgrade", "head", "--sql").stdout

    notes = re.findall(r"^-- note: .*$", script, re.MULTILINE)
    assert notes == [
        f"-- note: the password of {user} depends on the database and on Secrets Manager"
        for user in ("app_user", "analytics_user", "backup_user")
    ]
    assert "SCRAM-SHA-256$" not in script


def test_upgrade_without_secrets_manager_fails_and_changes_nothing(site: Site) -> None:
    """With nowhere to keep a password no login is made; the message names what is missing."""
    failed = alembic("-x", f"url={url_of(site)}", "upgrade", "head")

    assert failed.returncode != 0
    assert failed.stderr.splitlines()[-1] == (
        "ERROR   revision 001 failed: secretsmanager:GetSecretValue for secret"
        " day2/localhost/app_user failed: NoRegionError"
    )
    assert "Traceback" not in failed.stderr
    assert site.server.master_password not in failed.stderr + failed.stdout
    assert site.query("SELECT version_num FROM day2.alembic_version") == []
    assert site.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'app%'") == []


def test_upgrade_and_downgrade_by_hand_are_in_the_history(site: Site, tmp_path: Path) -> None:
    """The command makes schema day2 and writes its history, as a run by the function does."""
    history_of(tmp_path, {"a1": "operations.role('one')"}, {"a1": "operations.drop_role('one')"})

    url = f"url={url_of(site)}"
    upgraded = alembic("-x", url, "upgrade", "head", folder=tmp_path, run=run_anew)
    downgraded = alembic("-x", f"url={url_of(site)}", "downgrade", "base", folder=tmp_path)

    assert (upgraded.returncode, downgraded.returncode) == (0, 0)
    rows = site.query(
        "SELECT revision, direction, description, trigger, applied_by FROM day2.history ORDER BY id"
    )
    assert rows == [
        ("a1", "upgrade", "Revision a1", "command", "postgres"),
        ("a1", "downgrade", "Revision a1", "command", "postgres"),
    ]


def test_new_revision_is_a_working_skeleton(tmp_path: Path) -> None:
    """``alembic revision`` writes a numbered file in the house style, behind the head."""
    copy_of_ours(tmp_path, versions=True)

    made = alembic("revision", "-m", "Tidy up", "--rev-id", "005", folder=tmp_path)
    heads = alembic("heads", folder=tmp_path)

    file = tmp_path / "alembic" / "versions" / "005_tidy_up.py"
    assert made.returncode == 0
    assert heads.stdout == "005 (head)\n"
    assert "Tidy up" in file.read_text()


def test_wrong_password_on_the_command_line_is_not_shown(site: Site) -> None:
    """A refused password is in no line that the command prints."""
    url = url_of(site).replace("master", "guessed")

    refused = alembic("-x", f"url={url}", "current")

    assert refused.returncode != 0
    assert "password authentication failed" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "guessed" not in refused.stderr + refused.stdout


def test_server_elsewhere_is_verified(site: Site) -> None:
    """Without a word on TLS the command trusts RDS's authorities only, and less is refused."""
    password = quote(site.server.master_password, safe="")
    port = site.server.port
    hosts = f"host=localhost:{port}&host=elsewhere.invalid:{port}"
    elsewhere = f"postgresql://postgres:{password}@/{DATABASE}?{hosts}"

    unknown, known, less, here = (
        alembic("current", variables={"DATABASE_URL": url})
        for url in (
            elsewhere,
            f"{elsewhere}&sslrootcert={site.ca_file}",
            f"{elsewhere}&sslmode=require",
            f"postgresql://postgres:{password}@localhost:{port}/{DATABASE}",
        )
    )

    assert unknown.returncode != 0
    assert "certificate verify failed" in unknown.stderr
    assert known.returncode == 0, known.stderr
    assert less.returncode != 0
    assert "sslmode=require: anybody on the way could be that server" in less.stderr
    assert here.returncode == 0, here.stderr


def test_nothing_of_a_stranger_is_read(site: Site) -> None:
    """Whose schema day2 is, is known before any command reads in it."""
    site.query(
        "CREATE ROLE mallory LOGIN; CREATE SCHEMA day2 AUTHORIZATION mallory;"
        "CREATE VIEW day2.alembic_version AS"
        " SELECT set_config('day2.read', 'yes', false)::varchar(32) AS version_num, 1/0 AS now;"
        "ALTER VIEW day2.alembic_version OWNER TO mallory;"
        "GRANT USAGE ON SCHEMA day2 TO PUBLIC; GRANT SELECT ON day2.alembic_version TO PUBLIC"
    )
    for words in (("current",), ("check",), ("upgrade", "head"), ("stamp", "001")):
        refused = alembic("-x", f"url={url_of(site)}", *words)

        assert refused.returncode != 0
        assert "schema day2 belongs to mallory" in refused.stderr
        assert "division by zero" not in refused.stderr
