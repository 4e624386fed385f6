"""The log of a run, told as a story: what it says, and nothing that it does not."""

from __future__ import annotations

import io
import json
import re

import pytest

from infra.story import has_colours, is_raw, story


def line(message: str, level: str = "INFO", **more: object) -> str:
    """Return a line as the function logs it."""
    return json.dumps({"level": level, "location": "x:1", "message": message, **more})


FINISHED = {
    "success": True,
    "outcome": "APPLIED",
    "applied_migrations": ["002", "a3"],
    "final_revision": "a3",
    "previous_revision": "001",
    "pending_migrations": [],
    "result": "Successfully applied 2 migration(s) to reach a3",
}
LOG = [
    "START RequestId: 1 Version: $LATEST",
    "[INFO]\t2026-01-01T00:00:00.000Z\t1\tFound credentials in environment variables.",
    line("001: already applied (First: of all)", revision="001"),
    line("002: will apply (Reports)", revision="002"),
    line("a3: will apply (Backups)", revision="a3"),
    line("applying 2 migration(s) to reach a3 (asked for head by request)"),
    line("role reports is there"),
    line("002: something is odd", "WARNING"),
    line("002: applied", revision="002"),
    "what a revision printed",
    line("role backups is there"),
    line("a3: applied", revision="a3"),
    line("run finished", **FINISHED),
    '{"_aws": {"Timestamp": 1}, "Runs": [1.0]}',
    line("put Migration Succeeded on the bus"),
    "END RequestId: 1",
    "REPORT RequestId: 1\tDuration: 1 ms",
]
TOLD = """\
INFO    001  already applied (First: of all)
INFO    002  will apply (Reports)
INFO    a3   will apply (Backups)
INFO         applying 2 migration(s) to reach a3 (asked for head by request)
INFO    002  role reports is there
WARNING 002  something is odd
INFO    002  applied
what a revision printed
INFO    a3   role backups is there
INFO    a3   applied
INFO         put Migration Succeeded on the bus
APPLIED: Successfully applied 2 migration(s) to reach a3
applied revisions: 002, a3
previous revision: 001
final revision: a3"""


def test_each_line_has_its_level_its_revision_and_its_sentence() -> None:
    """What a revision does is told as its own until it is committed; the end comes last."""
    assert "\n".join(story("\n".join(LOG), coloured=False)) == TOLD


def test_a_terminal_gets_colours_and_marks_and_the_same_words() -> None:
    """Done, and how it ended."""
    coloured = list(story("\n".join(LOG), coloured=True))
    bare = [re.sub("\033\\[\\d+m", "", one) for one in coloured]

    assert [one.lstrip("✓✔ ").rstrip() for one in bare] == TOLD.splitlines()
    assert "✓ INFO    002  applied" in bare
    assert "✔ APPLIED: Successfully applied 2 migration(s) to reach a3" in bare
    assert all(one.endswith("\033[0m") for one in coloured if "\033" in one)


def test_a_failure_is_told_with_its_trace() -> None:
    """And so is what is pending."""
    failed = FINISHED | {
        "success": False,
        "outcome": "FAILED",
        "result": "revision a3 failed",
        "applied_migrations": ["002"],
        "pending_migrations": ["a3"],
        "exception": "Traceback\n  at a3.py",
    }
    told = list(story(f"START \n{line('run finished', 'ERROR', **failed)}", coloured=True))

    assert "✘ FAILED: revision a3 failed" in told[0]
    assert told[1:] == [
        "  applied revisions: 002",
        "  previous revision: 001",
        "  final revision: a3",
        "  pending revisions: a3",
        "Traceback",
        "  at a3.py",
    ]


def test_the_end_of_a_log_begins_with_a_whole_line() -> None:
    """What is left of the one before is not told; Lambda keeps no more."""
    told = list(story(f'"x": 1}}\n{line("role reports is there")}', coloured=False))

    assert told == ["… (Lambda tells the end of a log only)", "INFO      role reports is there"]


def test_nothing_steers_the_terminal() -> None:
    """Neither a message nor what is no line of ours."""
    log = "\n".join(["START ", line("\033[2Jgone\rnew"), "\033]0;title\007"])

    assert list(story(log, coloured=False)) == [
        "INFO      \\x1b[2Jgone\\rnew",
        "\\x1b]0;title\\x07",
    ]


@pytest.mark.parametrize(
    "text", ["{", "[1]", "null", '{"a": 1}', "Task timed out after 3.00 seconds"]
)
def test_what_is_no_line_of_ours_stands_as_it_is(text: str) -> None:
    """Above all what Lambda says of a function that ended."""
    assert list(story(f"START \n{text}", coloured=False)) == [text]


def test_no_log_is_no_story() -> None:
    """As where a function was not allowed to write one."""
    assert list(story("", coloured=False)) == []


class Terminal(io.StringIO):
    """A terminal of a given encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "variables", "colours"),
    [
        ("utf-8", {}, True),
        ("UTF8", {"NO_COLOR": ""}, True),
        ("utf-8", {"NO_COLOR": "1"}, False),
        ("utf-8", {"TERM": "dumb"}, False),
        ("ascii", {}, False),
    ],
)
def test_colours_are_for_terminals(
    encoding: str, variables: dict[str, str], *, colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That can show them, and whose owner wants them (no-color.org)."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert has_colours(Terminal(encoding)) is colours
    assert has_colours(io.StringIO()) is False


def test_raw_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one word of the environment."""
    monkeypatch.delenv("LOG", raising=False)
    assert not is_raw()
    monkeypatch.setenv("LOG", "raw")
    assert is_raw()
