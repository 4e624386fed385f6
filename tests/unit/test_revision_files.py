"""The revisions as files: one line of them, each described, named and really reversible."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from core.errors import RunFailed
from core.revisions.promises import Promises
from core.revisions.runner import Revision, Revisions
from tests.conftest import ROOT

HISTORY = Revisions().history

# Fixed by the contract: outside callers list them, and see them in logs.
FIRST = {
    "001": "Example day-2 operations migration",
    "002": "Create analytics schema and read-only user",
    "003": "Backup user and maintenance schema",
    "004": "Audit logging and compliance",
}


def script(revision: Revision) -> ast.Module:
    """Return the parsed file of *revision*."""
    return ast.parse(revision.file.read_text())


def function(revision: Revision, name: str) -> ast.FunctionDef:
    """Return the function *name* of the script of *revision*."""
    (found,) = [
        node
        for node in script(revision).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    return found


def test_the_history_is_one_line_from_one_base_to_one_head() -> None:
    """Each revision but the first stands on the one before it, and every file is one of them."""
    downs = []
    for revision in HISTORY:
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in script(revision).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        downs.append(values["down_revision"])
        assert values["revision"] == revision.identifier
        assert (values["branch_labels"], values["depends_on"]) == (None, None)

    assert downs == [None, *(revision.identifier for revision in HISTORY[:-1])]
    assert sorted(revision.file for revision in HISTORY) == sorted(
        (ROOT / "alembic" / "versions").glob("*.py")
    )


def test_the_first_revisions_are_those_of_the_contract() -> None:
    """What a user saw yesterday is there today, under the same name."""
    known = {revision.identifier: revision.description for revision in HISTORY}

    assert {identifier: known.get(identifier) for identifier in FIRST} == FIRST


def test_identifiers_are_unique_and_long_enough_to_read() -> None:
    """An identifier is typed by hand, so it is at least three characters, and never a prefix."""
    identifiers = [revision.identifier for revision in HISTORY]

    assert [one for one in identifiers if not re.fullmatch(r"[0-9a-z_]{3,32}", one)] == []
    assert [
        (one, other)
        for one in identifiers
        for other in identifiers
        if one != other and other.startswith(one)
    ] == []


@pytest.mark.parametrize("revision", HISTORY, ids=lambda one: one.identifier)
def test_a_revision_says_what_it_is(revision: Revision) -> None:
    """The docstring's first line is the description, and the file's name repeats it."""
    text = ast.get_docstring(script(revision)) or ""
    first, *rest = text.splitlines()
    slug = re.sub(r"\W+", "_", first.lower())

    assert first == revision.description
    assert any(rest), "say below the first line what an operator may rely on afterwards"
    assert "Going back" in text, "say what going back takes away, and what it keeps"
    assert revision.file.stem == f"{revision.identifier}_{slug}"


@pytest.mark.parametrize("name", ["upgrade", "downgrade"])
@pytest.mark.parametrize("revision", HISTORY, ids=lambda one: one.identifier)
def test_a_revision_works_both_ways(revision: Revision, name: str) -> None:
    """Neither direction is empty, and neither gives up."""
    body = list(ast.walk(function(revision, name)))

    assert any(isinstance(node, ast.Call) for node in body)
    assert not any(isinstance(node, ast.Pass | ast.Raise | ast.Return) for node in body)


@pytest.mark.parametrize("revision", HISTORY, ids=lambda one: one.identifier)
def test_a_revision_holds_no_password(revision: Revision) -> None:
    """Passwords are made when a revision runs; none is ever written down."""
    assert not re.search(r"password\s*(=|')", revision.file.read_text(), re.IGNORECASE)


def test_every_promise_is_made_by_a_revision() -> None:
    """What ``promises.toml`` names is in the file of the revision that it says makes it."""
    promised = Promises.load()
    files = {revision.identifier: revision.file.read_text() for revision in HISTORY}

    broken = [
        (thing.since, thing.name)
        for thing in (*promised.roles, *promised.schemas, *promised.tables)
        if thing.name not in files.get(thing.since, "")
    ]

    assert broken == []


def test_every_role_and_schema_is_promised() -> None:
    """Whoever adds a revision with a role, a login or a schema adds it to ``promises.toml``."""
    promised = Promises.load()
    names = {thing.name for thing in (*promised.roles, *promised.schemas)}
    made = {
        call.args[0].value
        for revision in HISTORY
        for call in ast.walk(function(revision, "upgrade"))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func)
        in ("operations.role", "operations.login", "operations.schema", "operations.login_by_iam")
        and isinstance(call.args[0], ast.Constant)
    }

    assert made - names == set()


def test_what_is_promised_depends_on_how_far_a_database_is() -> None:
    """At 001 only what 001 makes is promised."""
    found = Promises.load().up_to(("001",))

    assert [role.name for role in found.roles] == ["app_role", "app_user"]
    assert [schema.name for schema in found.schemas] == ["app_schema"]
    assert (found.tables, found.password_logins) == ((), ("app_user",))


def test_an_absent_file_promises_nothing(tmp_path: Path) -> None:
    """A history without ``promises.toml`` is as good as one with an empty one."""
    assert Promises.load(tmp_path / "promises.toml") == Promises()


# What a build may get wrong, each as its files by name: identifier, then what it stands on.
BROKEN_HISTORIES = {
    "several heads (002, 003)": {"001": None, "002": "001", "003": "001"},
    "merges or depends on others": {"001": None, "002": "001", "003": "001", "004": ("002", "003")},
    "cannot be loaded": {"001": None, "003": "002"},
}


@pytest.mark.parametrize(("problem", "scripts"), BROKEN_HISTORIES.items())
def test_a_broken_history_is_refused_before_anything_is_touched(
    problem: str, scripts: dict[str, object], tmp_path: Path
) -> None:
    """Two heads, a merge or a gap: the build is at fault, and no database is."""
    for identifier, down in scripts.items():
        write_script(tmp_path, identifier, f"down_revision = {down!r}\n")

    with pytest.raises(RunFailed) as caught:
        _ = Revisions(write_ini(tmp_path)).history

    assert problem in str(caught.value)
    assert str(caught.value).endswith("nothing was touched")


def test_a_script_that_does_not_load_is_a_broken_build(tmp_path: Path) -> None:
    """A typing error in a script is told with its kind."""
    write_script(tmp_path, "001", "down_revision = None\nundefined\n")

    with pytest.raises(RunFailed) as caught:
        _ = Revisions(write_ini(tmp_path)).history

    assert "(NameError: name 'undefined' is not defined)" in str(caught.value)


def test_checksums_do_not_see_line_endings(tmp_path: Path) -> None:
    """A checkout on another system is the same history."""
    write_script(tmp_path, "001", "down_revision = None\n")
    ini = write_ini(tmp_path)
    before = dict(Revisions(ini).checksums)
    (file,) = (tmp_path / "versions").glob("*.py")

    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    unchanged = dict(Revisions(ini).checksums)
    file.write_bytes(file.read_bytes() + b"# changed\r\n")
    changed = dict(Revisions(ini).checksums)

    assert before == unchanged
    assert before != changed


def write_script(folder: Path, identifier: str, text: str) -> None:
    """Write a script of *identifier* that does nothing."""
    file = folder / "versions" / f"{identifier}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'"""Test {identifier}"""\nrevision = {identifier!r}\n{text}')


def write_ini(folder: Path) -> Path:
    """Write an ``alembic.ini`` for the scripts in *folder*."""
    ini = folder / "alembic.ini"
    ini.write_text(f"[alembic]\nscript_location = {folder}\npath_separator = os\n")
    return ini
