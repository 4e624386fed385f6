"""The revisions as files: one line of them, each described, named and really reversible."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from core.decisions.target import target_revision
from core.errors import InvalidField, RunFailed
from core.revisions import scripts
from core.revisions.folder import Folder
from core.revisions.promises import Promises
from core.revisions.runner import Revision, Revisions
from tests.equipment.histories import OURS

HISTORY = Revisions(folder=OURS).history

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
    assert sorted(revision.file for revision in HISTORY) == sorted(OURS.versions.glob("*.py"))


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
    slug = "_".join(re.findall(r"\w+", first.lower()))

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
    promised = Promises.load(OURS.promises)
    files = {revision.identifier: revision.file.read_text() for revision in HISTORY}

    broken = [
        (thing.since, thing.name)
        for thing in (*promised.roles, *promised.schemas, *promised.tables)
        if thing.name not in files.get(thing.since, "")
    ]

    assert broken == []


def test_every_role_and_schema_is_promised() -> None:
    """Whoever adds a revision with a role, a login or a schema adds it to ``promises.toml``."""
    promised = Promises.load(OURS.promises)
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
    found = Promises.load(OURS.promises).up_to(("001",))

    assert [role.name for role in found.roles] == ["app_role", "app_user"]
    assert [schema.name for schema in found.schemas] == ["app_schema"]
    assert found.tables == ()
    assert [login.name for login in found.password_logins] == ["app_user"]


def test_an_absent_file_promises_nothing(tmp_path: Path) -> None:
    """A history without ``promises.toml`` is as good as one with an empty one."""
    assert Promises.load(tmp_path / "promises.toml") == Promises()


# Slips of the pen, and what is said of each.
UNREAD = [
    ('[[role]]\nname = "a"\nsince = "1"\nact_as = "b"', "[[role]] a has 'act_as': its fields"),
    ('[[role]]\nname = "a"', "[[role]] a lacks 'since': its fields are name, since"),
    ('[[allow]]\nrole = "a"', "[[allow]] lacks 'privileges'"),
    ('[[roles]]\nname = "a"', "[[roles]] promises nothing: write [[role]]"),
    ('[role]\nname = "a"', "role stands in other brackets than [[role]]: write these"),
    ('role = ["a"]', "role stands in other brackets than [[role]]"),
    ('[[role]]\nname = "a"\nsince = 1', "[[role]] a: since = 1: give a text"),
    ('[[role]]\nname = "a"\nsince = ""', "[[role]] a: since = '': give a text"),
    (
        '[[role]]\nname = "a"\nsince = "1"\nlogin = "pasword"',
        '[[role]] a: login = \'pasword\': give "password" or "iam"',
    ),
    (
        '[[role]]\nname = "a"\nsince = "1"\nmember_of = "b"',
        "[[role]] a: member_of = 'b': give a list of texts, such as member_of",
    ),
    (
        '[[role]]\nname = "a"\nsince = "1"\nis_internal = "yes"',
        "[[role]] a: is_internal = 'yes': give true or false",
    ),
    ('[[role]\nname = "a"', "promises.toml cannot be read: "),
]


def test_a_promise_that_nobody_reads_is_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A slip of the pen must not promise less than was meant."""
    file = tmp_path / "promises.toml"
    for text, problem in UNREAD:
        with subtests.test(text):
            file.write_text(text)

            with pytest.raises(RunFailed) as caught:
                Promises.load(file)

            assert problem in str(caught.value)


# What a build may get wrong, each as its files by name: identifier, then what it stands on.
BROKEN_HISTORIES = {
    "several heads (002 in 002.py, 003 in 003.py)": {"001": None, "002": "001", "003": "001"},
    "revision 004 (004.py) merges or depends on others": {
        "001": None,
        "002": "001",
        "003": "001",
        "004": ("002", "003"),
    },
    "revision 003 (003.py) follows '002', which no file defines": {"001": None, "003": "002"},
    "revision 002 (002.py) follows '', which no file defines": {"001": None, "002": ""},
    "revision 002 (002.py) merges": {"001": None, "002": 1},
    "the down_revisions form a circle (002.py, 003.py)": {"001": None, "002": "003", "003": "002"},
    "the down_revisions form a circle (001.py)": {"001": "001"},
}


