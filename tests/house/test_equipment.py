"""The tests' own house: ``tests/README.md`` is true, and what is shared is made in one place."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

from tests.equipment import documents
from tests.equipment.documents import ROOT
from tests.equipment.sources import nodes, parsed

TESTS = ROOT / "tests"
EQUIPMENT = TESTS / "equipment"
FILES = sorted(TESTS.rglob("*.py"))
TABLE = documents.rows("tests/README.md", "what you want to hold")
# Shared by the tests of several folders, or by none, and so in no row.
WITHOUT_ROW = {"contract", "equipment", "golden", "history"}


def spans(cell: str) -> list[str]:
    """Return what stands between backticks in *cell*."""
    return re.findall(r"`([^`]+)`", cell)


def fixtures_of(path: Path) -> set[str]:
    """Return the fixtures that the module in *path* makes, or imports from another folder's."""
    # By their text: to parse all tests takes longer than all else in here.
    text = path.read_text()
    made = re.findall(r"^@pytest\.fixture\b.*?^def (\w+)", text, re.MULTILINE | re.DOTALL)
    lent = re.findall(r"^from \S+\.conftest import (\w.*|\([^)]*\))", text, re.MULTILINE)
    return {*made, *re.findall(r"\w+", " ".join(lent))}


def test_each_folder_of_tests_has_one_row() -> None:
    """And no row is of a folder that is not there."""
    told = [name for row in TABLE for name in spans(row[1])]
    folders = {path.parent.relative_to(TESTS).parts[0] for path in FILES if path.parent != TESTS}

    assert sorted(told) == sorted(folders - WITHOUT_ROW)
    assert all((TESTS / name).is_dir() for name in WITHOUT_ROW)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[1])
def test_each_fixture_of_a_row_is_one_there(row: list[str]) -> None:
    """In the folder, in ``tests/conftest.py``, or among those of the local AWS."""
    (folder,), named = spans(row[1]), spans(row[2])
    if row[2].startswith("none"):
        return
    files = [*(TESTS / folder).glob("*.py"), TESTS / "conftest.py", EQUIPMENT / "local_aws.py"]

    assert named
    assert set(named) <= set().union(*(fixtures_of(path) for path in files))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[1])
def test_each_command_of_a_row_is_of_its_folder(row: list[str]) -> None:
    """A file or folder for pytest, or a program."""
    (folder,), (command,) = spans(row[1]), spans(row[3])
    program, *arguments = command.split()

    if program == "pytest":
        (path,) = (ROOT / one for one in arguments if not one.startswith("-"))
        assert path.exists()
        assert path.is_relative_to(TESTS / folder)
    else:
        assert program == f"tests.{folder}"
        assert (TESTS / folder / "__main__.py").is_file()


def test_the_map_of_the_equipment_names_each_module() -> None:
    """And no other."""
    drawn = ast.get_docstring(parsed(EQUIPMENT / "__init__.py")) or ""
    told = re.findall(r"^``(\w+)``", drawn, re.MULTILINE)

    modules = {path.stem for path in EQUIPMENT.glob("*.py")} - {"__init__"}
    assert sorted(told) == sorted(modules)


def test_all_tests_are_told_apart_by_marks() -> None:
    """``python -m tests`` lists no test: what needs the local AWS says so itself."""
    main = TESTS / "__main__.py"
    constants = [
        node.value
        for node in nodes(main)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    documentation = {
        ast.get_docstring(node, clean=False)
        for node in nodes(main)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
    }

    assert [one for one in constants if "/" in one and one not in documentation] == []


# What only a thing of its kind does, so that one under another name is found as well.
SEAMS = {
    "X-Amz-Target": ("small_aws",),  # a server that AWS's clients take for AWS
    "os.fork(": ("container", "preloaded"),  # the function, or a command, in a process of its own
}


# They also look whether the process is there at all, wait for processes of their own, or measure.
WAITS_ITSELF = {
    "tests/__main__.py",
    "tests/benchmarks/fleet.py",
    "tests/equipment/container.py",
    "tests/equipment/waiting.py",
    "tests/terraform/__main__.py",
}


def test_who_waits_waits_by_the_equipment() -> None:
    """Long enough for a busy machine: a loop of a test's own gives up after some seconds."""
    found = {
        str(path.relative_to(ROOT))
        for path in FILES
        if (lines := path.read_text().splitlines())
        and any(sleeps_in_a_loop(lines, number) for number in range(len(lines)))
    }

    assert found == WAITS_ITSELF


def sleeps_in_a_loop(lines: list[str], number: int) -> bool:
    """Say whether the line of that *number* is a ``while`` in which somebody sleeps."""
    indent = re.match(r" *(?=while .*:$)", lines[number])
    if not indent:
        return False
    inner = itertools.takewhile(
        lambda line: not line or line.startswith(f"{indent[0]} "), lines[number + 1 :]
    )
    return any("time.sleep(" in line for line in inner)


def test_what_is_shared_is_made_in_one_place() -> None:
    """A second ``World`` or ``SmallAws`` would soon do another thing than the first."""
    ours = {name: path for path in EQUIPMENT.glob("*.py") for name in classes_of(path)}

    again = [
        f"{path.relative_to(ROOT)} makes a {name}: use that of {ours[name].relative_to(ROOT)}"
        for path in FILES
        for name in classes_of(path)
        if name in ours and path != ours[name]
    ]
    assert {"SmallAws", "World", "Site", "Container"} <= set(ours)
    assert again == []


@pytest.mark.parametrize("mark", SEAMS)
def test_what_stands_in_for_something_is_the_equipments(mark: str) -> None:
    """Whatever it is called."""
    here = Path(__file__)
    found = [path for path in FILES if path != here and mark in path.read_text()]

    assert found == [EQUIPMENT / f"{name}.py" for name in SEAMS[mark]]


def classes_of(path: Path) -> list[str]:
    """Return the classes that the module in *path* defines; one in a function serves it alone."""
    return re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
