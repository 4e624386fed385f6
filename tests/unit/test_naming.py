"""Which of the instances and clusters that AWS has a name means."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

import pytest

from core.access.naming import find, fleet
from core.errors import LeftAlone, NoSuchInstance
from core.model import ManagedDatabase, Request, Trigger
from core.settings import Settings
from tests.equipment.fakes import FakeRegister

SETTINGS = Settings()
UNHEARD = "the tag day2 of orders-1 counts for nothing: tag its cluster orders instead"
BY_NAME = [one for one in Trigger if one not in (Trigger.INSTANCE, Trigger.CLUSTER, Trigger.SWEEP)]


@dataclass
class Known(FakeRegister):
    """What RDS has."""

    known: Sequence[ManagedDatabase] = ()
    times: int = 0

    def databases(self) -> Sequence[ManagedDatabase]:
        """Return it, and count how often it was looked at."""
        self.times += 1
        return self.known


def asked(trigger: Trigger, name: str = "orders") -> Request:
    """Return a request for *name*."""
    return Request(trigger, instance=name)


def untagged(database: ManagedDatabase) -> ManagedDatabase:
    """Return *database* without its tags."""
    return database._replace(tags={})


@pytest.mark.parametrize("trigger", BY_NAME)
def test_a_name_is_an_instances_or_a_clusters(
    trigger: Trigger, orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Whoever sends a request need not know which of the two it is."""
    for one in (orders, orders_cluster):
        assert find(asked(trigger), Known([one]), SETTINGS) == one