@pytest.mark.parametrize(("problem", "files"), BROKEN_HISTORIES.items())
def test_a_broken_history_is_refused_before_anything_is_touched(
    problem: str, files: dict[str, object], tmp_path: Path
) -> None:
    """Two heads, a merge, a gap or a circle: the build is at fault, and no database is."""
    for identifier, down in files.items():
        write_script(tmp_path, identifier, f"down_revision = {down!r}\n")

    with pytest.raises(RunFailed) as caught:
        _ = Revisions(folder=Folder(tmp_path)).history

    assert problem in str(caught.value)
    assert str(caught.value).endswith("nothing was touched")


# What no build may call a revision, and the words that say why.
BAD_IDENTIFIERS = {
    "0005_agent_ownership_public_channel": "is 35 characters long, and the version table holds 32",
    "ae10-1027": "has -, which Alembic refuses",
    "a+1": "has +, which Alembic refuses",
    "a@b:c": "has : @, which Alembic refuses",
    "head": "is a word that means another revision",
    "heads": "is a word that means another revision",
    "base": "is a word that means another revision",
    "Current": "is a word that means another revision",
    "": "is not made of letters",
    " 005": "is not made of letters",
    "005\n": "is not made of letters",
    "é5": "is not made of letters",
    "\u0665": "is not made of letters",
    ".5": "is not made of letters",
    "a/b": "is not made of letters",
}


