"""Markers are planted as secrets; then every action and every failure, at DEBUG; then a search."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from core.errors import Outcome
from core.model import Action
from core.postgres.lock import LOCK_KEY
from core.postgres.session import query
from tests.equipment.container import Answer
from tests.equipment.small_aws import Fault
from tests.equipment.waiting import wait_for
from tests.equipment.world import INSTANCE, MASTER_SECRET, World

# With every sign that one could want to encode, so that each encoding would be another text.
MASTER_PASSWORD = "Marker'master%p@ss:/?#ü"
OTHER_MARKERS = {
    "the next password": "MarkerOfTheNextPassword",
    "a password that is wrong": "MarkerOfAWrongPassword",
    "a URL that holds one": "postgresql://postgres:MarkerInTheUrl@elsewhere:5432/shop",
    "a field that nobody asked for": "MarkerOfAnotherField",
}

# Sessions that hold something until the test is over; where its part of the server's log begins.
HELD: list[Any] = []
BEGUN: list[int] = []

Prepare = Callable[[World], dict[str, object] | None]


def keep_master(world: World, **other: object) -> None:
    """Keep a master secret that is full of markers."""
    fields = {
        "username": "postgres",
        "password": MASTER_PASSWORD,
        "url": OTHER_MARKERS["a URL that holds one"],
        "comment": OTHER_MARKERS["a field that nobody asked for"],
    }
    kept = world.aws.keep(MASTER_SECRET, fields | other)
    kept.put(json.dumps(fields | {"password": OTHER_MARKERS["the next password"]}), "AWSPENDING")


def request(action: Action = Action.MIGRATE, **other: object) -> dict[str, object]:
    """Return a direct request."""
    return {"instance": INSTANCE, "action": action.value, **other}


def at(revision: str, *, declared: str | None = None) -> Prepare:
    """Prepare a database at *revision*, for which *declared* is declared."""

    def prepare(world: World) -> None:
        world.migrate(revision)
        if declared:
            world.declare(declared)

    return prepare


def wrong_password(world: World) -> None:
    """Keep a password that is not the master's."""
    keep_master(world, password=OTHER_MARKERS["a password that is wrong"])


def rotation_half_way(world: World) -> None:
    """Make the next password of the login of 001, and say that the current one is not set."""
    world.migrate("001")
    secret = world.aws.secrets["day2/orders/app_user"]
    secret.tags["day2:unset"] = "true"
    fields = {"username": "app_user", "password": OTHER_MARKERS["the next password"]}
    secret.put(json.dumps(fields), "AWSPENDING")


def no_tls(world: World) -> None:
    """Have RDS tell an address, for which the certificate is not."""
    world.declare_instance(Endpoint={"Address": "127.0.0.1", "Port": world.server.port})


def not_up(world: World) -> None:
    """Have RDS tell a port on which nobody listens."""
    world.declare_instance(Endpoint={"Address": "localhost", "Port": 1})


def broken_secret(world: World) -> None:
    """Keep a secret that is no JSON."""
    world.aws.keep(MASTER_SECRET, f'{{"password": "{OTHER_MARKERS["the next password"]}"')


def ahead(world: World) -> None:
    """Put the database at a revision of a later build."""
    world.migrate("001")
    world.query("UPDATE day2.alembic_version SET version_num = '999'")


