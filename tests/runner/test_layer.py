"""A function whose migrations are a layer: all as before, and nothing else is taken for one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.revisions.folder import Folder
from infra import package
from tests.equipment.container import Answer
from tests.equipment.histories import folder_of, table
from tests.equipment.world import INSTANCE, World

FIRST = {"a1": table("a1")}
SECOND = FIRST | {"a2": table("a2")}

Unpacked = Callable[..., Path]


@pytest.fixture
def unpacked(tmp_path: Path) -> Unpacked:
    """Package revisions as a layer, and return where Lambda would have unpacked it."""

    def make(upgrades: dict[str, str]) -> Path:
        folder = folder_of(tmp_path / "acme", upgrades)
        built = package.build(package.OUTPUT / "local", migrations=folder)
        assert built.migrations
        here = tmp_path / "opt" / str(sum(1 for _ in tmp_path.glob("opt/*")))
        return Path(shutil.copytree(built.migrations.with_suffix(""), here), package.MIGRATIONS)

    return make


def ask(world: World, layer: Path, event: Any = None, **variables: str) -> Answer:
    """Call the function whose layer is unpacked there."""
    return world.call(event, variables={"DAY2_MIGRATIONS": str(layer), **variables})


def test_a_new_layer_brings_the_next_revision(world: World, unpacked: Unpacked) -> None:
    """And an older one finds the database ahead of it."""
    first, second = unpacked(FIRST), unpacked(SECOND)

    one = ask(world, first)
    two = ask(world, second)
    older = ask(world, first)

    assert [one.body["applied_migrations"], two.body["applied_migrations"]] == [["a1"], ["a2"]]
    assert older.outcome == "DB_AHEAD"
    assert world.query("SELECT to_regclass('public.a2')::text") == [("a2",)]


def test_the_build_names_the_layer(world: World, unpacked: Unpacked) -> None:
    """In status, in the log and in the observed state; a new layer is a new build."""
    first, second = unpacked(FIRST), unpacked(SECOND)
    its = (first / "BUILD").read_text().strip()
    variables = {"DAY2_BUILD": ""}

    status = ask(world, first, world.request("status", None), **variables)
    run = ask(world, first, **variables)
    other = ask(world, second, world.request("status", None), **variables)

    observed = json.loads(world.aws.parameters[f"/day2/{INSTANCE}/observed-state"][1])
    assert status.body["build"] == its
    assert run.line("run finished")["build"] == observed["build"] == its
    assert other.body["build"] not in ("", its)


def test_a_revision_that_changed_is_told_of(world: World, unpacked: Unpacked) -> None:
    """By its checksum, as with the examples."""
    ask(world, unpacked(FIRST))
    other = unpacked({"a1": table("another")})

    status = ask(world, other, world.request("status", None))
    strict = ask(world, other, DAY2_STRICT_CHECKSUMS="true")

    assert status.body["changed_files"] == ["a1"]
    assert (strict.outcome, "a1 changed" in strict.body["message"]) == ("FAILED", True)


def test_instances_follow_the_head_of_the_layer(world: World, unpacked: Unpacked) -> None:
    """Where FollowHead is set; else a new layer moves nobody by itself."""
    ask(world, unpacked(FIRST))
    layer = unpacked(SECOND)
    event = {
        "source": "day2",
        "detail-type": "Migration Requested",
        "detail": {"instance": INSTANCE, "action": "migrate"},
    }

    left = ask(world, layer, event)
    follows = ask(world, layer, event, DAY2_FOLLOW_HEAD="true")

    assert left.outcome == "IGNORED"
    assert follows.body["applied_migrations"] == ["a2"]


def no_longer_there(layer: Path) -> None:
    """Take the layer away."""
    shutil.rmtree(layer)


def of_another_python(layer: Path) -> None:
    """Let it have been packaged for another Python."""
    said = json.loads((layer / "layer.json").read_text())
    (layer / "layer.json").write_text(json.dumps(said | {"python": "cpython-36"}))


def of_newer_helpers(layer: Path) -> None:
    """Let it have been packaged by a day2 that has more helpers."""
    said = json.loads((layer / "layer.json").read_text())
    (layer / "layer.json").write_text(json.dumps(said | {"contract": "1.99"}))


def never_packaged(layer: Path) -> None:
    """Let it be a folder that somebody zipped himself."""
    (layer / "layer.json").unlink()
    (layer / "history.json").unlink()


def empty(layer: Path) -> None:
    """Take every revision out of it."""
    (layer / "versions" / "a1.py").unlink()
    (layer / "history.json").write_text("{}")


def cut(layer: Path) -> None:
    """Cut the list off."""
    text = (layer / "history.json").read_text()
    (layer / "history.json").write_text(text[: len(text) // 2])


def with_another_revision(layer: Path) -> None:
    """Put a revision beside those that the list names."""
    shutil.copy(layer / "versions" / "a1.py", layer / "versions" / "a2.py")


BROKEN = {
    no_longer_there: "cannot be read",
    never_packaged: "cannot be read",
    of_another_python: "has the byte code of cpython-36, and this function runs cpython-3",
    of_newer_helpers: "uses the helpers of contract 1.99, and this function has 1.",
    empty: "is empty",
    cut: "cannot be read",
    with_another_revision: "has other files than its list says",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_a_layer_that_is_not_whole_is_refused(
    world: World, unpacked: Unpacked, spoil: Callable[[Path], None]
) -> None:
    """With what is wrong and what to do; neither it nor the examples are applied."""
    layer = unpacked(FIRST)
    spoil(layer)

    run, status = ask(world, layer), ask(world, layer, world.request("status", None))

    for answer in (run, status):
        assert answer.outcome == "FAILED"
        assert f"the layer with the migrations {BROKEN[spoil]}" in answer.body["message"]
        assert answer.body["message"].endswith("; nothing was touched")
    assert world.query("SELECT to_regclass('day2.history')") == [(None,)]


def test_a_layer_needs_no_list_of_files_that_no_revision_is(
    world: World, unpacked: Unpacked
) -> None:
    """A module beside the revisions is imported by them."""
    layer = unpacked({"a1": "import naming; operations.role(naming.ROLE)"})
    (Folder(layer).path / "naming.py").write_text("ROLE = 'of_acme'")

    assert ask(world, layer).outcome == "APPLIED"
    assert world.query("SELECT to_regrole('of_acme')::text") == [("of_acme",)]