@pytest.mark.parametrize(
    "trigger", [one for one in Trigger if one not in (Trigger.PARAMETER, Trigger.CLUSTER)]
)
def test_a_member_stands_for_its_cluster(
    trigger: Trigger, orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Its own event is its cluster's, and its own tag counts for nothing."""
    member = orders._replace(identifier="orders-1", cluster="orders")

    found = find(asked(trigger, "orders-1"), Known([member, orders_cluster]), SETTINGS)

    assert found == orders_cluster


def test_a_target_that_is_declared_for_a_member_moves_nobody(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """The cluster's own parameter counts; this one says where to write instead."""
    member = orders._replace(identifier="orders-1", cluster="orders")

    with pytest.raises(LeftAlone, match=r"member of the cluster orders.*for the cluster") as caught:
        find(asked(Trigger.PARAMETER, "orders-1"), Known([member, orders_cluster]), SETTINGS)

    assert caught.value.reason == "cluster-member"


@pytest.mark.parametrize("trigger", [*BY_NAME, Trigger.INSTANCE])
def test_a_member_with_its_clusters_name_is_no_doubt(
    trigger: Trigger, orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Both are tagged, and both are one database."""
    register = Known([orders._replace(cluster="orders"), orders_cluster])

    assert find(asked(trigger), register, SETTINGS) == orders_cluster
    assert fleet(register, SETTINGS) == [orders_cluster]


def test_a_member_of_another_cluster_is_told_by_its_event(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """An event is about the instance; a name alone means the cluster that has it."""
    other = orders_cluster._replace(identifier="billing", arn="billing")
    register = Known([orders._replace(cluster="billing"), orders_cluster, other])

    assert find(asked(Trigger.INSTANCE), register, SETTINGS) == other
    assert find(asked(Trigger.DIRECT), register, SETTINGS) == orders_cluster


@pytest.mark.parametrize("trigger", [one for one in Trigger if one is not Trigger.SWEEP])
def test_of_two_by_one_name_both_are_left(
    trigger: Trigger, orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Their parameters and secrets would be the same ones: what is found names its namesake."""
    found = find(asked(trigger), Known([orders, orders_cluster]), SETTINGS)

    assert {found.arn, found.namesake} == {orders.arn, orders_cluster.arn}


@pytest.mark.parametrize(("trigger", "is_cluster_ours"), [*product(BY_NAME, [True, False])])
def test_of_two_by_one_name_the_tagged_one_is_meant(
    trigger: Trigger,
    orders: ManagedDatabase,
    orders_cluster: ManagedDatabase,
    *,
    is_cluster_ours: bool,
) -> None:
    """The other is not ours to touch, so nothing is guessed."""
    ours, other = (orders_cluster, orders) if is_cluster_ours else (orders, orders_cluster)
    register = Known([ours, untagged(other)])

    assert find(asked(trigger), register, SETTINGS) == ours
    assert sorted(fleet(register, SETTINGS)) == sorted([ours, untagged(other)])


def test_of_two_untagged_ones_a_person_has_to_say_which(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Nobody else would touch them; a direct request needs no tag."""
    register = Known([untagged(orders), untagged(orders_cluster)])

    assert find(asked(Trigger.DIRECT), register, SETTINGS).namesake is not None
    assert find(asked(Trigger.PARAMETER), register, SETTINGS).namesake is None


@pytest.mark.parametrize("engine", ["docdb", "neptune", "aurora-mysql"])
def test_a_cluster_of_another_engine_is_no_namesake(
    engine: str, orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """DocumentDB and Neptune are clusters to RDS as well."""
    other = orders_cluster._replace(engine=engine)
    register = Known([orders, other])

    assert find(asked(Trigger.DIRECT), register, SETTINGS) == orders
    both = Known([untagged(orders), untagged(other)])
    assert find(asked(Trigger.DIRECT), both, SETTINGS) == untagged(orders)
    assert {one.namesake for one in fleet(register, SETTINGS)} == {None}


def test_an_event_is_about_its_own_kind(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """The event of an untagged instance does not move the tagged cluster of its name."""
    register = Known([untagged(orders), orders_cluster])

    assert find(asked(Trigger.INSTANCE), register, SETTINGS) == untagged(orders)
    assert find(asked(Trigger.CLUSTER), register, SETTINGS) == orders_cluster


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_event_of_what_is_not_ours_is_one_call(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase, *, is_ours: bool
) -> None:
    """An account has many of them, and RDS tells nobody how often it may be asked."""
    member = orders._replace(identifier="orders-1", cluster="orders")
    known = [orders, orders_cluster, member] if is_ours else [untagged(orders), member]
    for trigger, name, calls in (
        (Trigger.INSTANCE, "orders", 2 if is_ours else 1),
        (Trigger.CLUSTER, "orders", 2 if is_ours else 1),
        (Trigger.INSTANCE, "gone", 1),
        (Trigger.INSTANCE, "orders-1", 2),
    ):
        register = Known(known)
        with suppress(NoSuchInstance):
            find(asked(trigger, name), register, SETTINGS)
        assert register.times == calls


@pytest.mark.parametrize("trigger", [one for one in Trigger if one is not Trigger.SWEEP])
def test_a_name_of_nothing(trigger: Trigger, orders_cluster: ManagedDatabase) -> None:
    """It is neither, or not of the kind that the event is about."""
    known = [orders_cluster] if trigger is Trigger.INSTANCE else []

    with pytest.raises(NoSuchInstance, match="orders names neither a DB instance"):
        find(asked(trigger), Known(known), SETTINGS)


def test_a_fleet_has_each_database_once(
    orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Members are not in it, and two by one name are one, which is left."""
    cluster = orders_cluster._replace(identifier="billing")
    member = orders._replace(identifier="billing-1", cluster="billing")
    register = Known([member, orders, cluster, orders_cluster])

    assert [one.identifier for one in fleet(register, SETTINGS)] == ["billing", "orders"]
    assert [one.namesake for one in fleet(register, SETTINGS)] == [None, orders_cluster.arn]


@pytest.mark.parametrize("is_swept", [True, False])
def test_a_members_tag_is_said_to_count_for_nothing(
    orders: ManagedDatabase,
    orders_cluster: ManagedDatabase,
    caplog: pytest.LogCaptureFixture,
    *,
    is_swept: bool,
) -> None:
    """Where its cluster has none: somebody waits for what will not come."""
    caplog.set_level(logging.INFO)
    member = orders._replace(identifier="orders-1", cluster="orders")
    for cluster, said in ((untagged(orders_cluster), 1), (orders_cluster, 0)):
        caplog.clear()
        register = Known([member, cluster])
        if is_swept:
            fleet(register, SETTINGS)
        else:
            find(asked(Trigger.INSTANCE, "orders-1"), register, SETTINGS)
        lines = [one for one in caplog.messages if "counts for nothing" in one]
        assert lines == [UNHEARD] * said
