"""``make new-migration``: a file that loads, whatever is said, or one line that says why."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.revisions import scripts
from core.revisions.folder import Folder
from infra.commands import WrongUseError
from infra.local import workflow
from infra.local.local_aws import LocalAwsError
from tests.conftest import ROOT

# What people say, and the name of the file that it makes.
SAID = {
    'Close schema "public"': "001_close_schema_public.py",
    '"public" is closed': "001_public_is_closed.py",
    '""Both"" ""': "001_both.py",
    'Three """ of them"""': "001_three_of_them.py",
    "Move C:\\dumps\\new to the archive": "001_move_c_dumps_new_to_the_archive.py",
    "Load C:\\Users\\ops\\N{x}\\": "001_load_c_users_ops_n_x.py",
    'Both \\ and """ at once\\"': "001_both_and_at_once.py",
    "Read 100% of %(it)s": "001_read_100_of_it_s.py",
    "Role for the ${stage} pipeline": "001_role_for_the_stage_pipeline.py",
    "Mako: <%def name='x'> ## no\\": "001_mako_def_name_x_no.py",
    "Grant SELECT to Åsa's team": "001_grant_select_to_åsa_s_team.py",
    "表を作る": "001_表を作る.py",
    "-x": "001_x.py",
    "--help": "001_help.py",
    "../../etc/passwd": "001_etc_passwd.py",
    "  spaces around  ": "001_spaces_around.py",
    "a" * 90: f"001_{'a' * 90}.py",
    "5": "001_5.py",
    "{braces} and {0}": "001_braces_and_0.py",
    "# lint: allow long-lock: no": "001_lint_allow_long_lock_no.py",
}


def history_of(path: Path, identifiers: Sequence[str] = ()) -> Folder:
    """Write a history of *identifiers* to *path*."""
    folder = Folder(path)
    folder.versions.mkdir()
    down = None
    for one in identifiers:
        (folder.versions / f"{one}.py").write_text(
            f'"""Revision"""\nrevision = {one!r}\ndown_revision = {down!r}\n'
            "op.get_bind().engine.url.database\n"
        )
        down = one
    return folder


def files(folder: Folder) -> list[str]:
    """Return the names of the files among the revisions."""
    return sorted(one.name for one in folder.versions.iterdir() if one.is_file())


@pytest.mark.parametrize(("description", "name"), SAID.items())
@pytest.mark.filterwarnings("error::SyntaxWarning", "error::DeprecationWarning")
def test_the_file_says_what_was_said(tmp_path: Path, description: str, name: str) -> None:
    """It loads without a warning, and is listed under the very words."""
    folder = history_of(tmp_path)

    made = workflow.new_revision(description, folder)

    assert made.name == name
    text = made.read_text()
    compile(text, str(made), "exec")
    assert (ast.get_docstring(ast.parse(text)) or "").splitlines()[0] == description.strip()
    assert workflow.revisions(folder) == [("001", description.strip())]
    scripts.load(scripts.read(made.parent)[0])


def test_the_file_belongs_to_whom_its_folder_belongs(tmp_path: Path) -> None:
    """Root in a container writes it; the owner of the checkout edits it."""
    folder = history_of(tmp_path)
    versions = folder.versions
    if os.geteuid() == 0:
        os.chown(versions, 1234, 2345)

    made = workflow.new_revision("Next", folder)

    owners = [(one.stat().st_uid, one.stat().st_gid) for one in (versions, made)]
    assert owners[0] == owners[1]


@pytest.mark.parametrize(
    "description",
    [
        "",
        "  ",
        "one\ntwo",
        "a\tb",
        "a\x1b[0m",
        "a\x00",
        "\udcff",
        "\u202eabc",
        "!!!",
        '"""',
        "_",
        "a" * 91,
        "表" * 90,
    ],
)
def test_what_is_no_description_is_refused_in_a_line(tmp_path: Path, description: str) -> None:
    """And nothing is left behind."""
    folder = history_of(tmp_path)

    with pytest.raises(WrongUseError) as caught:
        workflow.new_revision(description, folder)

    assert "\n" not in str(caught.value)
    assert files(folder) == []


@pytest.mark.parametrize(
    ("identifiers", "following"),
    [
        ([], "001"),
        (["004"], "005"),
        (["0009"], "0010"),
        (["999"], "1000"),
        (["010", "002"], "011"),
        (["004", "2025.11.1"], "2025.11.2"),
        (["a1", "a09"], "a10"),
    ],
)
def test_the_identifier_follows_the_history(
    tmp_path: Path, identifiers: list[str], following: str
) -> None:
    """It is written as those before it, and stands on the last; none of them is run."""
    folder = history_of(tmp_path, identifiers)

    made = workflow.new_revision("Next", folder)

    assert made.name == f"{following}_next.py"
    assert [one for one, _ in workflow.revisions(folder)] == [*identifiers, following]


@pytest.mark.parametrize("head", ["ae1027a6acf9", "first", "9" * 32, "a" + "9" * 31])
def test_an_identifier_that_counts_nothing_is_followed_by_one_of_alembics(
    tmp_path: Path, head: str
) -> None:
    """So is one that could not be longer."""
    folder = history_of(tmp_path, [head])

    workflow.new_revision("Next", folder)

    first, second = (one for one, _ in workflow.revisions(folder))
    assert first == head
    assert len(second) == 12


def test_a_broken_history_gets_no_new_revision(tmp_path: Path) -> None:
    """With two heads nobody knows which one it would stand on."""
    folder = history_of(tmp_path, ["001", "002"])
    second = folder.versions / "002.py"
    second.with_name("003.py").write_text(second.read_text().replace("'002'", "'003'"))

    with pytest.raises(LocalAwsError, match="several heads"):
        workflow.new_revision("Next", folder)

    assert files(folder) == ["001.py", "002.py", "003.py"]


@pytest.mark.parametrize(
    "given", ["Role for the ${stage} $(x) $5", "-x", "a \"b\" 'c' \\d `e` %", ""]
)
def test_make_hands_over_what_it_was_given(given: str) -> None:
    """No shell and no make takes a part of it for something of its own."""
    done = subprocess.run(
        ["make", "-s", "new-migration", f"NAME={given}", "LOCAL=@printf '<%s>'"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.endswith(f"<new-revision><--><{given}>")
