"""Whether an instance is ours to migrate: each reason code, for an event and when named."""

from __future__ import annotations

from typing import Any

import pytest

from core.decisions.eligibility import (
    SKIPPED,
    Eligibility,
    Verdict,
    eligibility,
    is_opted_in,
    refusal,
)
from core.errors import AwaitsPerson, InstanceNotReady, MigrationError, Rejected
from core.model import Kind, ManagedDatabase, ManagedSecret
from core.postgres.diagnosis import too_old
from core.settings import Settings

SOURCE = "arn:aws:rds:us-east-1:123456789012:db:orders"
USE, WAIT, SKIP = Verdict.USE, Verdict.WAIT, Verdict.SKIP

# What is changed of an instance that is fine, and what an event then finds.
CASES: list[tuple[dict[str, Any], Verdict, str]] = [
    ({}, USE, "eligible"),
    ({"identifier": "billing"}, SKIP, "name-prefix"),
    ({"tags": {}}, SKIP, "not-opted-in"),
    ({"tags": {"day2": "disabled"}}, SKIP, "not-opted-in"),
    ({"tags": {"day2-test": "enabled"}}, SKIP, "not-opted-in"),
    ({"cluster": "orders-cluster"}, SKIP, "cluster-member"),
    ({"engine": "aurora-postgresql"}, SKIP, "not-postgresql"),
    ({"engine": "mysql"}, SKIP, "not-postgresql"),
    ({"engine_version": "11.22-rds.20240418"}, SKIP, "old-version"),
    ({"engine_version": "13.20"}, SKIP, "old-version"),
    ({"engine_version": "9.6.24"}, SKIP, "old-version"),
    ({"engine_version": "14.1"}, USE, "eligible"),
    ({"engine_version": "18"}, USE, "eligible"),
    ({"engine_version": ""}, USE, "eligible"),
    ({"engine_version": "of tomorrow"}, USE, "eligible"),
    ({"replica_of": "orders"}, SKIP, "read-replica"),
    ({"identifier": "orders-green-ab12cd", "replica_of": SOURCE}, SKIP, "green-copy"),
    ({"identifier": "orders-green-ab12cd"}, SKIP, "green-copy"),
    ({"identifier": "orders-green-ab12c"}, USE, "eligible"),
    ({"identifier": "orders-old1"}, SKIP, "old-blue"),
    ({"identifier": "orders-old12"}, SKIP, "old-blue"),
    ({"identifier": "orders-old"}, USE, "eligible"),
    ({"vpc_id": "vpc-2"}, SKIP, "other-vpc"),
    ({"vpc_id": None}, USE, "eligible"),
    ({"status": "stopped"}, SKIP, "stopped"),
    ({"status": "stopping"}, SKIP, "stopped"),
    ({"status": "deleting"}, SKIP, "unusable"),
    ({"status": "creating", "host": None}, WAIT, "being-made"),
    ({"status": "starting"}, WAIT, "being-made"),
    ({"host": None}, WAIT, "being-made"),
    ({"status": "a-status-of-tomorrow"}, USE, "eligible"),
    ({"managed_secret": ManagedSecret("arn", "creating")}, WAIT, "secret-creating"),
    ({"managed_secret": ManagedSecret("arn", "impaired")}, USE, "eligible"),
    ({"managed_secret": ManagedSecret("arn", "rotating")}, USE, "eligible"),
    ({"managed_secret": None}, USE, "eligible"),
]
SETTINGS = Settings(instance_name_prefix="orders", vpc_id="vpc-1")


def test_an_event_finds(orders: ManagedDatabase, subtests: pytest.Subtests) -> None:
    """An instance that differs in this is used, waited for, skipped or refused so."""
    for changes, verdict, reason in CASES:
        with subtests.test(**changes):
            found = eligibility(orders._replace(**changes), SETTINGS, uses_managed_secret=True)

            assert (found.verdict, found.reason) == (verdict, reason)


def test_a_direct_request_differs_in_the_tag_alone(
    orders: ManagedDatabase, subtests: pytest.Subtests
) -> None:
    """Whoever names an instance needs no tag on it; all else holds for them too."""
    for changes, verdict, reason in CASES:
        with subtests.test(**changes):
            found = eligibility(
                orders._replace(**changes), SETTINGS, is_direct=True, uses_managed_secret=True
            )

            needs_a_tag = reason == "not-opted-in"
            expected = (USE, "eligible") if needs_a_tag else (verdict, reason)
            assert (found.verdict, found.reason) == expected


