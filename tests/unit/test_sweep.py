"""Which instances a sweep requests, passes over and leaves alone, and in which order."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from core.actions.sweep import Findings, bump_fleet, sweep
from core.budget import Budget
from core.decisions.need import Need, need, retry_after
from core.errors import AccessDenied, NotReady, Rejected
from core.model import (
    Declared,
    ManagedDatabase,
    ObservedState,
    Parameters,
    Report,
    Result,
    Sweep,
    TargetSource,
)
from core.outcome import Outcome
from core.settings import Settings
from tests.equipment.fakes import FakeRegister

HISTORY = ("001", "002", "003", "004")
NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)
SETTINGS = Settings(build="new")
FLEET_TARGET = Declared("004", TargetSource.FLEET, "/day2/_fleet/target-revision")


@dataclass
class FakeFleet(FakeRegister):
    """Instances and parameters as given, and what was put on the bus."""

    known: Sequence[ManagedDatabase]
    parameters: Mapping[str, Parameters] = field(default_factory=dict)
    events: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)
    deployed: frozenset[str] = frozenset()
    secrets: Sequence[tuple[str, dict[str, str]]] = ()
    listings: int = 0
    secondaries: frozenset[str] = frozenset()

    def databases(self) -> Sequence[ManagedDatabase]:
        """Return every instance and cluster."""
        return self.known

    def all_parameters(self) -> dict[str, Parameters]:
        """Return the parameters of those that have any."""
        return dict(self.parameters)

    def login_secrets(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the login secrets, and count that they were asked for."""
        self.listings += 1
        yield from self.secrets

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
        """Remember the events."""
        self.events += [(detail_type, detail) for detail in details]


def declared(value: str) -> Declared:
    """Return *value* as an instance's own parameter declares it."""
    return Declared(value, TargetSource.PARAMETER, "/day2/orders/target-revision")


def observed(
    outcome: str = "APPLIED",
    revision: str | None = "003",
    target: str | None = "003",
    age: timedelta = timedelta(minutes=5),
    **changes: object,
) -> ObservedState:
    """Return what a run *age* ago left behind."""
    state = ObservedState("db-ORDERS", "shop", revision, outcome, target, "new", NOW - age, "7f2c")
    return state._replace(**changes)  # type: ignore[arg-type]


def what(own: Declared | None, state: ObservedState | None, orders: ManagedDatabase) -> Need:
    """Return what ``orders`` needs."""
    return need(
        orders,
        Parameters(own, state),
        identifiers=HISTORY,
        build="new",
        now=NOW,
        follow_head=False,
    )


def run(asked: Sweep, fleet: FakeFleet, budget: Budget | None = None) -> tuple[Result, Findings]:
    """Carry out *asked* with plenty of time, or with *budget*."""
    return sweep(asked, fleet, HISTORY, SETTINGS, budget=budget or Budget.of(900), now=lambda: NOW)


def bump(fleet: FakeFleet, settings: Settings = SETTINGS) -> tuple[Result, Findings]:
    """Carry out the bump of the fleet's target."""
    return bump_fleet(fleet, HISTORY, settings, now=lambda: NOW)


HOURS = timedelta(hours=1)

