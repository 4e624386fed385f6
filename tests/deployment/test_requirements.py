"""The locks: everything pinned and hashed, nothing said about where it comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.package import COMPILED, LAYER_LOCK

LOCKS = sorted(LAYER_LOCK.parent.glob("*.txt"))
REQUIREMENT = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9, -]+\])?==([^ ;]+)(?: ; ([^\\]+))? \\$")


def pins(lock: Path) -> dict[str, set[str]]:
    """Read the releases that *lock* pins, by library."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            match = REQUIREMENT.match(line)
            assert match, f"{lock.name}: not a hashed pin: {line}"
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_is_hashed_and_names_no_index(lock: Path) -> None:
    """It installs with --require-hashes from whichever index the machine uses."""
    text = lock.read_text()

    assert pins(lock)
    assert not re.search(r"://|--(extra-)?index|--find-links", text)
    assert lock.with_suffix(".in").exists()


def test_the_layers_lock_is_the_same_for_every_platform() -> None:
    """Pip decides markers by the interpreter that runs it, not by the one that it installs for."""
    assert " ; " not in LAYER_LOCK.read_text()
    assert pins(LAYER_LOCK).keys() >= COMPILED


def test_the_runtimes_boto3_is_not_in_the_layer() -> None:
    """The layer would hide the one that AWS keeps up to date."""
    assert not pins(LAYER_LOCK).keys() & {"boto3", "botocore", "s3transfer", "awslambdaric"}


def test_tests_run_with_the_layers_libraries_and_the_runtimes() -> None:
    """What is tested is what is deployed."""
    development = pins(LAYER_LOCK.with_name("dev.txt"))
    runtime = pins(LAYER_LOCK.with_name("lambda.txt"))

    deployed = pins(LAYER_LOCK) | {name: runtime[name] for name in ("boto3", "botocore")}
    assert {name: development[name] for name in deployed} == deployed