# The same of a cluster that is fine.
OF_CLUSTERS: list[tuple[dict[str, Any], Verdict, str]] = [
    ({}, USE, "eligible"),
    ({"engine": "postgres"}, USE, "eligible"),
    ({"tags": {}}, SKIP, "not-opted-in"),
    ({"engine": "aurora-mysql"}, SKIP, "not-postgresql"),
    ({"engine": "docdb"}, SKIP, "not-postgresql"),
    ({"engine_version": "13.9"}, SKIP, "old-version"),
    ({"engine_version": "16.4-limitless", "limit": "limitless"}, SKIP, "limitless"),
    ({"limit": "serverless-v1"}, SKIP, "serverless-v1"),
    ({"limit": "express", "vpc_id": None}, SKIP, "express"),
    ({"namesake": SOURCE}, SKIP, "same-name"),
    ({"replica_of": SOURCE}, SKIP, "read-only"),
    ({"identifier": "orders-green-ab12cd"}, SKIP, "green-copy"),
    ({"identifier": "orders-old1"}, SKIP, "old-blue"),
    ({"vpc_id": "vpc-2"}, SKIP, "other-vpc"),
    ({"status": "stopped"}, SKIP, "stopped"),
    ({"writer": None}, WAIT, "no-writer"),
    ({"status": "creating", "writer": None}, WAIT, "being-made"),
    ({"sleeps": True}, USE, "eligible"),
    ({"managed_secret": ManagedSecret("arn", "creating")}, WAIT, "secret-creating"),
]


def test_an_event_of_a_cluster_finds(
    orders_cluster: ManagedDatabase, subtests: pytest.Subtests
) -> None:
    """A cluster that differs in this is used, waited for, skipped or refused so."""
    for changes, verdict, reason in OF_CLUSTERS:
        with subtests.test(**changes):
            cluster = orders_cluster._replace(**changes)

            found = eligibility(cluster, SETTINGS, uses_managed_secret=True)

            assert (found.verdict, found.reason) == (verdict, reason)
            assert reason in SKIPPED or verdict is not SKIP


def test_a_copy_of_a_global_cluster_is_left(orders_cluster: ManagedDatabase) -> None:
    """It has no writer, and never will as long as it is one."""
    found = eligibility(orders_cluster._replace(writer=None), SETTINGS, is_secondary=True)

    assert (found.verdict, found.reason) == (SKIP, "read-only")


def test_two_by_one_name_are_both_named(orders_cluster: ManagedDatabase) -> None:
    """So that whoever reads it can tell which one to rename."""
    refused = refusal(eligibility(orders_cluster._replace(namesake=SOURCE), SETTINGS))

    assert str(refused) == (
        f"instance: orders is the name of {orders_cluster.arn} and {SOURCE}: untag one, or rename "
        "it (same-name)"
    )


# All that RDS's and Aurora's pages on status name, those of RDS Custom left out.
STATUSES = {
    USE: """available backing-up backtracking configuring-enhanced-monitoring
        configuring-iam-database-auth configuring-log-exports converting-to-vpc failing-over
        maintenance modifying moving-to-vpc promoting rebooting storage-config-upgrade storage-full
        storage-initialization storage-optimization update-iam-db-auth upgrading""",
    WAIT: """creating migrating preparing-data-migration renaming resetting-master-credentials
        starting""",
    SKIP: """cloning-failed delete-precheck deleting failed inaccessible-encryption-credentials
        inaccessible-encryption-credentials-recoverable incompatible-create incompatible-network
        incompatible-option-group incompatible-parameters incompatible-restore
        insufficient-capacity migration-failed restore-error stopped stopping""",
}


