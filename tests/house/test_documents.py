"""What the documents name exists, and their tables say what the code says."""

from __future__ import annotations

import ast
import inspect
import json
import re

import pytest

from core import operations
from core.model import Action, Request
from core.outcome import Outcome
from handlers.requests import parse
from infra import template
from tests.equipment import documents
from tests.equipment.documents import ROOT
from tests.equipment.sources import nodes

DOCUMENTS = documents.names()
OURS = ("alembic", "core", "events", "handlers", "infra", "tests")
REFERENCE = re.compile(r"\b((?:[a-z]+/)*[A-Z]+\.md)(?:, \"(\w[\w ]*)\")?")
LANGUAGES = {"console", "json", "python", "text"}


def targets() -> set[str]:
    """Return the targets of make."""
    files = [ROOT / "Makefile", *(ROOT / "infra").rglob("*.mk")]
    pattern = re.compile(r"^([a-z][a-z-]*):(?!=)", re.MULTILINE)
    return {name for file in files for name in pattern.findall(file.read_text())}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_command_stands_where_it_is_followed(name: str) -> None:
    """A block says its language, and commands are in blocks of one language only."""
    for language, block in documents.fences(name):
        assert language in LANGUAGES
        assert language == "console" or not re.search(r"^\s*\$ ", block, re.MULTILINE)
    assert "```" not in documents.prose(name)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_typed_exists(name: str) -> None:
    """Each target of make, each module after -m, and each of our files."""
    typed = documents.code(name) + documents.commands(name)

    made = {one for text in typed for one in re.findall(r"\bmake (?:-s )?([a-z][a-z-]*)", text)}
    assert made <= targets()
    run = {one for text in typed for one in re.findall(r"-m ((?:infra|tests)[\w.]*)", text)}
    for module in run:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    words = {word for text in typed for word in re.split(r"[\s=]+", text)}
    for word in words:
        if word.split("/")[0] in OURS and "/" in word and "…" not in word:
            path = word.split("::")[0].rstrip("/")
            assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), path


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_linked_exists(name: str) -> None:
    """Each file, and each heading."""
    links = re.findall(r"\]\(([^)\s]+)\)", documents.prose(name))
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), link
        if anchor:
            assert anchor in documents.anchors(str(found.resolve().relative_to(ROOT))), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_sent_is_accepted(name: str) -> None:
    """Each JSON is a request that we carry out."""
    for language, block in documents.fences(name):
        if language == "json":
            assert isinstance(parse(json.loads(block), "day2"), Request)


def test_each_test_that_holds_a_line_of_security_exists() -> None:
    """In tests/security, unless its folder is written."""
    named = {one for one in documents.code("infra/SECURITY.md") if re.search(r"\btest_", one)}

    assert named
    for one in named:
        path = one if "/" in one else f"tests/security/{one}"
        assert (ROOT / f"{path.removesuffix('.py')}.py").is_file(), one


def test_each_outcome_is_told_with_its_code() -> None:
    """With what to do, which is for a person to write."""
    told = {
        name: int(code)
        for names, code, _ in documents.rows("README.md", "outcome | code")
        for name in re.findall(r"`(\w+)`", names)
    }

    assert told == {outcome.value: outcome.status_code for outcome in Outcome}


def test_each_action_is_told() -> None:
    """In the row of its field."""
    (meaning,) = (row[1] for row in documents.rows("README.md", "field") if row[0] == "`action`")

    assert set(re.findall(r"`(\w+)`", meaning)) == {action.value for action in Action}


def test_each_helper_of_revisions_is_told_with_its_parameters() -> None:
    """And none that does not exist."""
    helpers = {
        name: list(inspect.signature(getattr(operations, name)).parameters)
        for name in operations.__all__
    }

    calls = [row[0].strip("`") for row in documents.rows("alembic/README.md", "helper")]
    told = {
        name: re.findall(r"\w+", arguments)
        for call in calls
        for name, arguments in re.findall(r"^(\w+)\((.*)\)$", call)
    }

    assert len(told) == len(calls)
    assert told == helpers


def test_each_statement_of_the_role_is_told() -> None:
    """What it is on, and why, is for a person to write."""
    role = template.load()["Resources"]["Role"]["Properties"]
    statements = re.findall(r"'Sid': '(\w+)'", str(role))
    told = [
        name
        for row in documents.rows("infra/SECURITY.md", "statement")
        for cell in row
        for name in re.findall(r"`(\w+)`", cell)
    ]

    assert statements
    assert set(statements) <= set(told)
    named = [
        re.findall(r"`(\w+)`", row[0]) for row in documents.rows("infra/SECURITY.md", "statement")
    ]
    assert {one for names in named for one in names} <= set(statements)