NEEDS: list[tuple[str, Declared | None, ObservedState | None, Need]] = [
    ("never seen", declared("003"), None, Need.BEHIND),
    ("never seen, nothing declared", None, None, Need.BEHIND),
    ("at its target", declared("003"), observed(), Need.AT_TARGET),
    ("at its target, written with space", declared(" 003\n"), observed(), Need.AT_TARGET),
    ("bumped", declared("004"), observed(), Need.BEHIND),
    ("at head", declared("head"), observed(revision="004", target="head"), Need.AT_TARGET),
    ("a build brought a revision", declared("head"), observed(target="head"), Need.BEHIND),
    ("at its target, by another build", declared("003"), observed(build="old"), Need.AT_TARGET),
    ("another database", declared("003"), observed(dbi_resource_id="db-X"), Need.BEHIND),
    ("nothing declared, past base", None, observed("IGNORED", target=None), Need.UNDECLARED),
    ("nothing declared, at base", None, observed("FAILED", None, "head", 2 * HOURS), Need.BEHIND),
    ("interrupted", declared("003"), observed("INCOMPLETE", "002"), Need.BEHIND),
    ("locked", declared("003"), observed("LOCK_BUSY", "002"), Need.BEHIND),
    ("not ready", declared("003"), observed("NOT_READY", "002"), Need.BEHIND),
    ("failed just now", declared("003"), observed("FAILED", "002"), Need.BLOCKED),
    ("failed an hour ago", declared("003"), observed("FAILED", "002", age=HOURS), Need.BEHIND),
    (
        "failed twice, an hour ago",
        declared("003"),
        observed("FAILED", "002", age=HOURS, attempts=2),
        Need.BLOCKED,
    ),
    ("failed, then bumped", declared("004"), observed("FAILED", "002"), Need.BEHIND),
    ("failed, then deployed", declared("003"), observed("FAILED", "002", build="old"), Need.BEHIND),
    (
        "failed, of another database",
        declared("003"),
        observed("FAILED", "002", dbi_resource_id="db-X"),
        Need.BEHIND,
    ),
    ("denied before it knew", declared("003"), observed("ACCESS_DENIED", None, None), Need.BLOCKED),
    ("a malformed target", declared("+1"), observed("REJECTED", "002", None), Need.BLOCKED),
    ("ahead of it", declared("002"), observed("BEHIND_CURRENT", target="002"), Need.BLOCKED),
    ("an unknown target", declared("005"), observed("REJECTED", "002", "005"), Need.BLOCKED),
    ("a malformed target, never tried", declared("+1"), None, Need.BLOCKED),
    ("an unknown target, never tried", declared("005"), None, Need.BLOCKED),
    ("an unknown target, by another build", declared("005"), observed(build="old"), Need.BLOCKED),
    ("a secret target", declared("003")._replace(type="SecureString"), observed(), Need.BLOCKED),
    ("an outcome of another build", declared("004"), observed("SUPERB", "002", "004"), Need.BEHIND),
]  # fmt: skip


def test_an_instance_needs(orders: ManagedDatabase, subtests: pytest.Subtests) -> None:
    """Parameters alone say what an instance needs; a doubt is a run, which decides."""
    for name, own, state, expected in NEEDS:
        with subtests.test(name):
            assert what(own, state, orders) is expected


@pytest.mark.parametrize(("revision", "expected"), [("003", Need.BEHIND), ("004", Need.AT_TARGET)])
def test_with_follow_head_nothing_declared_means_head(
    revision: str, expected: Need, orders: ManagedDatabase
) -> None:
    """FollowHead makes head the target of whoever has none."""
    parameters = Parameters(None, observed(revision=revision, target="head"))

    found = need(orders, parameters, identifiers=HISTORY, build="new", now=NOW, follow_head=True)

    assert found is expected


def test_a_blocked_instance_is_tried_at_growing_intervals() -> None:
    """The sweep does not knock for ever: 1, 2, 4, … hours, and at least once a day."""
    hours = [retry_after(attempts) / timedelta(hours=1) for attempts in range(8)]

    assert hours == [1, 1, 2, 4, 8, 16, 24, 24]
    assert retry_after(10**9) == timedelta(days=1)


def test_a_sweep_requests_whoever_is_behind(orders: ManagedDatabase) -> None:
    """Each instance is requested, passed over, or skipped with its reason, in order of name."""
    fleet = FakeFleet(
        [
            orders._replace(identifier=name, **changes)
            for name, changes in {
                "zebra": {},
                "at-target": {},
                "blocked": {},
                "undeclared": {},
                "new": {},
                "replica": {"replica_of": "orders"},
                "untagged": {"tags": {}},
                "stopped": {"status": "stopped"},
            }.items()
        ],
        {
            "at-target": Parameters(declared("003"), observed()),
            "blocked": Parameters(declared("004"), observed("FAILED", target="004")),
            "undeclared": Parameters(None, observed("IGNORED", target=None)),
            "zebra": Parameters(declared("004"), observed(age=timedelta(hours=3))),
        },
    )

    result, found = run(Sweep(), fleet)

    assert fleet.events == [
        ("Migration Requested", {"instance": "new", "action": "migrate"}),
        ("Migration Requested", {"instance": "zebra", "action": "migrate"}),
    ]
    skipped = {"read-replica": 1, "not-opted-in": 1, "stopped": 1}
    assert found == Findings(
        requested=["new", "zebra"],
        blocked=["blocked"],
        behind=2,
        oldest_behind_seconds=10800.0,
        skipped=Counter(skipped),
    )
    assert result == Result(
        Outcome.REQUESTED,
        "Requested 2 run(s); 1 blocked, 3 skipped",
        Report(details={"requested": ["new", "zebra"], "blocked": ["blocked"], "skipped": skipped}),
    )


