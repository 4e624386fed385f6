"""DB clusters, from their events to their migrated databases, through failover and sleep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from infra.local import clusters, demo
from tests.e2e.account import Account, sample
from tests.equipment.waiting import wait_for

NAME = "shoal"
WRITER, READER = f"{NAME}-1", f"{NAME}-2"
TAGS = [{"Key": "day2", "Value": "enabled"}]


@pytest.fixture(scope="module", autouse=True)
def cluster(account: Account) -> Iterator[None]:
    """Make an Aurora cluster that nobody serves yet; remove all clusters in the end."""
    account.declare_ahead(NAME, "001")
    clusters.create(account.aws, NAME, members=0, DatabaseName="shop", Tags=TAGS)
    yield
    for found in account.client("rds").describe_db_clusters()["DBClusters"]:
        name = found["DBClusterIdentifier"]
        clusters.remove(account.aws, name)
        parameters = [account.target_parameter(name), account.observed_parameter(name)]
        account.client("ssm").delete_parameters(Names=parameters)


def enter(account: Account, name: str, login: dict[str, Any] | None = None) -> Any:
    """Connect to the cluster *name* as *login*, else as its master, over verified TLS."""
    found = clusters.describe(account.aws, name)
    login = login or account.secret(found["MasterUserSecret"]["SecretArn"])
    session = psycopg2.connect(
        host=login.get("host", found["Endpoint"]),
        port=login.get("port", found["Port"]),
        dbname="shop",
        user=login["username"],
        password=login["password"],
        sslmode="verify-full",
        sslrootcert=str(account.aws.state.ca_file),
    )
    session.autocommit = True
    return session


def ask(session: Any, statement: str) -> Any:
    """Return the first row of *statement*."""
    with session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def test_three_triggers_on_a_cluster(account: Account) -> None:
    """It is created while nobody writes, its members come, it is bumped, it is asked."""
    created = account.rds_event(NAME, "RDS-EVENT-0170")
    for member in (WRITER, READER):
        clusters.add_member(account.aws, NAME, member)
    joined = [account.rds_event(member, "RDS-EVENT-0005") for member in (WRITER, READER)]
    appeared = [account.run(one) for one in (created, *joined)]
    account.declare(NAME, "002")
    bumped = account.result(NAME, outcome="APPLIED", final_revision="002")
    status = account.ask(instance=NAME, action="status")
    again = account.ask(instance=NAME, target_revision="002")

    assert [(run["trigger"], run["instance"]) for run in appeared] == [
        ("cluster", NAME),
        ("instance", NAME),
        ("instance", NAME),
    ]
    # Whoever of them came first.
    assert {run["outcome"] for run in appeared} == {"APPLIED", "UP_TO_DATE"}
    assert [one for run in appeared for one in run["applied_migrations"]] == ["001"]
    assert (bumped["trigger"], bumped["database"]) == ("parameter", "shop")
    assert bumped["applied_migrations"] == ["002"]
    assert (status["final_revision"], again["outcome"]) == ("002", "UP_TO_DATE")
    found = clusters.describe(account.aws, NAME)
    assert account.observed(NAME)["dbi_resource_id"] == found["DbClusterResourceId"]
    for login in ("app_user", "analytics_user"):
        secret = account.secret(f"day2/{NAME}/{login}")
        assert (secret["host"], secret["port"]) == (found["Endpoint"], found["Port"])
        with closing(enter(account, NAME, secret)) as session:
            row = ask(session, "SELECT session_user::text, pg_is_in_recovery()")
        assert row == (login, False)


def test_event_of_a_member_is_its_clusters(account: Account) -> None:
    """A reader's too, which holds nothing of its own; it is never entered itself."""
    account.put(sample("instance_restarted", READER))

    run = account.run(account.rds_event(READER, "RDS-EVENT-0006"))

    assert (run["trigger"], run["instance"], run["outcome"]) == ("instance", NAME, "UP_TO_DATE")


def test_failover_inside_a_revision_loses_nothing(account: Account) -> None:
    """What was committed before is kept and told; what was cut is run at the new writer."""
    holder = enter(account, NAME)
    holder.autocommit = False
    # 004 makes it too, and so has to wait; 003 is committed by then.
    ask(holder, "CREATE SCHEMA audit")
    event_id = account.declare(NAME, "004")
    watcher = enter(account, NAME)
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'day2' AND wait_event_type = 'Lock'"
    )
    wait_for(lambda: ask(watcher, waiting)[0], "a run that waits inside 004")

    account.client("rds").failover_db_cluster(DBClusterIdentifier=NAME)
    result = account.result(NAME, request_id=event_id)

    assert (result["outcome"], result["trigger"]) == ("APPLIED", "parameter")
    assert (result["previous_revision"], result["final_revision"]) == ("002", "004")
    # The failover's own events wake runs too, one of which may be at the new writer before.
    woken = [account.run(account.rds_event(name, "RDS-EVENT-0006")) for name in (READER, WRITER)]
    woken.append(account.run(account.rds_event(NAME, "RDS-EVENT-0071")))
    told = [result, *woken]
    assert result["applied_migrations"][0] == "003"
    assert [one for run in told for one in run["applied_migrations"]] == ["003", "004"]
    assert all(run["final_revision"] == "004" for run in told)
    (writer,) = (
        one["DBInstanceIdentifier"]
        for one in clusters.describe(account.aws, NAME)["DBClusterMembers"]
        if one["IsClusterWriter"]
    )
    assert writer == READER
    with closing(enter(account, NAME)) as session:
        history = "SELECT string_agg(revision, ' ' ORDER BY id) FROM day2.history"
        assert ask(session, history) == ("001 002 003 004",)
    assert account.failures() == 0


