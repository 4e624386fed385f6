"""Each call of AWS is one that may be asked again, within a budget, of a service that we know."""

from __future__ import annotations

import ast

from core.aws.calls import SERVICES
from tests.conftest import ROOT
from tests.equipment.sources import nodes, parsed

DOOR = sorted((ROOT / "core" / "aws").glob("*.py"))
ASKING = ("self._call", "self._pages", "self._all")
# They make clients and keep them; a token is signed here, and nothing is sent.
WITHOUT_A_CALL = {"__init__", "_client", "auth_token"}


def test_no_call_is_without_patience() -> None:
    """Each use of a client stands in what ``_call`` and its like may ask again."""
    patient_ones = {
        inner
        for path in DOOR
        for node in nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ASKING
        for argument in node.args
        if isinstance(argument, ast.Lambda)
        for inner in ast.walk(argument)
    }
    hasty = [
        f"{path.name}:{node.lineno}"
        for path in DOOR
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
        and node.attr in ("_client", "create_client", "_clients")
        and node not in patient_ones
        and enclosing(parsed(path), node) not in WITHOUT_A_CALL
    ]

    assert hasty == []
    assert len(patient_ones) > len(WITHOUT_A_CALL)


def test_the_models_of_every_service_we_ask_are_found() -> None:
    """One that is missing in the list would be unknown to botocore, at its first use."""
    asked = {
        node.args[0].value
        for path in DOOR
        for node in nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._client"
        if isinstance(node.args[0], ast.Constant)
    }

    assert asked == set(SERVICES)


def enclosing(tree: ast.Module, node: ast.AST) -> str:
    """Return the name of the function that *node* stands in."""
    return next(
        one.name
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef) and node in list(ast.walk(one))
    )


def test_whoever_has_an_aws_gives_it_a_budget() -> None:
    """Patience without an end would be killed by the platform."""
    without = [
        f"{path.name}:{node.lineno}"
        for path in sorted((ROOT / "handlers").glob("*.py"))
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ours.aws.")
        if node.attr != "within"
    ]

    assert without == []