def test_each_parameter_that_is_told_has_that_default() -> None:
    """As the template declares it."""
    declared = template.load()["Parameters"]
    for names, defaults, _ in documents.rows("infra/OPERATIONS.md", "parameter"):
        parameters = re.findall(r"`(\w+)`", names)
        told = [one.strip("` ").replace("none", "") for one in defaults.split(",")]
        for parameter, default in zip(parameters, told * len(parameters), strict=False):
            assert str(declared[parameter]["Default"]) == default, parameter


def test_the_map_of_the_house_is_true() -> None:
    """Each room of core has its line, and each line its room."""
    (house,) = (
        block for _, block in documents.fences("CONTRIBUTING.md") if block.startswith("handlers/")
    )
    folder, drawn = "", set()
    for line in house.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        drawn.add(folder + name if line.startswith(" ") else name)
    rooms = {f"core/{path.parent.name}/" for path in (ROOT / "core").glob("*/__init__.py")}

    assert all((ROOT / one).exists() for one in drawn)
    assert {one for one in drawn if one.startswith("core/")} == rooms | {"core/"}
    assert {f"{one}/" for one in OURS} <= drawn


def test_what_our_own_words_refer_to_exists() -> None:
    """Each document that a message or a comment names, and its heading where one is quoted."""
    folders = (ROOT / name for name in ("alembic", "core", "handlers", "infra", "tests"))
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        # What is deployed may be anybody's.
        if "versions" in path.parts:
            continue
        for name, heading in REFERENCE.findall(path.read_text()):
            found = [one for one in DOCUMENTS if one == name or one.endswith(f"/{name}")]
            assert found, f"{path.name}: {name}"
            headings = {f"## {heading}" in documents.text(one) for one in found}
            assert not heading or True in headings, f"{path.name}: {name}, {heading}"


FIELDS = ["Assumption", "Source", "Try", "Symptom", "The way back", "Seen"]
# A page by its name, what else is published, or the word that nothing is.
SOURCE = re.compile(r'"[A-Z].+"|\bAPI\b|\bPEP \d|\b[Pp]ages? of |^None\. ', re.DOTALL)
SEEN = re.compile(r"Not yet\.|\d{4}-\d\d-\d\d, [a-z]+-[a-z-]+-\d\b.*", re.DOTALL)


@pytest.mark.parametrize("section", documents.prose("infra/AWS.md").split("\n## ")[1:])
def test_what_is_assumed_of_aws_can_be_worked_through(section: str) -> None:
    """Each section says the same six things, and one without a source says that there is none."""
    found = re.findall(r"^- \*\*(.+?)\.\*\* (.+?)(?=^- \*\*|\Z)", section, re.DOTALL | re.MULTILINE)
    said = {name: text.strip() for name, text in found}

    assert [name for name, _ in found] == FIELDS
    assert SOURCE.search(said["Source"])
    assert SEEN.fullmatch(said["Seen"])


def test_what_is_called_and_heard_of_aws_is_among_what_is_assumed() -> None:
    """A new call and a new kind of event come with what they take for true."""
    written = documents.text("infra/AWS.md")
    asking = "".join(path.read_text() for path in (ROOT / "core" / "aws").glob("*.py"))
    calls = set(re.findall(r'"[a-z-]+:([A-Z]\w+)"', asking))
    events = template.resolve()["Dispatcher"]["Properties"]["Events"].values()
    patterns = [one["Properties"]["Pattern"] for one in events if one["Type"] == "EventBridgeRule"]
    kinds = {
        kind
        for pattern in patterns
        for kind in pattern["detail-type"]
        if pattern["source"][0].startswith("aws.")
    }

    assert {"DescribeDBInstances", "PutEvents"} <= calls
    assert "RDS DB Instance Event" in kinds
    assert {one for one in calls | kinds if one not in written} == set()


def said() -> set[str]:
    """Return each run of words that a message of ours is put together from."""
    found = set()
    for folder in ("core", "handlers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in nodes(path):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(" ".join(node.value.split()))
    return found


def test_a_message_that_is_looked_up_is_one_of_ours() -> None:
    """Whoever is called at night looks for the words that they see: those of the code."""
    messages = said()
    parts = {one for one in messages if len(one.split()) >= 3}
    spans = [row[0] for row in documents.rows("infra/OPERATIONS.md", "you see")]
    spans += re.findall(r"\*\*Symptom\.\*\*.*?\n- \*\*", documents.prose("infra/AWS.md"), re.DOTALL)
    quoted = [one for span in spans for one in re.findall(r"`([A-Z_]* ?…[^`]+)`", span)]

    for text in quoted:
        for words in re.split(r"[A-Z_]+ … ?| … |…", " ".join(text.split())):
            # What a message fills in: a name of an action, of a revision, a number.
            plain = re.sub(r"\b\w*(\d|:)\S*|`", "\0", words).strip("\0 ")
            runs = [one.strip() for one in plain.split("\0") if len(one.split()) > 1]
            known = [
                any(run in one for one in messages) or any(part in run for part in parts)
                for run in runs
            ]
            assert all(known), (text, runs)
    assert quoted