@pytest.mark.parametrize("kind", list(Kind))
def test_each_status_that_rds_has_means_something(
    kind: Kind, orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """To an instance and to a cluster alike."""
    usual = orders_cluster if kind is Kind.CLUSTER else orders

    found = {
        verdict: {
            status
            for status in texts.split()
            if eligibility(usual._replace(status=status), SETTINGS).verdict is verdict
        }
        for verdict, texts in STATUSES.items()
    }

    assert found == {verdict: set(texts.split()) for verdict, texts in STATUSES.items()}


@pytest.mark.parametrize("status", ["creating", "impaired"])
def test_the_state_of_an_unused_managed_secret_does_not_count(
    status: str, orders: ManagedDatabase
) -> None:
    """Where the password comes from elsewhere, RDS's own secret may be in any state."""
    instance = orders._replace(managed_secret=ManagedSecret("arn", status))

    found = eligibility(instance, Settings())

    assert found == Eligibility(Verdict.USE, "eligible", "orders is available")


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_side_of_a_deployment_is_left_until_that_ends(
    orders: ManagedDatabase, *, is_direct: bool
) -> None:
    """Whoever asks: a change on blue would cost them the deployment."""
    found = eligibility(orders, Settings(), is_direct=is_direct, is_in_deployment=True)

    assert (found.verdict, found.reason) == (SKIP, "blue-green")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identifier": "orders-green-ab12cd"}, "eligible"),
        ({"identifier": "orders-green-ab12cd", "replica_of": SOURCE}, "eligible"),
        ({"identifier": "orders-old1"}, "eligible"),
        ({"replica_of": SOURCE}, "eligible"),
        ({"replica_of": SOURCE, "status": "stopped"}, "stopped"),
        ({"replica_of": SOURCE, "host": None}, "being-made"),
        ({"identifier": "orders-old1", "engine_version": "13.9"}, "old-version"),
    ],
)
def test_who_only_looks_sees_what_nobody_may_change(
    changes: dict[str, Any], reason: str, orders: ManagedDatabase
) -> None:
    """Both sides of a deployment are worth a look before and after the switchover."""
    found = eligibility(orders._replace(**changes), SETTINGS, is_direct=True, only_looks=True)

    assert found.reason == reason


def test_all_instances_can_be_opted_in(orders: ManagedDatabase) -> None:
    """With ManageAll an instance needs no tag."""
    untagged = orders._replace(tags={})

    assert is_opted_in(untagged, Settings(manage_all=True))
    assert not is_opted_in(untagged, Settings())


def test_the_tag_is_the_stacks(orders: ManagedDatabase) -> None:
    """Another stack's tag opts in for that stack."""
    assert is_opted_in(orders._replace(tags={"day2-test": "enabled"}), Settings(prefix="day2-test"))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({}, "orders has no tag day2=enabled"),
        (
            {"day2": "Enabled "},
            "orders has the tag day2='Enabled ', and only day2=enabled counts",
        ),
    ],
)
def test_a_tag_of_another_value_is_told(
    tags: dict[str, str], message: str, orders: ManagedDatabase
) -> None:
    """Whoever mistyped it would not see it in a sentence that says there is none."""
    assert eligibility(orders._replace(tags=tags), Settings()).message == message


@pytest.mark.parametrize(("version", "is_refused"), [(130012, True), (140000, False)])
def test_an_old_server_that_no_instance_is_known_of_is_refused(
    version: int, *, is_refused: bool
) -> None:
    """It refuses our settings at the start, and would do so for ever."""
    refused = too_old(version, "db.example")

    assert isinstance(refused, Rejected) is is_refused
    assert str(refused) == (
        "db.example runs PostgreSQL 13, and day2 needs 14 or newer: upgrade it first"
        if is_refused
        else "None"
    )


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (Eligibility(USE, "eligible", "fine"), None, None),
        (
            Eligibility(WAIT, "being-made", "it is young"),
            InstanceNotReady,
            "it is young (being-made)",
        ),
        (
            Eligibility(SKIP, "stopped", "it is stopped"),
            AwaitsPerson,
            "it is stopped (stopped): start it",
        ),
        (
            Eligibility(SKIP, "blue-green", "it is deployed"),
            AwaitsPerson,
            "it is deployed (blue-green): switch over, or delete the deployment",
        ),
        (
            Eligibility(SKIP, "old-blue", "it is named so"),
            Rejected,
            (
                "instance: it is named so (old-blue): name another one, or rename this one if no "
                "deployment made it"
            ),
        ),
        (
            Eligibility(SKIP, "old-version", "it runs PostgreSQL 13"),
            Rejected,
            "instance: it runs PostgreSQL 13 (old-version): upgrade it first",
        ),
        (
            Eligibility(SKIP, "unusable", "it is incompatible-network"),
            Rejected,
            (
                "instance: it is incompatible-network (unusable): mend what RDS says of it first, "
                "or name another one"
            ),
        ),
        (
            Eligibility(SKIP, "read-replica", "it is a replica"),
            Rejected,
            "instance: it is a replica (read-replica): name another one",
        ),
    ],
)
def test_who_names_an_instance_is_told_why_not(
    found: Eligibility, error: type[MigrationError] | None, message: str | None
) -> None:
    """A skipped instance that somebody asked for is an error, with the reason code in it."""
    refused = refusal(found)

    assert (type(refused), str(refused)) == (error or type(None), message or "None")
