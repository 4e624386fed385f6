"""A command that is called wrongly says so in one line, before it starts or changes anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from infra.local import demo, stack, workflow
from infra.local.local_aws import LocalAws
from tests.equipment import preloaded
from tests.equipment.histories import OURS

ROOT = Path(__file__).parents[2]

EVENTS = {
    "directory": "cannot be read",
    "missing.json": "cannot be read",
    "empty.json": "is not JSON",
    "half.json": "is not JSON",
    "nan.json": "is not JSON",
    "deep.json": "is not JSON",
    "latin.json": "is not a text file in UTF-8",
}
CONTENTS = {
    "empty.json": b"",
    "half.json": b'{"instance": ',
    "nan.json": b'{"instance": NaN}',
    "deep.json": b"[" * 200_000,
    "latin.json": b'{"instance": "\xe9"}',
}


def _run_anew(*command: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run *command* as a shell does."""
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def _run(
    state: Path,
    command: list[str],
    run: Callable[..., subprocess.CompletedProcess[str]] = _run_anew,
    **variables: str,
) -> tuple[int, str, str]:
    """Run *command* where nothing is up, and return how it ended and what it said."""
    # As from a shell: the tests themselves may have been started by make.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    ran = run(*command, cwd=ROOT, env=kept | variables | {"DAY2_STATE": str(state)})
    left = sorted(path.name for path in state.iterdir()) if state.exists() else []
    assert left == []
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def event_files(tmp_path: Path) -> Path:
    """Return a folder with files that hold no event."""
    (tmp_path / "directory").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *((("--event=" + name,), said) for name, said in EVENTS.items()),
        (("--payload={",), "PAYLOAD is not JSON"),
        (("--payload=-x",), "PAYLOAD is not JSON"),
        (("--payload={}", "--event=half.json"), "give either EVENT or PAYLOAD"),
        ((), "give EVENT="),
        (("--payload=", "--event="), "give EVENT="),
    ],
    ids=str,
)
def test_invoke_names_what_is_wrong(event_files: Path, given: tuple[str, ...], said: str) -> None:
    """In one line, with exit status 2."""
    words = [word.replace("--event=", f"--event={event_files}/") for word in given]
    words = ["--event=" if word == f"--event={event_files}/" else word for word in words]

    command = ["infra.local", "invoke", *words]
    status, out, err = _run(event_files / "state", command, preloaded.run)

    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["invoke", "EVENT=no-such.json"], "EVENT=no-such.json cannot be read"),
        (["invoke", "EVENT=-x"], "EVENT=-x cannot be read"),
        (["invoke", "PAYLOAD={'instance': 1}"], "PAYLOAD is not JSON"),
        (["invoke", "PAYLOAD={}", "EVENT=events/requested.json"], "give either"),
        (["invoke"], "give EVENT="),
        (["plan"], "make plan INSTANCE=orders"),
        (["invoke", "EVENT=a\nb"], "EVENT=a\\nb cannot be read"),
        (["bench-sweep", "COUNT=it's"], "count: invalid int value"),
        (["bench-sweep", "COUNT=0"], "COUNT=0: give the number of instances, 1 or more"),
        (
            ["test-lambda-to", "TARGET=00"],
            "TARGET=00 is unknown here: give one of 001, 002, 003, 004, head",
        ),
        (["test-lambda-to", "TARGET=-x\n"], "TARGET=-x\\n is unknown here"),
        (["new-migration", "NAME=!!!"], "'!!!' contains no letter"),
        (
            ["test-lambda-to"],
            "make test-lambda-to TARGET=revision: make list",
        ),
        (
            ["test-lambda-to", "TARGET= "],
            "make test-lambda-to TARGET=revision: make list",
        ),
    ],
    ids=str,
)
def test_so_does_make(tmp_path: Path, words: list[str], said: str) -> None:
    """Nothing was deployed before it: no state is there."""
    ours = f"MIGRATIONS={OURS.path}"
    status, out, err = _run(tmp_path / "state", ["make", "-s", *words, ours])

    assert (status, out) == (2, "")
    lines = [line for line in err.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1
    assert said in lines[0]


def test_only_what_make_is_given_counts(tmp_path: Path) -> None:
    """Another tool's NAME or STACK may be in the shell, and a path of another Python's."""
    files = [ROOT / "Makefile", *ROOT.glob("infra/*.mk")]
    text = "".join(file.read_text() for file in files).replace("\\\n", "")
    given = re.findall(r"^GIVEN := (.*)$", text, re.MULTILINE)[0].split()
    names = [*given, *re.findall(r"^([A-Z_]+) [?:]?=", text, re.MULTILINE)]
    shown = tmp_path / "shown.mk"
    shown.write_text(
        f"include Makefile\nshown:\n\t@env; echo '{' '.join(f'{one}=$({one})' for one in names)}'\n"
    )
    elsewhere = dict.fromkeys([*names, "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME"], "elsewhere")
    command = ["make", "-s", "-f", str(shown), "shown"]

    _, unasked, _ = _run(tmp_path / "state", command, **elsewhere)
    _, asked, _ = _run(tmp_path / "state", [*command, *(f"{one}=here" for one in given)])
    _, _, said = _run(
        tmp_path / "state", ["make", "-s", "plan", "needs=@:", "LOCAL=@:"], TARGET="1", NAME="x"
    )

    assert "elsewhere" not in unasked
    assert {f"{one}=here" for one in given} <= set(asked.splitlines())
    assert said == "TARGET of your shell is not read: make plan TARGET=…\n"


def test_an_interrupt_is_one_line(tmp_path: Path) -> None:
    """Wherever it comes, such as in an import of whichever command."""
    said = _run(tmp_path / "state", [sys.executable, "-c", "import infra; raise KeyboardInterrupt"])

    assert said[1:] == ("", "interrupted\n")


@pytest.mark.parametrize(
    ("words", "word"),
    [(["run", "CLUSTER={}"], "--cluster"), (["deploy", "BUCKET=zips", "YES={}"], "--yes")],
    ids=["CLUSTER", "YES"],
)
def test_a_no_is_no_yes(words: list[str], word: str) -> None:
    """What is asked before a change is not skipped by a 0."""
    for answer, is_yes in {"1": True, "yes": True, "0": False, "no": False, "": False}.items():
        given = [one.format(answer) for one in words]
        ran = subprocess.run(
            ["make", "--dry-run", *given], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert (f" {word}" in ran.stdout) is is_yes, answer


def test_a_sample_says_what_it_needs(local_aws: LocalAws) -> None:
    """The secret that make db-up makes, or the instance that make run leaves, and no more then."""
    samples = {file.stem: json.loads(file.read_text()) for file in ROOT.glob("events/*.json")}
    named = {
        name: stack.missing(local_aws, event)
        for name, event in samples.items()
        if not name.startswith("rejected_")
    }

    for name, missing in named.items():
        wanted = ("secret", workflow.SECRET) if "secret_name" in samples[name] else None
        wanted = wanted or (("instance", demo.NAME) if "instance" in samples[name] else None)
        assert missing == ([wanted] if wanted else []), name
    assert ("secret", workflow.SECRET) in named["direct_secret_only"]

    secrets = local_aws.client("secretsmanager")
    secrets.create_secret(Name=workflow.SECRET, SecretString="{}")
    try:
        assert stack.missing(local_aws, samples["direct_secret_only"]) == []
    finally:
        secrets.delete_secret(SecretId=workflow.SECRET, ForceDeleteWithoutRecovery=True)
