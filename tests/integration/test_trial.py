"""``make test-migrations``: each fault of a team's revisions is told in the revision's words."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from core.errors import RunFailed
from core.revisions.folder import Folder
from core.revisions.runner import Revisions
from infra.local.postgres.programs import find_programs
from infra.local.postgres.server import Server
from infra.local.processes import is_running, read_pid
from infra.local.state import State
from infra.trial import files, golden
from infra.trial.database import BUDGET_SECONDS, TrialDatabase
from infra.trial.proofs import Proofs
from tests.conftest import ROOT
from tests.equipment import preloaded
from tests.equipment.histories import OURS
from tests.equipment.single import programs  # noqa: F401
from tests.equipment.site import make_empty
from tests.equipment.waiting import PATIENCE_SECONDS, wait_for
from tests.integration.test_command_line import run_anew

SCRIPT = '''"""
Revision {name}

Going back: it goes.
"""

from alembic import op

from core import operations

revision = {name!r}
down_revision = {down!r}


def upgrade() -> None:
    {up}


def downgrade() -> None:
    {back}
'''
ROLE = '[[role]]\nname = "acme_role"\nsince = "a1"\n'
SCHEMA = '[[schema]]\nname = "acme"\nsince = "a1"\nowner = "MASTER"\n'
MADE = ('operations.schema("acme")', 'operations.drop_schema("acme")')
TABLE = (
    'op.execute("CREATE TABLE acme.places (name text)")',
    'op.execute("DROP TABLE acme.places")',
)


# A word of the catalogue, and letters that TOML takes as they are only.
ODD = 'CREATE ROLE "LOGIN"; CREATE ROLE "rôle 😀"; GRANT "LOGIN", "rôle 😀" TO CURRENT_USER'

Prove = Callable[[Folder], tuple[Proofs, dict[str, str]]]


def folder_of(
    path: Path, steps: Mapping[str, tuple[str, str]], promises: str = "", **more: str
) -> Folder:
    """Write a folder of *steps*, upgrade and downgrade by identifier, and *more* files."""
    folder = Folder(path / "acme migrations")
    folder.versions.mkdir(parents=True)
    folder.promises.write_text(promises)
    down = None
    for name, (up, back) in steps.items():
        text = SCRIPT.format(name=name, down=down, up=up, back=back)
        (folder.versions / f"{name}.py").write_text(text)
        down = name
    for name, text in more.items():
        (folder.path / name.replace("__", "/").replace("_dot_", ".")).write_text(text)
    return folder


@pytest.fixture
def faults(server: Server, ca_file: Path) -> Prove:
    """Return what proves a folder, and gives each revision's faults as one text."""

    def prove(folder: Folder) -> tuple[Proofs, dict[str, str]]:
        make_empty(server)
        proofs = Proofs(TrialDatabase(server, ca_file, Revisions(folder=folder)))
        told = {one.revision: "\n".join([*one.faults]) for one in proofs.each()}
        return proofs, told

    return prove