def locked(world: World) -> None:
    """Hold the lock as another run would, until the test is over."""
    session = world.server.superuser("shop")
    query(session, "SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
    HELD.append(session)


def failing(world: World) -> None:
    """Have revision 001 fail after the password of its login is set."""
    world.query("CREATE ROLE app_role NOLOGIN SUPERUSER")


def broken_login(world: World) -> None:
    """Break the secret of a login that has to be set once more."""
    world.migrate("001")
    secret = world.aws.secrets["day2/orders/app_user"]
    secret.put(f'{{"password": "{OTHER_MARKERS["a field that nobody asked for"]}"')
    secret.tags["day2:unset"] = "true"


def faulty(action: str, code: str) -> Prepare:
    """Prepare an AWS that answers *action* with *code*."""

    def prepare(world: World) -> None:
        world.aws.faults[action] = Fault(code)

    return prepare


def nothing(world: World) -> None:
    """Prepare nothing."""


# A name, what comes before, the request, settings, and the outcome.
SCENES: dict[str, tuple[Prepare, dict[str, object], dict[str, str], Outcome]] = {
    "migrate": (nothing, request(target_revision="head"), {}, Outcome.APPLIED),
    "migrate again": (at("head"), request(target_revision="head"), {}, Outcome.UP_TO_DATE),
    "status": (at("001"), request(Action.STATUS), {}, Outcome.STATUS),
    "plan": (at("001"), request(Action.PLAN, target_revision="head"), {}, Outcome.PLANNED),
    "check": (at("head"), request(Action.CHECK), {}, Outcome.CHECKED),
    "rollback": (
        at("002", declared="001"),
        request(Action.ROLLBACK, target_revision="001", from_revision="002"),
        {"DAY2_ALLOW_ROLLBACK": "true"},
        Outcome.APPLIED,
    ),
    "stamp": (
        at("001", declared="002"),
        request(Action.STAMP, target_revision="002", from_revision="001"),
        {"DAY2_ALLOW_ROLLBACK": "true"},
        Outcome.APPLIED,
    ),
    "adopt": (
        at("001"),
        request(Action.ADOPT, target_revision="001", from_revision="base"),
        {"DAY2_ALLOW_ROLLBACK": "true"},
        Outcome.REJECTED,
    ),
    "ignored": (
        at("001"),
        {
            "source": "aws.ssm",
            "detail-type": "Parameter Store Change",
            "detail": {"name": "/day2/orders/target-revision", "operation": "Delete"},
        },
        {},
        Outcome.IGNORED,
    ),
    "rejected": (broken_secret, request(), {}, Outcome.REJECTED),
    "rejected secret of a login": (
        broken_login,
        request(target_revision="001"),
        {},
        Outcome.REJECTED,
    ),
    "access denied by AWS": (
        faulty("secretsmanager:GetSecretValue", "AccessDeniedException"),
        request(),
        {},
        Outcome.ACCESS_DENIED,
    ),
    "access denied by the server": (wrong_password, request(), {}, Outcome.ACCESS_DENIED),
    "not found": (nothing, {"instance": "other"}, {}, Outcome.NOT_FOUND),
    "behind": (at("002"), request(target_revision="001"), {}, Outcome.BEHIND_CURRENT),
    "ahead": (ahead, request(target_revision="head"), {}, Outcome.DB_AHEAD),
    "of another stack": (
        at("002"),
        request(target_revision="002"),
        {"DAY2_PREFIX": "other", "DAY2_MASTER_SECRET_NAME": MASTER_SECRET},
        Outcome.MANAGED_BY_ANOTHER,
    ),
    "locked": (locked, request(), {"DAY2_LOCK_WAIT_SECONDS": "0"}, Outcome.LOCK_BUSY),
    "failed": (failing, request(target_revision="head"), {}, Outcome.FAILED),
    "failed before it is committed": (
        faulty("secretsmanager:CreateSecret", "InternalFailure"),
        request(target_revision="head"),
        # It is asked again as long as there is time: five seconds are enough here.
        {"DAY2_MARGIN_SECONDS": "55"},
        Outcome.NOT_READY,
    ),
    "untrusted": (no_tls, request(), {}, Outcome.UNTRUSTED_SERVER),
    "not ready": (not_up, request(), {"DAY2_MINIMUM_SLICE_SECONDS": "60"}, Outcome.NOT_READY),
    "a rotation half-way": (
        rotation_half_way,
        request(target_revision="001"),
        {"DAY2_MINIMUM_SLICE_SECONDS": "60"},
        Outcome.NOT_READY,
    ),
    "incomplete": (
        nothing,
        request(target_revision="head"),
        {"DAY2_MINIMUM_SLICE_SECONDS": "1000", "DAY2_MARGIN_SECONDS": "1"},
        Outcome.INCOMPLETE,
    ),
}


def markers(world: World) -> set[str]:
    """Return every secret that there is, in each way that one could be written."""
    plain = {MASTER_PASSWORD, *OTHER_MARKERS.values(), "MarkerInTheUrl", "X-Amz-Signature"}
    for name, secret in world.aws.secrets.items():
        if name.startswith("day2/"):
            for text in secret.values.values():
                try:
                    plain.add(json.loads(text)["password"])
                except ValueError:
                    continue
    return (
        plain
        | {urllib.parse.quote(one) for one in plain}
        | {urllib.parse.quote(one, safe="") for one in plain}
        | {json.dumps(one)[1:-1] for one in plain}
        | {one.replace("'", "''") for one in plain}
        | {repr(one)[1:-1] for one in plain}
    )


def assert_clean(world: World, *answers: Answer) -> None:
    """Search everywhere that a secret could have got to."""
    places = {
        "the server's log": world.server.log[BEGUN[-1] :],
        "the history": str(world.query("SELECT to_jsonb(h) FROM day2.history AS h"))
        if world.query("SELECT to_regclass('day2.history')") != [(None,)]
        else "",
        "the parameters": json.dumps(world.aws.parameters),
        "the events": json.dumps(world.aws.events),
        "the messages": json.dumps(world.aws.published),
        "the tags": str([secret.tags for secret in world.aws.secrets.values()]),
    }
    for number, answer in enumerate(answers):
        places[f"response {number}"] = json.dumps(answer.response, ensure_ascii=False)
        places[f"exception {number}"] = answer.error.everything if answer.error else ""
        places[f"log {number}"] = answer.log
    for place, text in places.items():
        for marker in markers(world):
            # Not the text itself: it would be in the report of this test.
            assert marker not in text, f"{place} shows a secret of {len(marker)} characters"


@pytest.fixture
def marked(world: World) -> Iterator[World]:
    """Give the master a marker for its password."""
    world.server.set_password("postgres", MASTER_PASSWORD)
    keep_master(world)
    BEGUN.append(len(world.server.log))
    yield world
    while HELD:
        HELD.pop().close()


@pytest.mark.parametrize("name", SCENES)
def test_no_secret_is_seen_anywhere(marked: World, name: str) -> None:
    """Neither answered nor raised does a run show a secret, whatever comes of it."""
    prepare, event, settings, outcome = SCENES[name]
    settings = {
        "POWERTOOLS_LOG_LEVEL": "DEBUG",
        "DAY2_RESULT_TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:results",
        **settings,
    }
    prepare(marked)
    marked.aws.calls.clear()

    answers = [marked.call(event, variables=settings)]

    assert answers[0].outcome == outcome.value, answers[0].body["message"]
    assert ("DEBUG:" in answers[0].log) is bool(marked.aws.calls)
    if outcome.status_code >= 400:
        answers.append(marked.call({**event, "raise_on_failure": True}, variables=settings))
        assert answers[1].error
    assert_clean(marked, *answers)


def test_every_action_and_outcome_is_tried() -> None:
    """A new action or failure needs a scene here."""
    actions = {event["action"] for _, event, _, _ in SCENES.values() if "action" in event}
    outcomes = {outcome for _, _, _, outcome in SCENES.values()}

    assert actions == {action.value for action in Action}
    # A fleet's bump opens no database and reads no secret.
    assert outcomes == set(Outcome) - {Outcome.REQUESTED, Outcome.BLOCKED}


def test_no_secret_is_seen_while_it_runs(marked: World) -> None:
    """The process list, the environments of processes, and pg_stat_activity, in the middle."""
    with (
        closing(marked.server.superuser("shop")) as session,
        closing(marked.server.superuser("shop")) as other,
    ):
        query(session, "BEGIN; LOCK TABLE pg_db_role_setting IN EXCLUSIVE MODE")
        call = marked.begin(
            request(target_revision="001"), variables={"DAY2_RELATION_LOCK_TIMEOUT_MS": "20000"}
        )

        def at_work() -> str:
            seen = str(query(other, "SELECT to_jsonb(a) FROM pg_stat_activity AS a"))
            return seen if "ALTER ROLE" in seen else ""

        activity = wait_for(at_work, "a run that makes a role")
        processes = subprocess.run(
            ["ps", "axeww", "-o", "command"], capture_output=True, text=True, check=True
        ).stdout
        query(session, "ROLLBACK")
    answer = call.answer()

    assert answer.outcome == "APPLIED"
    assert "'application_name': 'day2'" in activity
    # The environment of the function itself is seen there, as it should be.
    assert "DAY2_CA_FILE=" in processes
    for marker in markers(marked):
        assert marker not in activity + processes
    assert_clean(marked, answer)


def test_values_print_masked() -> None:
    """What holds a secret shows it in no text of its own."""
    from core.access.credentials import MasterCredentials, master_credentials
    from core.model import Database, LoginPassword, Secret

    secret = Secret("n", "a", json.dumps({"username": "u", "password": MASTER_PASSWORD}))
    values = [
        secret,
        master_credentials(secret),
        MasterCredentials("u", MASTER_PASSWORD),
        Database("h", 5432, "d", "u", MASTER_PASSWORD, "ca"),
        LoginPassword(MASTER_PASSWORD, must_be_set=True),
    ]

    assert [MASTER_PASSWORD in f"{value!r} {value}" for value in values] == [False] * 5
