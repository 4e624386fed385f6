"""What the server says of a revision reaches the log, and as much as somebody reads the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.equipment.world import World

MakeHistory = Callable[..., Path]

WARNS = """op.execute("DO $$ BEGIN RAISE WARNING 'careful %', 7 USING HINT = 'look'; END $$")"""
NOTICES = """op.execute("DO $$ BEGIN RAISE NOTICE 'batch %', 3; END $$")"""


def lines(answer: Any, level: str) -> list[dict[str, Any]]:
    """Return the lines of the log at that level."""
    found = [json.loads(line) for line in answer.log.splitlines() if line.startswith("{")]
    return [line for line in found if line.get("level") == level]


def test_a_warning_is_logged_and_answered(world: World, history: MakeHistory) -> None:
    """With its revision and the server's hint: a GRANT that grants nothing only warns."""
    grant = 'op.execute("GRANT SELECT ON pg_catalog.pg_authid TO PUBLIC")'
    ini = history({"a1": WARNS, "a2": NOTICES, "a3": f"try:\n    {grant}\nexcept Exception: raise"})

    answer = world.call(world.request(target="a2"), ini=ini)

    assert answer.outcome == "APPLIED", answer
    assert answer.body["warnings"] == ["a1: careful 7 (look)"]
    said = [line["message"] for line in lines(answer, "WARNING")]
    assert "a1: the server says: careful 7 (look)" in said
    assert "a2: the server says: batch 3" in [one["message"] for one in lines(answer, "INFO")]


def test_a_quiet_run_answers_no_warnings(world: World, history: MakeHistory) -> None:
    """The field is there only where there is something to read; notices are the log's."""
    answer = world.call(ini=history({"a1": NOTICES}))

    assert answer.outcome == "APPLIED"
    assert "warnings" not in answer.body


def test_another_session_of_the_revision_is_heard_too(world: World, history: MakeHistory) -> None:
    """What it does over its engine is as much the revision's."""
    over = WARNS.replace("op.execute(", "connection.exec_driver_sql(").replace("%", "%%")
    body = f"with op.get_bind().engine.begin() as connection:\n    {over}"

    answer = world.call(ini=history({"a1": body}))

    assert answer.outcome == "APPLIED", answer
    assert answer.body["warnings"] == ["a1: careful 7 (look)"]


@pytest.mark.parametrize("kind", ["NOTICE", "WARNING"])
def test_a_flood_is_counted_and_cut(world: World, history: MakeHistory, kind: str) -> None:
    """Memory, log and answer stay small, and say how much there was."""
    body = (
        f"DO $$ BEGIN FOR i IN 1..30000 LOOP RAISE {kind} '%', repeat('x', 1000); END LOOP; END $$"
    )

    answer = world.call(ini=history({"a1": f'op.execute("{body}")', "a2": "pass"}))

    assert answer.outcome == "APPLIED", answer
    assert len(answer.log) < 1_000_000
    assert len(json.dumps(answer.body)) < 100_000
    assert "more notices of the server are left out" in answer.body["warnings"][-1]
    assert len(answer.body["warnings"]) <= 51


def test_copy_and_large_objects_work(world: World, history: MakeHistory) -> None:
    """How notices are heard is nothing that a statement feels."""
    body = """
import io
connection = op.get_bind().connection.driver_connection
op.execute("CREATE TABLE public.copied (id int)")
connection.cursor().copy_expert("COPY public.copied FROM STDIN", io.StringIO("1\\n2\\n"))
large = connection.lobject(0, "wb")
large.write(b"x" * 100000)
op.execute(f"CREATE TABLE public.large AS SELECT {large.oid}::oid AS id")
"""
    answer = world.call(ini=history({"a1": body}))

    assert answer.outcome == "APPLIED", answer
    assert world.query("SELECT count(*) FROM public.copied") == [(2,)]
    assert world.query("SELECT length(lo_get(id)) FROM public.large") == [(100000,)]


FAILS = """
op.execute("CREATE TABLE public.people (name text PRIMARY KEY)")
op.execute("INSERT INTO public.people VALUES ('Ada Lovelace')")
op.execute(
    "INSERT INTO public.people VALUES ('Ada Lovelace')"
)
"""


def test_a_failure_is_logged_with_all_that_is_known(world: World, history: MakeHistory) -> None:
    """Line, statement and detail; the answer has the line, and nothing of a row."""
    ini = history({"a1": FAILS})

    answer = world.call(ini=ini)

    (line,) = [one for one in lines(answer, "ERROR") if "failed at" in one["message"]]
    assert answer.body["at"] == line["at"]
    name, _, number = line["at"].partition(":")
    assert name.startswith("a1")
    (script,) = ini.parent.rglob(name)
    assert "op.execute(" in script.read_text().splitlines()[int(number) - 1]
    assert line["statement"] == "INSERT INTO public.people VALUES ('Ada Lovelace')"
    assert line["detail"] == "Key (name)=(Ada Lovelace) already exists."
    assert "Ada" not in json.dumps(answer.body)
    assert "23505" in answer.body["message"]


def test_the_servers_hint_is_in_the_answer(world: World, history: MakeHistory) -> None:
    """It is what a person does next."""
    body = """op.execute("DO $$ BEGIN RAISE 'no' USING HINT = 'Say yes.'; END $$")"""

    answer = world.call(ini=history({"a1": body}))

    assert "hint: Say yes." in answer.body["message"], answer
    (line,) = [one for one in lines(answer, "ERROR") if "failed at" in one["message"]]
    assert line["hint"] == "Say yes."
    assert "inline_code_block" in line["context"]


def test_a_python_error_is_logged_with_its_traceback(world: World, history: MakeHistory) -> None:
    """The revision's own lines are in it, however deep it was raised."""
    body = "def deep():\n    raise LookupError('no such thing')\ndeep()"

    answer = world.call(ini=history({"a1": body}))

    assert answer.body["at"].startswith("a1")
    assert "in deep" in answer.log
    assert "LookupError: no such thing" in answer.log


def test_no_password_of_a_statement_is_logged(world: World, history: MakeHistory) -> None:
    """A careless author writes one; it fails, and everybody reads the log."""
    body = """op.execute("CREATE ROLE nobodys PASSWORD 's3cr3t-in-sql' NOSUCHWORD")"""

    answer = world.call(ini=history({"a1": body}))

    assert answer.outcome == "FAILED"
    assert "s3cr3t-in-sql" not in answer.log + json.dumps(answer.body)
    assert "PASSWORD '***'" in answer.log