# What a team's revisions do wrong, and what it is told: steps, promises, where, and the words.
WRONG = {
    "a name that is not there": (
        {"a1": ('op.execute("GRANT SELECT ON acme.nothing TO CURRENT_USER")', "pass")},
        "",
        "a1",
        'a1.py:16: revision a1 failed: 3F000 schema "acme" does not exist',
    ),
    "a role without a promise": (
        {"a1": ('operations.role("acme_role")', 'operations.drop_role("acme_role")')},
        "",
        "a1",
        (
            "it makes the role acme_role, which promises.toml does not name: add\n    [[role]]\n"
            '    name = "acme_role"\n    since = "a1"'
        ),
    ),
    "a schema without a promise": (
        {"a1": MADE},
        "",
        "a1",
        "it makes the schema acme, which promises.toml does not name: add\n    [[schema]]",
    ),
    "a promise that is not kept": (
        {"a1": ('op.execute("SELECT 1")', "pass")},
        ROLE,
        "a1",
        "acme_role: it is promised, and does not exist; CREATE ROLE",
    ),
    "a grant beyond the promises": (
        {
            "a1": ('operations.role("acme_role")', 'operations.drop_role("acme_role")'),
            "a2": (
                'op.execute("GRANT CREATE ON DATABASE shop TO acme_role")',
                'op.execute("REVOKE CREATE ON DATABASE shop FROM acme_role")',
            ),
        },
        ROLE,
        "a2",
        "is there, and promises.toml does not say so; REVOKE",
    ),
    "a downgrade that leaves something": (
        {"a1": MADE, "a2": (TABLE[0], "pass")},
        SCHEMA,
        "a2",
        (
            'its downgrade leaves another database than there was before (a comment in it "# test: '
            'leaves …", with the reason, says that this is meant); beside what is expected:\n'
            "    relations\n      + acme.places | table"
        ),
    ),
    "a downgrade that fails": (
        {"a1": MADE, "a2": (TABLE[0], 'op.execute("DROP TABLE acme.place")')},
        SCHEMA,
        "a2",
        'downgrade: a2.py:20: revision a2 failed: 42P01 table "place" does not exist',
    ),
    "what cannot be applied twice": (
        {
            "a1": MADE,
            "a2": (TABLE[0], "pass  # test: leaves the table, for its rows"),
            "a3": ('op.execute("SELECT 1")', "pass"),
        },
        SCHEMA,
        "a2",
        'the second time: a2.py:16: revision a2 failed: 42P07 relation "places" already exists',
    ),
    "a plan that shows something else": (
        {
            "a1": MADE,
            "a2": (
                (
                    'op.execute("CREATE TABLE acme.places ()" if op.get_context().as_sql else '
                    '"CREATE TABLE acme.places (name text)")'
                ),
                TABLE[1],
            ),
        },
        SCHEMA,
        "a2",
        (
            "its plan, run as it is shown, makes something else than the run does; beside what is "
            "expected:\n    columns\n      - acme.places | name | text"
        ),
    ),
    "a plan that fails": (
        {
            "a1": (
                'op.execute("SELECT 1 / 0" if op.get_context().as_sql else "SELECT 1")',
                "pass",
            ),
        },
        "",
        "a1",
        "its plan, run as it is shown, fails: division by zero",
    ),
    "a plan that no run carries out": (
        {"a1": ("""op.execute('SELECT $${"days":28}$$')""", "pass")},
        "",
        "a1",
        ":28 is a parameter without a value",
    ),
    "a downgrade that is not there": (
        {"a1": ('op.execute("SELECT 1")', "pass\n\n\ndel downgrade")},
        "",
        "a1",
        "downgrade: a1.py: revision a1 failed: a1.py has no function downgrade(): write it; where",
    ),
    "an index of a column that is not there": (
        {
            "a1": MADE,
            "a2": TABLE,
            "a3": ('operations.index("places_name", on="acme.places", columns="nam")', "pass"),
        },
        SCHEMA,
        "a3",
        'a3.py:16: revision a3 failed: 42703 column "nam" does not exist',
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_fault_is_told_in_the_words_of_the_revision(
    case: str, faults: Prove, tmp_path: Path
) -> None:
    """The revision is named, and what is wrong with it; no other revision is blamed."""
    steps, promises, where, words = WRONG[case]
    begin = time.monotonic()

    _, told = faults(folder_of(tmp_path, steps, promises))

    assert words in told[where]
    assert "Traceback" not in told[where]
    assert [one for one, text in told.items() if text and one not in (where, "all")] == []
    # Nor do all of them together fail at what one has failed at.
    assert "failed" not in told.get("all", "")
    # What is wrong fails at once, and does not wait for a time to run out.
    assert time.monotonic() - begin < BUDGET_SECONDS


def test_what_is_right_holds(faults: Prove, tmp_path: Path) -> None:
    """With the promises that it asks for; a way closed, and something left, on purpose."""
    steps = {
        "a1": (
            f"operations.role('acme_role'); op.execute({ODD!r})",
            """op.execute('DROP ROLE "LOGIN", "rôle 😀"'); operations.drop_role("acme_role")""",
        ),
        "a2": (
            """operations.login("acme_user", acts_as="acme_role")
    op.execute("ALTER ROLE acme_user SET statement_timeout = '30s'")
    operations.login_by_iam("acme_iam", member_of=["acme_role"])""",
            'operations.drop_login("acme_iam"); operations.drop_login("acme_user")',
        ),
        "a3": ('operations.schema("acme", owner="acme_role")', 'operations.drop_schema("acme")'),
        "a4": TABLE,
        "a5": (
            'operations.index("places_name", on="acme.places", columns="name")',
            'op.execute("DROP INDEX acme.places_name")',
        ),
        "a6": ('operations.sql_file("more.sql")', 'op.execute("DROP TYPE acme.kind")'),
        "a7": (
            """op.execute("ALTER TYPE acme.kind ADD VALUE IF NOT EXISTS 'new'")""",
            "pass  # test: leaves the value, which PostgreSQL cannot drop",
        ),
        "a8": ('op.execute("SELECT 1")', 'raise NotImplementedError("restore a backup")'),
    }
    more = {"versions__more_dot_sql": "CREATE TYPE acme.kind AS ENUM ('old');"}
    _, lacking = faults(folder_of(tmp_path / "first", steps, **more))
    # As they are shown, pasted into the file.
    promises = "\n".join(re.findall(r"^    (.+)", "\n".join(lacking.values()), re.MULTILINE))
    folder = folder_of(tmp_path / "second", steps, promises, **more)

    proofs, told = faults(folder)

    assert told == dict.fromkeys([*steps, "all"], "")
    assert "  + acme_role | NOLOGIN | INHERIT | no password | for ever | no settings" in proofs.made
    assert not any("day2" in line for line in proofs.made)


def test_the_files_are_looked_at_first(tmp_path: Path) -> None:
    """Promises that nobody keeps or that are there twice, an import, and what the linter finds."""
    names = "import acme_names, boto3.session, pytest"
    up = f'{names}; op.execute("GRANT ALL ON SCHEMA acme TO PUBLIC")'
    folder = folder_of(tmp_path, {"a1": (up, "pass")}, ROLE.replace("a1", "a9") + ROLE)
    (folder.path / "acme_names.py").write_text(
        "import acme_names, yaml\ntry:\n    import ruff\nexcept ImportError:\n    pass\n"
    )

    unmade, twice, library, below, found = files.faults(files.loaded(folder))

    assert unmade == (
        "promises.toml: [[role]] acme_role: since = 'a9' names no revision: the last ones are a1"
    )
    assert twice == "promises.toml: [[role]] acme_role is there 2 times: keep one"
    assert "imports pytest, which the function does not have" in library
    assert below.startswith("acme_names.py:1 imports yaml, ")
    assert found.startswith("a1 upgrade: grant-to-public")


def test_no_revision_is_told_with_the_way_to_one(tmp_path: Path) -> None:
    """Before any server is started."""
    with pytest.raises(RunFailed, match="has no revision: make new-migration NAME="):
        files.loaded(folder_of(tmp_path, {}))


def test_the_golden_files_are_compared_and_written_by_a_switch(tmp_path: Path) -> None:
    """One serves each newer PostgreSQL that says the same, and one that was not tried stays."""
    folder = folder_of(tmp_path, {})

    (missing,) = golden.compared(folder, 15, ["roles"])
    written = golden.write(folder, {15: ["roles", "  + a"], 17: ["roles", "  + a"], 18: ["x"]})
    same = golden.compared(folder, 17, ["roles", "  + a"])
    (other,) = golden.compared(folder, 17, ["roles", "  + b"])
    older = golden.compared(folder, 14, ["roles"])
    later = golden.write(folder, {15: ["x"]})

    assert missing.startswith("there is no golden/catalog_15.txt to compare with: make test-mig")
    assert written == ["golden/catalog_15.txt", "golden/catalog_18.txt"]
    assert same == []
    assert other.startswith("the catalogue at head is another than golden/catalog_15.txt says")
    assert other.endswith("\n    -  + a\n    +  + b")
    assert older != []
    assert later == ["golden/catalog_15.txt", "golden/catalog_18.txt"]


def command(
    folder: Folder,
    *,
    run: Callable[..., subprocess.CompletedProcess[str]] = preloaded.run,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run the command as make does."""
    env = os.environ | {"MIGRATIONS": str(folder.path)} | variables
    return run("infra.trial", cwd=ROOT, env=env)


def test_the_command_says_all_that_is_wrong_and_ends_so(tmp_path: Path) -> None:
    """What CI sees: 1 for what does not hold, and 0 once it does."""
    role = ('operations.role("acme_role")', 'operations.drop_role("acme_role")')
    folder = folder_of(tmp_path, {"a1": role})
    one = {"POSTGRES": find_programs().version}

    wrong = command(folder, run=run_anew, **one)
    folder.promises.write_text(ROLE)
    right = command(folder, run=run_anew, **one, GOLDEN="write")

    assert wrong.returncode == 1
    assert "    ✗ it makes the role acme_role, which promises.toml does not name" in wrong.stdout
    assert "  ✗ there is no golden/catalog_" in wrong.stdout
    assert wrong.stderr.startswith("2 thing(s) do not hold, in ")
    assert (right.returncode, right.stderr) == (0, "")
    assert "\nwritten: golden/catalog_" in right.stdout
    assert re.search(r"\nall holds, in \d+ s\n$", right.stdout)


@pytest.mark.parametrize(
    ("last", "status", "said"),
    [
        ("op.execute('SELECT pg_catalog.pg_sleep(60)')", 130, "interrupted; the servers are stop"),
        ("os._exit(3)", 2, "a revision ended the process that carried it out"),
    ],
)
def test_what_ends_it_early_ends_the_servers(
    tmp_path: Path, last: str, status: int, said: str
) -> None:
    """Ctrl-C while a statement runs, and a revision that ends its process: one line, at once."""
    told = tmp_path / "pid"
    up = f"""import os, pathlib
    if not op.get_context().as_sql:
        pathlib.Path({str(told)!r}).write_text(str(os.getpid()))
        {last}"""
    folder = folder_of(tmp_path, {"a1": (up, "pass")})
    variables = {"MIGRATIONS": str(folder.path), "POSTGRES": find_programs().version}

    with subprocess.Popen(
        [sys.executable, "-m", "infra.trial"],
        cwd=ROOT,
        env=os.environ | variables,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    ) as process:
        wait_for(lambda: told.exists() and told.read_text(), "a revision that runs")
        state = State.of_process(pid=int(told.read_text()))
        servers = [read_pid(one) for one in state.servers.glob("*/data/postmaster.pid")]
        if status == 130:
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)

    assert (process.returncode, errors.count("\n")) == (status, 1), errors
    assert errors.startswith(said)
    assert not state.folder.exists()
    assert not any(is_running(one, state.folder) for one in servers if one)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"POSTGRES": "x"}, 'POSTGRES=x: x is not a version: give POSTGRES="15 17"'),
        ({"POSTGRES": "9"}, "there is no PostgreSQL 9 for this machine; there is "),
        ({"GOLDEN": "yes"}, "GOLDEN=yes: give make test-migrations GOLDEN=write, or leave it out"),
        ({"MIGRATIONS": ""}, "MIGRATIONS= names no folder"),
        ({}, "has no revision: make new-migration NAME="),
    ],
)
def test_a_wrong_use_is_one_line(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    """Before any server is started."""
    done = command(folder_of(tmp_path, {}), **variables)

    (line,) = done.stderr.splitlines()
    assert said in line
    assert (done.returncode, done.stdout) == (2, "")


def test_our_own_history_holds(faults: Prove) -> None:
    """What a user finds as examples is proven as a team's own is."""
    _, told = faults(OURS)

    assert set(told.values()) == {""}
    assert files.faults(files.loaded(OURS)) == []
