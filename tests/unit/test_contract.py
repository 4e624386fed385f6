"""Helpers that revisions deployed years ago import: nothing of them is ever taken back."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from core import operations
from core.revisions import scripts
from tests.conftest import ROOT

FOLDER = ROOT / "tests" / "contract"
WRITTEN = tomllib.loads((FOLDER / "operations.toml").read_text())
PUBLISHED: list[Mapping[str, Any]] = WRITTEN["published"]
YEARS_AGO = FOLDER / "years_ago" / "versions"

Helpers = dict[str, ast.FunctionDef]


def parsed(signatures: Sequence[str]) -> Helpers:
    """Return the functions that *signatures* declare, by name."""
    return parsed_source("\n".join(f"def {one}: ..." for one in signatures))


def in_force(published: Sequence[Mapping[str, Any]]) -> Helpers:
    """Return the newest signature of each helper."""
    return {
        name: helper for entry in published for name, helper in parsed(entry["helpers"]).items()
    }


def as_they_are() -> Helpers:
    """Return each public helper, as its source declares it."""
    found: Helpers = {}
    for name in operations.__all__:
        found |= parsed_source(inspect.getsource(getattr(operations, name)))
    return found


def parsed_source(source: str) -> Helpers:
    """Return the functions that *source* defines, by name."""
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def signature(function: ast.FunctionDef) -> str:
    """Return how *function* is called, in one line."""
    returns = ast.unparse(function.returns) if function.returns else ""
    return f"{function.name}({ast.unparse(function.args)}) -> {returns}"


def parameters(function: ast.FunctionDef) -> dict[str, tuple[str, ...]]:
    """Return kind, type and default of each parameter, in the order of those given by place."""
    arguments = function.args
    places = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(places) - len(arguments.defaults)), *arguments.defaults]
    found = {
        one.arg: (f"place {at}", ast.unparse(one.annotation or one), said(default))
        for at, (one, default) in enumerate(zip(places, defaults, strict=True))
    }
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[one.arg] = ("name", ast.unparse(one.annotation or one), said(default))
    return found


def said(default: ast.expr | None) -> str:
    """Return a default as it is written, or that there is none."""
    return ast.unparse(default) if default else "no default"


def breaches(before: Helpers, after: Helpers) -> list[str]:
    """Return how *after*, a later entry, takes something back that *before* gives."""
    found = []
    for name, function in after.items():
        if name not in before:
            continue
        old, new = parameters(before[name]), parameters(function)
        found += [f"{name}: {one} is gone" for one in old if one not in new]
        found += [
            f"{name}: {one} was {old[one]}, and is {new[one]}"
            for one in old
            if one in new and new[one] != old[one]
        ]
        found += [
            f"{name}: {one} is new, and callers do not give it"
            for one in new
            if one not in old and (new[one][0] != "name" or new[one][2] == "no default")
        ]
        if signature(before[name]).partition(" -> ")[2] != signature(function).partition(" -> ")[2]:
            found.append(f"{name}: it returns something else")
    return found


def differences(contract: Helpers, code: Helpers) -> list[str]:
    """Return what is wrong where *code* is not what *contract* says, with what to do."""
    found = []
    for name in sorted(contract.keys() | code.keys()):
        if name not in code:
            found.append(f"{name} is gone: revisions deployed years ago call it; bring it back")
        elif name not in contract:
            found.append(f"{name} is new: publish it in tests/contract/operations.toml")
        elif signature(code[name]) != signature(contract[name]):
            found.append(
                f"{signature(code[name])} was promised as {signature(contract[name])}: bring that "
                "back, or publish what was added in tests/contract/operations.toml"
            )
    return found


def test_the_code_keeps_the_contract() -> None:
    """No helper and no parameter is gone or other, and none is there unpublished."""
    assert differences(in_force(PUBLISHED), as_they_are()) == []


def test_each_entry_only_adds() -> None:
    """To what was published before, under the next number."""
    before: Helpers = {}
    numbers = []
    for entry in PUBLISHED:
        after = parsed(entry["helpers"])
        assert breaches(before, after) == []
        before |= after
        numbers.append(entry["contract"])

    assert numbers == [f"1.{minor}" for minor in range(len(PUBLISHED))]
    assert numbers[-1] == operations.CONTRACT, (
        "write the newest number into core/revisions/manifest.py"
    )


OLD = "f(a: str, *, b: int = 1) -> None"
TAKEN_BACK = {
    "a parameter": "f(a: str) -> None",
    "its name": "f(a: str, *, c: int = 1) -> None",
    "its default": "f(a: str, *, b: int) -> None",
    "another default": "f(a: str, *, b: int = 2) -> None",
    "its type": "f(a: str, *, b: bool = 1) -> None",
    "its place": "f(*, a: str, b: int = 1) -> None",
    "a call without it": "f(a: str, *, b: int = 1, c: int) -> None",
    "its order": "f(c: str = '', a: str = '', *, b: int = 1) -> None",
    "what it returns": "f(a: str, *, b: int = 1) -> str",
}


@pytest.mark.parametrize("new", TAKEN_BACK.values(), ids=TAKEN_BACK)
def test_what_takes_back_is_found(new: str) -> None:
    """Each in which a call of an old revision would fail, or do something else."""
    assert breaches(parsed([OLD]), parsed([new]))
    assert differences(parsed([OLD]), parsed([new]))


def test_what_adds_is_no_breach() -> None:
    """A parameter by name, with a default."""
    assert breaches(parsed([OLD]), parsed(["f(a: str, *, b: int = 1, c: str = '') -> None"])) == []


@pytest.mark.parametrize(("contract", "code"), [([OLD], []), ([], [OLD])])
def test_a_helper_that_is_gone_or_unpublished_is_found(
    contract: list[str], code: list[str]
) -> None:
    """By its name, with what to do."""
    (problem,) = differences(parsed(contract), parsed(code))

    assert re.match("f is (gone|new): ", problem)


def calls(tree: ast.Module) -> set[tuple[str, str]]:
    """Return helper and parameter of each argument by name in *tree*, and each helper called."""
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "core.operations"
        for alias in node.names
    }
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called)) if called in names:
                helper = names[called]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="operations" | "ops"), attr=helper)):
                pass
            case _:
                continue
        found |= {(helper, one.arg) for one in node.keywords if one.arg}
        # By place: the first ones that can be given so.
        places = [name for name, said in parameters(IN_FORCE[helper]).items() if said[0] != "name"]
        found |= {(helper, name) for name in places[: len(node.args)]}
    return found


IN_FORCE = in_force(PUBLISHED)


def test_the_revisions_of_years_ago_call_every_helper_by_every_parameter() -> None:
    """So that what they cannot rely on any more fails where they run."""
    called = set().union(*(calls(ast.parse(one.read_bytes())) for one in YEARS_AGO.glob("*.py")))

    assert called == {
        (name, one) for name, function in IN_FORCE.items() for one in parameters(function)
    }


def test_the_revisions_of_years_ago_are_frozen() -> None:
    """As databases have it in their history, or every one would be told that files changed."""
    found = {one.identifier: one.checksum for one in scripts.read(YEARS_AGO)}

    assert found == WRITTEN["frozen"], "write a new file's checksum into [frozen]"