def test_an_identifier_that_nobody_could_use_is_refused(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """What Alembic, the version table or a target cannot hold is refused, with its file."""
    for identifier, problem in BAD_IDENTIFIERS.items():
        with subtests.test(repr(identifier)):
            write_script(tmp_path, identifier, "down_revision = None\n", file="005_roles.py")

            with pytest.raises(RunFailed) as caught:
                scripts.read(tmp_path / "versions")

            assert f"revision {identifier!r} (005_roles.py) {problem}" in str(caught.value)
            if identifier != "head":
                with pytest.raises(InvalidField):
                    target_revision(identifier, named="target_revision")


@pytest.mark.parametrize("identifier", ["2025.11.1", "_", "a" * 32, "1", "A_b.C", "005."])
def test_what_a_build_accepts_can_be_named_as_a_target(identifier: str, tmp_path: Path) -> None:
    """There is one rule for both."""
    write_script(tmp_path, identifier, "down_revision = None\n", file="file.py")

    (found,) = scripts.read(tmp_path / "versions")

    assert target_revision(found.identifier, named="target_revision") == identifier


@pytest.mark.parametrize("in_the_middle", [False, True])
def test_two_files_of_one_revision_are_both_named(tmp_path: Path, *, in_the_middle: bool) -> None:
    """Two branches took the same number; another may stand on it already."""
    write_script(tmp_path, "004", "down_revision = None\n")
    write_script(tmp_path, "005", "down_revision = '004'\n", file="005_billing.py")
    write_script(tmp_path, "005", "down_revision = '004'\n", file="005_support.py")
    if in_the_middle:
        write_script(tmp_path, "006", "down_revision = '005'\n")

    with pytest.raises(RunFailed) as caught:
        scripts.read(tmp_path / "versions")

    assert "revision 005 is in several files (005_billing.py, 005_support.py)" in str(caught.value)


# What a script may hold beside what it says of itself, which no listing runs.
NEVER_RUN = [
    "op.get_bind().engine.url.database",
    "raise SystemExit(3)",
    "undefined",
    "import no_such_module",
    "def upgrade():\n    revision = 'another'",
    "class Kept:\n    revision = 'another'",
]


@pytest.mark.parametrize("text", NEVER_RUN)
def test_a_build_is_listed_without_running_it(text: str, tmp_path: Path) -> None:
    """A script may ask the database as it is loaded: it is loaded when it is run."""
    write_script(tmp_path, "001", f"down_revision = None\n{text}\n")

    (found,) = scripts.read(tmp_path / "versions")

    assert (found.identifier, found.description) == ("001", "Test 001")


# Ways to say revision "001" on base that take code, or are plain though they look otherwise.
SAID = [
    'revision = "00" + "1"\ndown_revision = None',
    'revision: str = "001"\ndown_revision: str | None = None',
    'revision = identifier = "001"\ndown_revision = ()',
    'if True:\n    revision = "001"\ndown_revision = None',
    'revision, down_revision = "001", None',
    'from os import name as revision\nrevision = "001"\ndown_revision = None',
    'revision = f"{1:03}"\ndown_revision = []',
]


@pytest.mark.parametrize("text", SAID)
def test_a_script_that_cannot_be_read_is_run(text: str, tmp_path: Path) -> None:
    """What a script puts together by code is known once it has run."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "one.py").write_text(f'"""Made"""\n{text}\n')

    (found,) = scripts.read(tmp_path / "versions")

    assert (found.identifier, found.description) == ("001", "Made")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("revision = '001\n", "001.py:2: SyntaxError: unterminated string literal"),
        ("revision = '0' + 1\n", "001.py:2: TypeError: can only concatenate str"),
        ("revision = str(1)\n\nundefined\n", "001.py:4: NameError: name 'undefined'"),
        ("revision = 1\n", "revision 1 (001.py) is not a text"),
        ("down_revision = None\n", "001.py does not name its revision"),
        ("# \udcff", "001.py is not in UTF-8, or in the encoding that it names: save it so"),
        ("revision = '\0'", "001.py: SyntaxError: source code"),
    ],
)
def test_an_error_of_loading_names_file_and_line(text: str, problem: str, tmp_path: Path) -> None:
    """Whoever broke a script finds the place at once."""
    (tmp_path / "versions").mkdir()
    content = f'"""Made"""\n{text}'.encode(errors="surrogateescape")
    (tmp_path / "versions" / "001.py").write_bytes(content)

    with pytest.raises(RunFailed) as caught:
        scripts.read(tmp_path / "versions")

    assert problem in str(caught.value)
    assert str(caught.value).endswith("nothing was touched")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_a_script_is_read_as_python_reads_it(encoding: str, tmp_path: Path) -> None:
    """By its byte order mark, or by the encoding that its first line says; promises, too."""
    (tmp_path / "versions").mkdir()
    coding = "# coding: latin-1\n" if encoding == "latin-1" else ""
    text = f'{coding}"""Rôle"""\nrevision = "001"\ndown_revision = None\n'
    (tmp_path / "versions" / "001.py").write_text(text, encoding=encoding)

    (found,) = scripts.read(tmp_path / "versions")

    assert (found.identifier, found.description) == ("001", "Rôle")
    if encoding.startswith("utf-8"):
        (tmp_path / "promises.toml").write_text('[[role]]\nname = "rôle"\nsince = "1"', encoding)
        assert Promises.load(tmp_path / "promises.toml").roles[0].name == "rôle"


def test_checksums_do_not_see_line_endings(tmp_path: Path) -> None:
    """A checkout on another system is the same history."""
    write_script(tmp_path, "001", "down_revision = None\n")
    folder = Folder(tmp_path)
    before = dict(Revisions(folder=folder).checksums)
    (file,) = (tmp_path / "versions").glob("*.py")

    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    unchanged = dict(Revisions(folder=folder).checksums)
    file.write_bytes(file.read_bytes() + b"# changed\r\n")
    changed = dict(Revisions(folder=folder).checksums)

    assert before == unchanged
    assert before != changed


def write_script(folder: Path, identifier: str, text: str, file: str = "") -> None:
    """Write a script of *identifier* that does nothing."""
    path = folder / "versions" / (file or f"{identifier}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'"""Test {identifier}"""\nrevision = {identifier!r}\n{text}')
