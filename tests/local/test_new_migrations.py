"""``make new-migrations``: a folder that a team's repository begins with, or nothing at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from core.revisions.folder import Folder
from infra import migrations, new_migrations
from infra.lint.revisions import lint
from infra.local import demo, workflow
from infra.local.local_aws import LocalAwsError
from infra.new_migrations import WrongPlaceError
from infra.trial import files
from tests.conftest import ROOT
from tests.equipment.histories import OURS

OF_DAY2_ITSELF = {
    *("help", "test", "test-postgres", "test-terraform", "chaos", "bench", "bench-sweep"),
    *("golden", "lint", "lock", "refresh-ca", "validate", "new-migrations"),
}


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """Make such a folder, with a space in its name."""
    return new_migrations.make(str(tmp_path / "acme migrations"))


def commands(folder: Path) -> set[str]:
    """Return the commands that the folder's Makefile hands to day2."""
    text = (folder / "Makefile").read_text().replace("\\\n", " ")
    (found,) = re.findall(r"^COMMANDS := (.*)$", text, re.MULTILINE)
    return set(found.split())


def run(folder: Path, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run make in *folder* as a person does: with nothing of ours in the environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "MIGRATIONS" and not name.startswith("MAKE")
    }
    if home:
        kept["HOME"] = str(home)
    return subprocess.run(
        ["make", *words], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )


def test_it_has_all_that_a_repository_begins_with(acme: Path) -> None:
    """A revision that loads and is clean, no promise, and what CI and people need."""
    folder = Folder.named(str(acme), "MIGRATIONS")

    assert workflow.revisions(folder) == [("001", new_migrations.FIRST)]
    assert lint(folder) == []
    assert files.faults(files.loaded(folder)) == []
    made = [path for path in acme.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sorted(path.relative_to(acme).as_posix() for path in made) == [
        ".github/workflows/migrations.yml",
        ".gitignore",
        "Makefile",
        "README.md",
        "promises.toml",
        "versions/001_first_role.py",
    ]
    assert [path for path in made if re.search("@[A-Z]+@", path.read_text())] == []
    assert (acme / "README.md").read_text().startswith("# acme migrations\n")
    assert len((acme / "README.md").read_text().splitlines()) < 50


def test_its_promises_are_explained_as_ours_are(acme: Path) -> None:
    """One explanation, in the file of the history that the tests run on."""
    explained = OURS.promises.read_text().split("\n\n")[0]

    assert (acme / "promises.toml").read_text().startswith(explained)
    assert Folder(acme).promises.read_text().count("\n[[") == 0


def test_what_it_says_is_a_command_of_day2(acme: Path) -> None:
    """In its Makefile, its README and its workflow."""
    listed = run(ROOT, "help").stdout
    targets = set(re.findall(r"^  (\S+) ", listed, re.MULTILINE))
    told = {
        name
        for file in ("README.md", ".github/workflows/migrations.yml")
        for name in re.findall(r"(?:\$|run:) make ([a-z-]+)", (acme / file).read_text())
    }

    assert commands(acme) <= targets
    # All but what makes, tests and measures day2 itself.
    assert targets - commands(acme) == OF_DAY2_ITSELF
    assert {"test-migrations", "lint-migrations", "package", "deploy"} <= told <= commands(acme)


def test_its_workflow_holds_no_key_and_pins_what_it_uses(acme: Path) -> None:
    """A token of GitHub's for the job that deploys alone, and each action by its commit."""
    workflow_file = yaml.safe_load((acme / ".github/workflows/migrations.yml").read_text())
    jobs = workflow_file["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]

    assert workflow_file["permissions"] == {"contents": "read"}
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "test": None,
        "deploy": {"contents": "read", "id-token": "write"},
    }
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one) for one in used)
    assert "secrets." not in str(workflow_file)
    assert jobs["deploy"]["needs"] == "test"
    assert jobs["deploy"]["strategy"]["matrix"]["environment"] == ["staging", "production"]
    assert "refs/heads/main" in jobs["deploy"]["if"]


@pytest.mark.parametrize("how", ["beside", "named"])
def test_its_commands_are_those_of_the_day2_that_is_found(acme: Path, how: str) -> None:
    """Beside it, or where it is said to be; what they are about is this folder."""
    day2 = acme.parent / ("day2" if how == "beside" else "elsewhere")
    day2.mkdir()
    (day2 / "Makefile").write_text(
        'list-migrations:\n\t@echo "of $$MIGRATIONS, $(NAME)"\n'
        "help:\n\t@echo '  list-migrations  List: [MIGRATIONS=…]'; echo '  chaos  Kill'\n"
    )
    more = [] if how == "beside" else [f"DAY2={day2}"]

    done = run(acme, "list-migrations", "NAME=a role", *more)
    helped = run(acme, *more)

    assert (done.stdout, done.returncode) == (f"of {acme}, a role\n", 0), done.stderr
    assert helped.stdout == "  list-migrations  List\n"