def test_a_full_sweep_requests_all_but_the_blocked(orders: ManagedDatabase) -> None:
    """A full sweep opens every managed database, however fresh its observed state."""
    fleet = FakeFleet(
        [orders._replace(identifier=name) for name in ("a", "b", "c")],
        {
            "a": Parameters(declared("003"), observed()),
            "b": Parameters(declared("004"), observed("FAILED", target="004")),
            "c": Parameters(None, observed("IGNORED", target=None)),
        },
    )

    _, found = run(Sweep(full=True), fleet)

    assert (found.requested, found.blocked) == (["a", "c"], ["b"])


def test_an_instance_without_parameters_follows_the_fleet(orders: ManagedDatabase) -> None:
    """Who has no parameter of any kind is held to the fleet's target."""
    fleet = FakeFleet([orders], {"_fleet": Parameters(FLEET_TARGET)})

    _, found = run(Sweep(), fleet)

    assert found.requested == ["orders"]


def test_a_quiet_fleet_is_up_to_date(orders: ManagedDatabase) -> None:
    """A sweep that finds nothing to do says so, and puts nothing on the bus."""
    fleet = FakeFleet([orders], {"orders": Parameters(declared("003"), observed())})

    result, _ = run(Sweep(), fleet)

    assert (result.outcome, fleet.events) == (Outcome.UP_TO_DATE, [])


def test_a_sweep_that_runs_out_of_time_carries_on_behind_the_last(orders: ManagedDatabase) -> None:
    """What was seen is requested, and the rest is another sweep's, with the same reach."""
    fleet = FakeFleet([orders._replace(identifier=name) for name in ("a", "b", "c", "d")])
    ticks = count(30, -10)

    _, found = run(Sweep(full=True, after="a"), fleet, Budget(lambda: next(ticks), 10))

    assert found.requested == ["b", "c"]
    assert fleet.events == [
        ("Migration Requested", {"instance": "b", "action": "migrate"}),
        ("Migration Requested", {"instance": "c", "action": "migrate"}),
        ("Sweep Requested", {"after": "c", "full": True}),
    ]


def test_a_sweep_without_any_time_still_makes_progress(orders: ManagedDatabase) -> None:
    """One instance is looked at in each link of the chain, a skipped one included."""
    fleet = FakeFleet([orders._replace(identifier="a", tags={}), orders._replace(identifier="b")])

    run(Sweep(), fleet, Budget(lambda: 0, 10))

    assert fleet.events == [("Sweep Requested", {"after": "a", "full": False})]


def test_a_refusing_bus_fails_the_sweep(orders: ManagedDatabase) -> None:
    """What could not be requested is an error, never a quiet success."""

    class RefusingFleet(FakeFleet):
        def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
            raise NotReady(f"the event bus refused {len(details)} {detail_type}")

    with pytest.raises(NotReady):
        run(Sweep(), RefusingFleet([orders]))


def test_a_bump_of_the_fleet_moves_those_who_follow_it(orders: ManagedDatabase) -> None:
    """Also who is there and awake: whoever has its own parameter, or is not ours, is left."""
    fleet = FakeFleet(
        [
            orders._replace(identifier=name, **changes)
            for name, changes in {
                "follows": {},
                "follows-and-was-seen": {},
                "follows-and-is-there": {},
                "has-its-own": {},
                "untagged": {"tags": {}},
            }.items()
        ],
        {
            "_fleet": Parameters(FLEET_TARGET),
            "follows-and-was-seen": Parameters(FLEET_TARGET, observed()),
            "follows-and-is-there": Parameters(FLEET_TARGET, observed("APPLIED", "004", "004")),
            "has-its-own": Parameters(declared("002"), observed(revision="001")),
        },
    )

    result, found = bump(fleet)

    assert fleet.events == [
        ("Migration Requested", {"instance": name, "action": "migrate"})
        for name in ("follows", "follows-and-is-there", "follows-and-was-seen")
    ]
    assert found.skipped == Counter({"not-opted-in": 1})
    assert result.message == "Requested 3 run(s); 0 blocked, 1 skipped"


