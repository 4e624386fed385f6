"""What leaves us fits where it goes, whatever it is about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.model import cut
from handlers.bounds import LEFT_OUT, bounded

ROW = {"revision": "004", "description": "Audit logging and compliance"}
BODIES: dict[str, dict[str, Any]] = {
    "a long history": {"message": "x", "history": [ROW | {"id": i} for i in range(900)]},
    "one long text": {"message": "é" * 70_000},
    "a long text far inside": {"plan": [{"sql": "x" * 70_000}]},
    "two long lists": {"a": ["x" * 90] * 400, "b": ["y" * 90] * 400},
    "many texts of some length": {"drift": [{"statement": "z" * 9_000}] * 8},
    "long text under no list": {"details": {str(i): "x" * 9_000 for i in range(8)}},
}


@pytest.mark.parametrize("most", [5_000, 60_000])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_all_of_it_fits(body: dict[str, Any], most: int) -> None:
    """AWS refuses what is larger, and then nobody is told anything."""
    assert len(json.dumps(body)) > most
    found = bounded(body, most)

    assert len(json.dumps(found)) <= most * 1.1
    for name, count in found.get(LEFT_OUT, {}).items():
        assert len(found[name]) + count == len(body[name])


def test_what_fits_is_untouched() -> None:
    """A limit that is far away changes nothing."""
    body = {"message": "x", "history": [ROW]}

    assert bounded(body, 1_000_000) == body


def test_the_newest_of_a_history_is_kept() -> None:
    """Who reads a history that was cut looks for its end; elsewhere for the beginning."""
    rows = [{"id": i} for i in range(1000)]

    found = bounded({"history": rows, "plan": rows}, 3000)

    assert found["history"][-1] == rows[-1]
    assert found["plan"][0] == rows[0]


def test_a_cut_says_what_is_missing() -> None:
    """Nobody takes a part for the whole."""
    assert cut("abcdef", 4) == "abcd… (2 more characters)"
    assert cut("abcd", 4) == "abcd"