def test_the_pinned_day2_is_cloned_once(acme: Path, tmp_path: Path) -> None:
    """By its commit, where none lies beside the folder."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git = ["git", "-C", str(origin), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (origin / "Makefile").write_text("list-migrations:\n\t@echo pinned\n")
    subprocess.run([*git, "add", "Makefile"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "One"], check=True)
    pin = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (origin / "Makefile").write_text("list-migrations:\n\t@echo later\n")
    subprocess.run([*git, "commit", "--quiet", "-am", "Two"], check=True)
    words = [f"DAY2_REPOSITORY={origin}", f"DAY2_PIN={pin.stdout.strip()}"]

    first = run(acme, "list-migrations", *words)
    shutil.rmtree(origin)
    again = run(acme, "list-migrations", *words)

    assert first.stdout.splitlines()[-1] == "pinned", first.stderr
    assert again.stdout == "pinned\n"
    assert ".day2/" in (acme / ".gitignore").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["DAY2_REPOSITORY="], "day2 is not at ../day2: say where to clone it"),
        (["DAY2=../nowhere"], "there is no day2 at ../nowhere: make DAY2=/path/to/day2"),
    ],
)
def test_a_day2_that_is_not_there_is_told(acme: Path, words: list[str], said: str) -> None:
    """With the way to say where it is."""
    done = run(acme, "list-migrations", *words)

    assert done.returncode == 2
    assert done.stderr.startswith(said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "say where: make new-migrations DIR="),
        ("  ", "say where"),
        ("full", "is a folder with something in it: name a new folder, or an empty one"),
        ("file", "is a file"),
        ("none/acme", "there is no folder"),
        ("a\nb", "name it with letters"),
        ("-acme", "name it with letters"),
        ("$(x)", "name it with letters"),
        ("a'b", "name it with letters"),
        (".hidden", "name it with letters"),
        ("äcme", "name it with letters"),
        ("full/..", "name it with letters"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """In one line."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(WrongPlaceError) as caught:
        new_migrations.make(name)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_that_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a file of the scaffold that cannot be read."""
    monkeypatch.setattr(new_migrations, "PLACES", {"Makefile": "Makefile", "gone": "gone"})

    with pytest.raises(WrongPlaceError, match="cannot be made: No such file"):
        new_migrations.make(str(tmp_path / "acme"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["empty", "link"])
def test_an_empty_folder_is_filled(tmp_path: Path, how: str) -> None:
    """As a repository that was just cloned, or by a link to one."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")

    new_migrations.make(str(tmp_path / how))

    assert (tmp_path / "empty" / "versions" / "001_first_role.py").is_file()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.com/day2.git", "https://example.com/day2.git"),
        ("https://me:token@example.com/day2.git", "https://example.com/day2.git"),
        ("git@example.com:team/day2.git", "git@example.com:team/day2.git"),
        ("ssh://git@example.com/day2.git", "ssh://git@example.com/day2.git"),
        ("/home/me/day2", ""),
        ("file:///home/me/day2", ""),
    ],
)
def test_where_day2_comes_from_is_said_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, kept: str
) -> None:
    """A folder of this machine is nowhere on another."""
    said = {"remote": url, "describe": "", "rev-parse": "0" * 40}
    monkeypatch.setattr(new_migrations, "_git", lambda *words: said[words[0]])

    made = new_migrations.make(str(tmp_path / "acme"))

    text = (made / "Makefile").read_text()
    assert f"\nDAY2_REPOSITORY ?= {kept}\n" in text
    assert f"\nDAY2_PIN ?= {'0' * 40}\n" in text


def test_what_a_sample_names_and_a_folder_lacks_is_told(
    acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples name revisions of the examples; whoever has others is told so."""
    sample = json.loads((ROOT / "events" / "direct_rollback.json").read_text())

    assert workflow.unknown_revisions(sample) == []
    monkeypatch.setenv(migrations.VARIABLE, str(acme))
    assert workflow.unknown_revisions(sample) == ["002", "004"]
    assert workflow.unknown_revisions({"target_revision": "head"}) == []
    assert workflow.unknown_revisions({"source": "aws.rds", "target_revision": "x"}) == []
    assert workflow.unknown_revisions([]) == []


@pytest.mark.parametrize(
    ("revisions", "targets"),
    [
        (["001", "002", "003", "004"], ("002", "004")),
        (["a", "b", "c"], ("b", "c")),
        (["a", "b"], ("a", "b")),
        (["a"], ("a", "a")),
    ],
)
def test_the_demo_plays_with_whatever_is_there(
    revisions: list[str], targets: tuple[str, str]
) -> None:
    """It begins about half way, and with none it says what is missing."""
    assert demo._targets(revisions) == targets
    with pytest.raises(LocalAwsError, match="there is no revision to play with"):
        demo._targets([])


def test_make_makes_it(tmp_path: Path) -> None:
    """And says what to do next."""
    words = [
        "-s",
        "new-migrations",
        f"DIR={tmp_path / 'acme'}",
        "needs=@:",
        f"DEV={sys.executable}",
    ]

    done = run(ROOT, *words)
    again = run(ROOT, *words)
    at_home = run(
        ROOT, *(one.replace(f"{tmp_path}/acme", "~/acme 2") for one in words), home=tmp_path
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'acme'} is made. Next:\n")
    assert again.returncode == 2
    assert "is a folder with something in it" in again.stderr
    assert f"\n  cd '{tmp_path}/acme 2'\n" in at_home.stdout