def test_endpoint_of_the_old_writer_is_waited_for(account: Account) -> None:
    """Until the endpoint names the new one, the old one refuses to write (25006)."""
    lag = [{"Key": "day2-local:endpoint-lag-seconds", "Value": "3"}]
    arn = clusters.describe(account.aws, NAME)["DBClusterArn"]
    account.client("rds").add_tags_to_resource(ResourceName=arn, Tags=lag)
    account.client("ssm").delete_parameter(Name=account.target_parameter(NAME))

    account.client("rds").failover_db_cluster(DBClusterIdentifier=NAME)
    clusters.wait_for(account.aws, NAME)
    call = account.invoke(instance=NAME)

    assert call.response["body"]["outcome"] == "UP_TO_DATE"
    assert "25006" in call.log
    account.client("rds").remove_tags_from_resource(ResourceName=arn, TagKeys=[lag[0]["Key"]])


def test_tag_of_a_member_counts_for_nothing(account: Account) -> None:
    """The cluster's decides; the log says so to whoever tagged the member."""
    clusters.create(account.aws, "strange", members=0)
    clusters.add_member(account.aws, "strange", "strange-1", Tags=TAGS)
    joined = account.rds_event("strange-1", "RDS-EVENT-0005")

    run = account.run(joined)

    assert (run["instance"], run["reason"]) == ("strange", "not-opted-in")
    said = [line["message"] for line in account.lines(joined)]
    assert "the tag day2 of strange-1 counts for nothing: tag its cluster strange instead" in said


def test_instance_and_cluster_of_one_name_are_refused_by_it(account: Account) -> None:
    """Neither is guessed, by events or by a person, while both are ours."""
    account.create("twin", Tags=[*TAGS, {"Key": "day2-local:no-server", "Value": "yes"}])
    clusters.create(account.aws, "twin", members=0, Tags=TAGS)

    created = account.run(account.rds_event("twin", "RDS-EVENT-0170"))
    answer = account.ask(instance="twin")

    assert (created["outcome"], answer["outcome"]) == ("REJECTED", "REJECTED")
    for kind in ("db", "cluster"):
        assert f":{kind}:twin" in answer["message"]
    # Both created events have failed, so that somebody sees to it.
    failed = [account.next_failure()["requestPayload"]["detail"] for _ in range(2)]
    assert [one["SourceIdentifier"] for one in failed] == ["twin", "twin"]
    account.remove("twin")


def test_multi_az_cluster_is_migrated_like_any_other(account: Account) -> None:
    """Its engine has the name of an instance's; RDS makes its members."""
    clusters.create(
        account.aws,
        "spread",
        Engine="postgres",
        DBClusterInstanceClass="db.m6gd.large",
        AllocatedStorage=100,
        DatabaseName="shop",
        Tags=TAGS,
    )
    result = account.result("spread", outcome="APPLIED")
    found = clusters.wait_for(account.aws, "spread")

    assert result["applied_migrations"] == ["001", "002", "003", "004"]
    assert len(found["DBClusterMembers"]) == 3
    assert account.observed("spread")["dbi_resource_id"] == found["DbClusterResourceId"]


def test_sleeping_cluster_is_left_asleep_unless_there_is_work(account: Account) -> None:
    """A sweep, full or not, does not wake it to look; a bump does, and waits for it."""
    tags = {"day2": "enabled", "day2-local:pause-seconds": "1", "day2-local:resume-seconds": "2"}
    account.declare_ahead("sleepy", "001")
    clusters.create(
        account.aws,
        "sleepy",
        DatabaseName="shop",
        ServerlessV2ScalingConfiguration={"MinCapacity": 0, "MaxCapacity": 1},
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    account.result("sleepy", outcome="APPLIED", final_revision="001")
    account.rds_event("sleepy-1", "RDS-EVENT-0372")
    wait_for(lambda: clusters.is_asleep(account.aws, "sleepy"), "its sleep")

    with account.nothing_runs("sleepy"):
        swept = [account.sweep(), account.sweep(full=True)]
    still_asleep = clusters.is_asleep(account.aws, "sleepy")
    account.declare("sleepy", "002")
    bumped = account.result("sleepy", outcome="APPLIED")

    assert all("sleepy" not in one["requested"] for one in swept)
    assert still_asleep
    assert (bumped["trigger"], bumped["applied_migrations"]) == ("parameter", ["002"])
    account.rds_event("sleepy-1", "RDS-EVENT-0374")


def test_demonstration_on_a_cluster(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """As ``make run CLUSTER=1`` plays it: what was not seen would end it."""
    demo.run(account.aws, demo.A_CLUSTER)

    said = capsys.readouterr().out
    assert re.search(r"→ RDS-EVENT-0(170|005) of .* had it migrated to 002", said)
    assert "→ Parameter Store Change rolled it forward to 004" in said
    assert "All of it was seen to happen" in said
