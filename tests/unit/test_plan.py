"""Which revisions run: every pair of a short history, so that no case is left to chance."""

from __future__ import annotations

from itertools import product

import pytest

from core.decisions.plan import Plan, plan, plan_rollback
from core.decisions.target import choose_target, declared_target, target_revision
from core.errors import BehindCurrent, DatabaseAhead, InvalidField, Rejected, UnknownRevision
from core.model import Choice, Declared, Request, TargetSource, Trigger

HISTORY = ("001", "002", "003", "004")
POSITIONS = (None, *HISTORY)
TARGETS = (*HISTORY, "head")
PAIRS = list(product(POSITIONS, TARGETS))
FLAGS = [
    {"at_base": at_base, "follow_head": follow_head}
    for at_base, follow_head in product((True, False), repeat=2)
]

DECLARED = Declared("003", TargetSource.PARAMETER, "/day2/orders/target-revision")


def applied(current: str | None) -> tuple[str, ...]:
    """Return the revisions that a database at *current* has."""
    return HISTORY[: POSITIONS.index(current)]


def goal(target: str) -> str:
    """Return the revision that *target* means."""
    return HISTORY[-1] if target == "head" else target


def test_a_plan_leads_forward_or_refuses(subtests: pytest.Subtests) -> None:
    """What is applied plus the plan is all up to the target; backwards always refuses."""
    for current, target in PAIRS:
        with subtests.test(current=current, target=target):
            if POSITIONS.index(current) > POSITIONS.index(goal(target)):
                with pytest.raises(BehindCurrent):
                    plan(HISTORY, current, target)
                continue

            found = plan(HISTORY, current, target)

            assert applied(current) + found.revisions == applied(goal(target))
            assert (found.current, found.target) == (current, goal(target))
            assert bool(found) == (current != goal(target))


@pytest.mark.parametrize("target", TARGETS)
def test_planning_again_is_empty(target: str) -> None:
    """A database at its target has nothing to apply."""
    assert plan(HISTORY, goal(target), target) == Plan(goal(target), goal(target), ())


def test_a_rollback_leads_back_or_refuses(subtests: pytest.Subtests) -> None:
    """A rollback undoes the forward plan, newest first; forwards and ``head`` always refuse."""
    for current, target in PAIRS:
        with subtests.test(current=current, target=target):
            is_below = target != "head" and POSITIONS.index(target) < POSITIONS.index(current)
            if not is_below:
                with pytest.raises(Rejected):
                    plan_rollback(HISTORY, current, target)
                continue

            back = plan_rollback(HISTORY, current, target)

            forward = plan(HISTORY, target, current or "")
            assert back == Plan(current, target, forward.revisions[::-1])


@pytest.mark.parametrize("target", ["005", "00", "0010", "base", "heads", "", "HEAD"])
def test_an_unknown_target_is_rejected(target: str) -> None:
    """A prefix, a relative name and a revision of another build are all unknown."""
    for planner in (plan, plan_rollback):
        with pytest.raises(UnknownRevision):
            planner(HISTORY, "002", target)


def test_an_unknown_target_names_the_newest_revisions() -> None:
    """The error helps to correct a typing error, and stays short on a long history."""
    with pytest.raises(UnknownRevision) as caught:
        plan([f"{number:03}" for number in range(1, 100)], None, "1OO")

    assert str(caught.value) == (
        "target '1OO' is not a revision of this build (the last ones are 095, 096, 097, 098, 099): "
        "correct the target, or deploy the build that has it"
    )


@pytest.mark.parametrize("target", [*TARGETS, "005"])
def test_a_database_ahead_of_the_build_is_refused(target: str) -> None:
    """A revision that this build lacks comes before every other question."""
    for planner in (plan, plan_rollback):
        with pytest.raises(DatabaseAhead):
            planner(HISTORY, "005", target)


def test_an_empty_history_has_nothing_to_apply() -> None:
    """``head`` of a build without revisions is base."""
    assert plan((), None, "head") == Plan(None, None, ())


def test_the_requests_own_target_wins(subtests: pytest.Subtests) -> None:
    """What the caller asks for is what is done, whatever anybody declared."""
    for instance, declared, flags in product(("orders", None), (DECLARED, None), FLAGS):
        with subtests.test(instance=instance, declared=declared, **flags):
            request = Request(Trigger.DIRECT, instance=instance, secret_name="master", target="002")

            found = choose_target(request, declared, **flags)

            assert found == Choice("002", TargetSource.REQUEST)


def test_a_bare_secret_means_head(subtests: pytest.Subtests) -> None:
    """With a secret alone nothing is declared, and no target is head."""
    for declared, flags in product((DECLARED, None), FLAGS):
        with subtests.test(declared=declared, **flags):
            found = choose_target(Request(Trigger.DIRECT, secret_name="master"), declared, **flags)

            assert found == Choice("head", TargetSource.DEFAULT)


def test_a_declared_target_is_taken(subtests: pytest.Subtests) -> None:
    """What a parameter declares goes before every default, whoever asks."""
    sources = (TargetSource.PARAMETER, TargetSource.FLEET)
    for trigger, source, flags in product(Trigger, sources, FLAGS):
        with subtests.test(trigger=trigger, source=source, **flags):
            declared = Declared(" 003\n", source, "/day2/orders/target-revision")

            found = choose_target(Request(trigger, instance="orders"), declared, **flags)

            assert found == Choice("003", source)


def test_without_a_declared_target_only_base_moves_by_itself(subtests: pytest.Subtests) -> None:
    """A person means head; events move nobody past base, unless FollowHead says so."""
    for trigger, flags in product(Trigger, FLAGS):
        with subtests.test(trigger=trigger, **flags):
            found = choose_target(Request(trigger, instance="orders"), None, **flags)

            means_head = trigger is Trigger.DIRECT or any(flags.values())
            assert found == (Choice("head", TargetSource.DEFAULT) if means_head else None)


@pytest.mark.parametrize("kind", ["StringList", "SecureString"])
def test_only_a_plain_parameter_declares_a_target(kind: str) -> None:
    """A parameter of another type is refused by its name, and its value is not shown."""
    declared = Declared("003", TargetSource.PARAMETER, "/day2/orders/target-revision", kind)

    with pytest.raises(InvalidField) as caught:
        declared_target(declared)

    assert str(caught.value) == (
        f"/day2/orders/target-revision: is of type {kind}: make it a parameter of type String"
    )


@pytest.mark.parametrize("value", ["head", "001", "ae1027a6acf", "x" * 32, "2026_05_04"])
def test_head_and_exact_identifiers_have_the_form_of_a_target(value: str) -> None:
    """Whatever Alembic takes as an identifier can be asked for."""
    assert target_revision(value, named="target_revision") == value


@pytest.mark.parametrize(
    "value",
    ["", " ", "+1", "-1", "001+1", "heads", "base", "current", "a@head", "001:003", "x" * 33,
     "001\n", "001 ", "é01", "001;"],
)  # fmt: skip
def test_relative_targets_are_refused_by_form(value: str) -> None:
    """A redelivered ``+1`` is another migration, so nothing relative is taken."""
    with pytest.raises(InvalidField) as caught:
        target_revision(value, named="detail.target_revision")

    assert str(caught.value) == (
        f"detail.target_revision: {value!r} is not a target: "
        "give 'head' or one exact revision identifier"
    )
