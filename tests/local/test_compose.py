"""docker-compose.yml follows the Compose specification, and is the same local AWS."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import PurePosixPath
from typing import Any

import compose_spec
import pytest
import yaml

from infra.local.postgres.programs import OLDEST_MAJOR
from tests.conftest import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
IMAGE = (ROOT / "infra" / "local" / "container" / "Dockerfile").read_text()


@pytest.fixture
def service() -> dict[str, Any]:
    """Return the one service, as it is written."""
    return dict(yaml.safe_load(TEXT)["services"]["local-aws"])


def test_file_follows_the_compose_specification() -> None:
    """Every key and value is one that Compose knows."""
    parsed = compose_spec.PyCompose.from_yaml(TEXT).to_spec()

    assert list(parsed.services) == ["local-aws"]


@pytest.mark.parametrize("mistake", ["network_mod:", "contxt:"])
def test_mistake_would_be_noticed(mistake: str) -> None:
    """So that the test above says something."""
    right = mistake.replace("mod:", "mode:").replace("contxt", "context")

    with pytest.raises(ValueError, match="does not start with"):
        compose_spec.PyCompose.from_yaml(TEXT.replace(right, mistake))


def test_it_says_nothing_that_release_1_of_compose_does_not_know(service: dict[str, Any]) -> None:
    """Debian 12 has that one; it refuses a name of the project, and a Dockerfile in the file."""
    assert "name" not in yaml.safe_load(TEXT)
    assert set(service["build"]) <= {"context", "dockerfile", "args", "network"}


def test_nothing_is_made_in_the_checkout(service: dict[str, Any]) -> None:
    """A volume below it would leave a folder of root's, in which the host's `make` cannot write."""
    targets = [PurePosixPath(one.split(":")[1]) for one in service["volumes"]]
    checkout = PurePosixPath("/day2")
    made = PurePosixPath(service["environment"]["DAY2_MADE"])

    assert checkout in targets
    assert [one for one in targets if checkout in one.parents] == []
    assert made in targets
    assert made in PurePosixPath(service["environment"]["PYTHONPYCACHEPREFIX"]).parents


def test_state_has_the_same_name_on_the_host(service: dict[str, Any]) -> None:
    """`make env` names a file in it."""
    state = service["environment"]["DAY2_STATE"]

    assert f"{state}:{state}" in service["volumes"]


def test_health_check_installs_nothing(service: dict[str, Any]) -> None:
    """It runs beside the first start, which installs the environments."""
    check = service["healthcheck"]["test"]

    assert not re.search(r"\bmake\b", check)
    assert check.split()[2] in service["command"][2]


def test_every_target_of_make_goes_where_it_is_told() -> None:
    """What they use and make is in ``DAY2_MADE``, in the container the one place of its own."""
    database = _make("--print-data-base", "--dry-run", "--question", "help").stdout
    targets = set(re.findall(r"^([a-z][a-z-]+):", database, re.MULTILINE)) - {"help"}
    given = ["BUCKET=b", "TARGET=002", "NAME=n", "VERSION=16", "INSTANCE=i", "STACK=s"]
    shown = {one: _make("--dry-run", one, *given) for one in sorted(targets)}

    assert {"up", "test", "package", "validate", "lock", "clean"} <= targets
    assert {one: done.stderr for one, done in shown.items() if done.returncode} == {}
    for target, done in shown.items():
        stray = re.findall(r"(?<![\w/])(?:\.\./)*(?:\.venvs|build)/\S*", done.stdout)
        assert not stray, target
    assert "/elsewhere/.venvs/dev/bin/python -m infra.local up" in shown["up"].stdout
    assert "rm -rf /elsewhere/build" in shown["clean"].stdout


def test_image_has_the_programs_that_are_looked_for() -> None:
    """Its PostgreSQL is one that `make up` takes, at the place where Debian has it."""
    major = int(re.findall(r"postgresql-(\d+)", IMAGE)[0])

    assert major >= OLDEST_MAJOR
    assert {"make", "python3", "python3-venv"} <= set(IMAGE.split())


def _make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DAY2_MADE": "/elsewhere", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
