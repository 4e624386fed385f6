"""The Logs Insights queries answer their questions, on the lines of a day on the local AWS."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from infra import template as cloudformation
from tests.operating import insights
from tests.operating.story import ROOT, Story

QUERIES = tomllib.loads((ROOT / "infra" / "queries.toml").read_text())


def ask(story: Story, name: str, request_id: str = "") -> list[dict[str, Any]]:
    """Return the answer of the query *name* on what the story has logged."""
    query = QUERIES[name]["query"].replace("REQUEST_ID", request_id)
    return insights.run(query, story.lines)


def test_where_is_every_instance(story: Story) -> None:
    """The last revision that was seen, and how the last run ended."""
    (row,) = ask(story, "where")

    assert (row["instance"], row["revision"]) == ("orders", "002")
    assert row["last_outcome"] == "ACCESS_DENIED"


def test_what_failed_and_why(story: Story) -> None:
    """Each failed attempt with its sentence, the newest first; a retry has its event's id."""
    rows = ask(story, "failed")

    assert [row["outcome"] for row in rows] == ["ACCESS_DENIED"] * 3 + ["REJECTED"]
    assert "refused the password of postgres (28P01)" in rows[0]["result"]
    assert {row["request_id"] for row in rows[:3]} == {story.failed["requestPayload"]["id"]}
    assert [row["trigger"] for row in rows] == ["parameter"] * 3 + ["direct"]


def test_what_happened_in_a_run(story: Story) -> None:
    """From the first step to the last line, in order."""
    said = [row["message"] for row in ask(story, "run", story.applied["detail"]["request_id"])]

    order = ["001: will apply", "001: applied", "002: applied", "run finished", "put Migration"]
    places = [next(n for n, line in enumerate(said) if line.startswith(one)) for one in order]
    assert places == sorted(places)


def test_what_woke_a_run(story: Story) -> None:
    """A result event's id leads to the run that put it there."""
    event = story.applied

    (row,) = ask(story, "chain", event["id"])

    assert row["request_id"] == event["detail"]["request_id"]
    assert row["event_ids.0"] == event["id"]


def test_which_instances_are_left_alone(story: Story) -> None:
    """The sweep says which it passed over, and for which reason."""
    rows = ask(story, "left")

    assert [(row["instance"], row["reason"], row["times"]) for row in rows] == [
        ("orders", "blocked", 1)
    ]


def test_which_instances_are_blocked(story: Story) -> None:
    """With the first line of the error, which the sweep read from the observed state."""
    (row,) = ask(story, "blocked")

    assert row["instance"] == "orders"
    assert "refused the password of postgres (28P01)" in row["why"]


def test_how_long_runs_take(story: Story) -> None:
    """Of those that applied something."""
    (row,) = ask(story, "slow")

    assert (row["instance"], row["runs"]) == ("orders", 1)
    assert 0 < row["half_ms"] <= row["longest_ms"] < 60_000


def test_the_dashboard_asks_the_same() -> None:
    """Its table of instances is the first query."""
    body = json.loads(cloudformation.resolve()["Dashboard"]["Properties"]["DashboardBody"])
    (widget,) = (one["properties"] for one in body["widgets"] if one["type"] == "log")

    source, _, query = widget["query"].partition(" | ")
    assert source == "SOURCE 'Log'"
    assert query == QUERIES["where"]["query"].strip().replace("\n", " ")


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_has_its_question(name: str) -> None:
    """And says what to put in for a word in capitals."""
    assert QUERIES[name]["question"].endswith("?")
    assert ("REQUEST_ID" in QUERIES[name]["query"]) == ("replace" in QUERIES[name])


def test_an_unknown_word_is_no_query() -> None:
    """So that a query with a typing error cannot pass."""
    with pytest.raises(KeyError):
        insights.run("filtre a = 1", [])
    with pytest.raises(ValueError, match="no condition"):
        insights.run("filter a ~ 1", [{}])


def test_every_query_is_tried() -> None:
    """A new query needs a test that runs it."""
    text = Path(__file__).read_text()

    assert all(f'ask(story, "{name}"' in text for name in QUERIES)