def test_a_sweep_counts_what_is_in_a_deployment(orders: ManagedDatabase) -> None:
    """Blue and green wait for its end, and are no failures."""
    fleet = FakeFleet([orders], deployed=frozenset({orders.arn}))

    _, swept = sweep(Sweep(), fleet, HISTORY, Settings(), budget=Budget.of(60), now=lambda: NOW)
    _, bumped = bump(fleet, Settings())

    assert swept.skipped == bumped.skipped == {"blue-green": 1}
    assert fleet.events == []


UNKNOWN = (
    "/day2/_fleet/target-revision: target '03' is not a revision of this build (the last ones are "
    "001, 002, 003, 004): correct the target, or deploy the build that has it"
)


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        ("03", UNKNOWN),
        ("0a1b2c3d", "'0a1b2c3d' is not a revision of this build"),
        ("+1", "/day2/_fleet/target-revision: '+1' is not a target"),
        ("heads", "/day2/_fleet/target-revision: 'heads' is not a target"),
        ("", "/day2/_fleet/target-revision: '' is not a target"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_typing_error_in_the_fleets_target_is_refused_once(
    value: str, flaw: str, count: int, orders: ManagedDatabase
) -> None:
    """At the fan-out, by name: not by a failed event of every instance."""
    names = [f"orders-{number:03}" for number in range(count)]
    fleet = FakeFleet(
        [orders._replace(identifier=name) for name in names],
        {"_fleet": Parameters(FLEET_TARGET._replace(value=value))},
    )

    with pytest.raises(Rejected) as caught:
        bump(fleet)

    assert flaw in str(caught.value)
    assert str(caught.value).endswith("; no run was requested")
    for asked in (Sweep(), Sweep(full=True)):
        result, found = run(asked, fleet)
        assert (result.outcome, found.blocked) == (Outcome.BLOCKED, names)
        assert flaw in result.message
        assert len(found.flaws) == 1
    assert fleet.events == []


def test_a_bump_without_a_target_any_more_moves_who_follows_none(orders: ManagedDatabase) -> None:
    """Deleted before the event came: the runs decide."""
    result, _ = bump(FakeFleet([orders]))

    assert result.outcome is Outcome.REQUESTED


def test_a_sweep_of_the_blocked_alone_is_not_up_to_date(
    orders: ManagedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so, and the log has the error of each, as its observed state has it."""
    failed = observed("FAILED", target="004", error="revision 004 failed: no such role")
    fleet = FakeFleet([orders], {"orders": Parameters(declared("004"), failed)})

    with caplog.at_level(logging.INFO):
        result, _ = run(Sweep(), fleet)

    assert result.outcome is Outcome.BLOCKED
    assert not result.outcome.success
    (line,) = (one for one in caplog.records if vars(one).get("reason") == "blocked")
    assert vars(line)["error"] == "revision 004 failed: no such role"


def test_one_wrong_parameter_stops_nobody_else(orders: ManagedDatabase) -> None:
    """Whoever is behind is requested, and the message names what is wrong."""
    fleet = FakeFleet(
        [orders._replace(identifier=name) for name in ("a", "b")],
        {"a": Parameters(declared("O03")), "b": Parameters(declared("004"))},
    )

    result, found = run(Sweep(), fleet)

    assert (result.outcome, found.requested, found.blocked) == (Outcome.REQUESTED, ["b"], ["a"])
    assert "target 'O03' is not a revision of this build" in result.message


def test_a_full_sweep_counts_the_secrets_that_outlived_their_database(
    orders: ManagedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a day, by the rule of the operator's command; no other look at the fleet lists them."""
    secrets = [
        (f"day2/{name}/app_user", {"day2:dbi-resource-id": resource_id})
        for name, resource_id in (("orders", "db-X"), ("gone", "db-GONE"), ("old", "db-ORDERS"))
    ]
    fleet = FakeFleet([orders], secrets=[*secrets, ("day2/gone/theirs", {})])

    with caplog.at_level(logging.INFO):
        _, full = run(Sweep(full=True), fleet)
    _, rest = run(Sweep(full=True, after="a"), fleet)
    _, usual = run(Sweep(), fleet)
    _, bumped = bump(fleet)

    assert (full.orphaned_secrets, fleet.listings) == (1, 1)
    assert "1 login secret(s) have outlived their database: day2/gone/app_user" in caplog.text
    assert [one.orphaned_secrets for one in (rest, usual, bumped)] == [None] * 3


def test_secrets_that_cannot_be_listed_stop_no_sweep(
    orders: ManagedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """An account may forbid it; who is behind is requested all the same."""

    class Forbidding(FakeFleet):
        def login_secrets(self) -> Iterator[tuple[str, dict[str, str]]]:
            raise AccessDenied("secretsmanager:ListSecrets is denied")

    _, found = run(Sweep(full=True), Forbidding([orders]))

    assert (found.orphaned_secrets, found.requested) == (None, ["orders"])
    assert "the login secrets were not counted: secretsmanager:ListSecrets" in caplog.text


# Clusters


def test_a_sweep_looks_at_clusters_and_not_at_their_members(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """A cluster is one database, whose members are neither counted nor requested."""
    cluster = orders_cluster._replace(identifier="billing")
    members = [orders._replace(identifier=f"billing-{n}", cluster="billing") for n in (1, 2)]
    fleet = FakeFleet([*members, orders, cluster], {"_fleet": Parameters(FLEET_TARGET)})

    _, swept = run(Sweep(), fleet)
    _, bumped = bump(fleet)

    assert swept.requested == bumped.requested == ["billing", "orders"]
    assert swept.skipped == bumped.skipped == Counter()


def test_a_sweep_leaves_copies_and_namesakes(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Counted by their reasons: the one is told once, for both."""
    copy = orders_cluster._replace(identifier="copy", arn="arn:copy", writer=None)
    fleet = FakeFleet([orders, orders_cluster, copy], secondaries=frozenset({"arn:copy"}))

    for _, found in (run(Sweep(full=True), fleet), bump(fleet)):
        assert found.requested == []
        assert found.skipped == Counter({"same-name": 1, "read-only": 1})


SWEEP, BUMP = "sweep", "bump"
ASLEEP: list[tuple[str, Declared | None, ObservedState | None, set[str]]] = [
    ("at its target", declared("003"), observed(), set()),
    ("nobody declared one", None, observed("IGNORED", target=None), set()),
    ("left to others", None, observed("IGNORED", None, "head"), set()),
    (
        "left to others, by another build",
        None,
        observed("IGNORED", None, "head", build="old"),
        {SWEEP, BUMP},
    ),
    ("bumped", declared("004"), observed(), {SWEEP, BUMP}),
    ("never seen", declared("003"), None, {SWEEP, BUMP}),
    ("another database", declared("003"), observed(dbi_resource_id="cluster-X"), {SWEEP, BUMP}),
    ("failed, an hour ago", declared("003"), observed("FAILED", "002", age=HOURS), {SWEEP, BUMP}),
    # Whoever writes the same target once more has mended something.
    ("failed just now", declared("003"), observed("FAILED", "002"), {BUMP}),
]


@pytest.mark.parametrize("asked", [Sweep(), Sweep(full=True), BUMP], ids=["sweep", "full", "bump"])
def test_nobody_is_woken_only_to_look(
    asked: Sweep | str, orders_cluster: ManagedDatabase, subtests: pytest.Subtests
) -> None:
    """A cluster that may be asleep is requested where there is something to do for it."""
    for name, own, seen, wakes in ASLEEP:
        with subtests.test(name):
            state = seen
            if seen is not None and seen.dbi_resource_id == "db-ORDERS":
                state = seen._replace(dbi_resource_id=orders_cluster.resource_id)
            target = own and own._replace(source=TargetSource.FLEET)
            parameters = {"_fleet": Parameters(target), "orders": Parameters(target, state)}
            asleep = FakeFleet([orders_cluster._replace(sleeps=True)], parameters)

            _, found = run(asked, asleep) if isinstance(asked, Sweep) else bump(asleep)

            expected = (BUMP if asked == BUMP else SWEEP) in wakes
            assert found.requested == (["orders"] if expected else [])


def test_a_cluster_that_never_sleeps_is_opened_by_a_full_sweep(
    orders_cluster: ManagedDatabase,
) -> None:
    """As an instance is."""
    state = observed(dbi_resource_id=orders_cluster.resource_id)
    fleet = FakeFleet([orders_cluster], {"orders": Parameters(declared("003"), state)})

    assert run(Sweep(full=True), fleet)[1].requested == ["orders"]
