"""The secrets of logins: whatever happens, the next run leaves one that logs in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest
from psycopg2 import errors

from core.postgres.session import query
from tests.equipment.container import NoAnswer
from tests.equipment.small_aws import AwsCall, Fault, StoredSecret
from tests.equipment.waiting import wait_for
from tests.equipment.world import INSTANCE, World

# What the container says of a call whose process was killed.
ENDED = "ended without an answer"
LOGINS = ("app_user", "analytics_user")
MIGRATE = {"instance": INSTANCE, "target_revision": "002"}

# The calls about a login's secret in a migrate to 002, by action and login: first it is looked
# for, then made (which is when the look is over), and settled when the revision is committed.
STEPS = [
    (when, f"secretsmanager:{operation}", login)
    for login in LOGINS
    for operation in ("CreateSecret", "UntagResource")
    for when in ("before", "after")
]

# What the server is doing when the run is killed: the table that its next statement writes.
TABLES = {
    "the first role is being made": "pg_authid",
    "the password is set and not committed": "pg_db_role_setting",
}


def secret_name(login: str) -> str:
    """Return the name of a login's secret."""
    return f"day2/{INSTANCE}/{login}"


def killer(world: World, action: str, login: str) -> Callable[[AwsCall], None]:
    """Return a hook that kills the run at a call."""

    def kill(call: AwsCall) -> None:
        name = call.arguments.get("SecretId", call.arguments.get("Name"))
        if (call.action, name) == (action, secret_name(login)):
            world.aws.before = world.aws.after = lambda _call: None
            world.container.latest.kill()
            raise Fault("Killed")

    return kill


def check_next_run(world: World) -> None:
    """Run once more, undisturbed, and log in with what the secrets say."""
    answer = world.migrate("002")

    assert answer.outcome in ("APPLIED", "UP_TO_DATE")
    assert answer.body["final_revision"] == "002"
    assert [world.who_logs_in(login) for login in LOGINS] == list(LOGINS)
    assert [dict(world.aws.secrets[secret_name(login)].tags) for login in LOGINS] == [
        {"day2:dbi-resource-id": "db-ORDERS"}
    ] * 2


@pytest.mark.parametrize(("when", "action", "login"), STEPS)
def test_run_killed_at_a_call_leaves_a_secret_that_logs_in(
    world: World, when: str, action: str, login: str
) -> None:
    """Right before and right after each call about a secret."""
    setattr(world.aws, when, killer(world, action, login))

    with pytest.raises(NoAnswer, match=ENDED):
        world.call(MIGRATE)
    check_next_run(world)


@pytest.mark.parametrize("kill_at", [None, "TagResource", "PutSecretValue"])
def test_secret_that_was_made_ahead_gets_a_value(world: World, kill_at: str | None) -> None:
    """A template makes it without a value; a run that is killed at it leaves it to the next."""
    name = secret_name("app_user")
    world.aws.secrets[name] = StoredSecret(tags={"team": "shop"})
    if kill_at:
        world.aws.after = killer(world, f"secretsmanager:{kill_at}", "app_user")
        with pytest.raises(NoAnswer, match=ENDED):
            world.call(MIGRATE)

    answer = world.migrate("002")

    assert answer.outcome == "APPLIED", answer.body["message"]
    assert world.who_logs_in("app_user") == "app_user"
    assert world.aws.secrets[name].tags == {"team": "shop", "day2:dbi-resource-id": "db-ORDERS"}


def test_secret_that_lost_its_value_gets_one(world: World) -> None:
    """Made anew by a template when the login was there: the next run gives both one password."""
    world.migrate("002")
    world.aws.secrets[secret_name("app_user")] = StoredSecret()

    check_next_run(world)


@pytest.mark.parametrize("moment", TABLES)
def test_run_killed_in_its_transaction_leaves_a_secret_that_logs_in(
    world: World, moment: str
) -> None:
    """With a role half made and nothing committed; in the second case its secret is there."""
    with closing(world.server.superuser("shop")) as session:
        query(session, f"BEGIN; LOCK TABLE {TABLES[moment]} IN EXCLUSIVE MODE")
        call = world.begin(MIGRATE, variables={"DAY2_RELATION_LOCK_TIMEOUT_MS": "20000"})
        wait_for_lock(session, TABLES[moment])
        call.kill()
        query(session, "ROLLBACK")

    with pytest.raises(NoAnswer, match=ENDED):
        call.answer()
    assert world.query("SELECT 1 FROM pg_roles WHERE rolname LIKE 'app%'") == []
    check_next_run(world)


def wait_for_lock(session: object, table: str) -> None:
    """Wait until somebody waits for *table*."""
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
    wait_for(lambda: query(session, waiting, (table,)), f"who waits for {table}")  # type: ignore[arg-type]


def test_secret_scheduled_for_deletion_is_named(world: World) -> None:
    """A revision cannot take up a secret that is going, and says what to do."""
    world.aws.keep(
        secret_name("app_user"), {"username": "app_user", "password": "p"}
    ).is_going = True

    answer = world.migrate("001")

    assert (answer.outcome, answer.body["applied_migrations"]) == ("FAILED", [])
    assert "secret day2/orders/app_user cannot be used" in answer.body["message"]
    assert "restore it" in answer.body["message"]


def test_secret_going_after_its_login_was_made_is_named(world: World) -> None:
    """An up-to-date database whose login is about to lose its secret is no success."""
    world.migrate("001")
    world.aws.secrets[secret_name("app_user")].is_going = True

    answer = world.migrate("001")

    assert answer.outcome == "REJECTED"
    assert "secret day2/orders/app_user is scheduled for deletion" in answer.body["message"]


def test_rotation_half_way_is_not_disturbed(world: World) -> None:
    """A secret with a next password is not written; when the rotation is over, all goes on."""
    world.migrate("001")
    secret = world.aws.secrets[secret_name("app_user")]
    secret.tags["day2:unset"] = "true"
    fields = json.loads(secret.text())
    version = secret.put(json.dumps(fields | {"password": "the next one"}), "AWSPENDING")

    busy = world.migrate("001", variables={"DAY2_MINIMUM_SLICE_SECONDS": "60"})
    before = world.who_logs_in("app_user")
    secret.stages["AWSCURRENT"] = version
    after = world.migrate("001")

    assert busy.outcome == "NOT_READY"
    assert "day2/orders/app_user is being rotated" in busy.body["message"]
    assert (before, after.outcome) == ("app_user", "UP_TO_DATE")
    assert world.who_logs_in("app_user", "the next one") == "app_user"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no json", "contains no password"),
        ('{"username": "app_user"}', "contains no password"),
        ('{"username": "app_user", "password": 5}', "contains no password"),
        ('{"username": "somebody", "password": "p"}', "field username: is not app_user"),
    ],
)
def test_a_login_secret_of_somebody_else_is_named(world: World, text: str, problem: str) -> None:
    """What is no secret of the login is refused before anything is made."""
    world.aws.keep(secret_name("app_user"), text)

    answer = world.migrate("001")

    assert (answer.outcome, problem in answer.body["message"]) == ("FAILED", True)
    assert world.query("SELECT 1 FROM pg_roles WHERE rolname = 'app_user'") == []


def test_refused_password_names_the_parameter(world: World) -> None:
    """Where the server refuses ALTER ROLE … PASSWORD, the answer says which setting does that."""
    world.migrate("001")
    # What RDS does by rds.restrict_password_commands, here by the role's own rank.
    world.query("ALTER ROLE app_user SUPERUSER")
    world.aws.secrets[secret_name("app_user")].tags["day2:unset"] = "true"

    answer = world.migrate("001")

    assert answer.outcome == "ACCESS_DENIED"
    assert "rds.restrict_password_commands" in answer.body["message"]
    assert "GRANT rds_password" in answer.body["message"]


def test_database_of_another_instances_snapshot_gets_passwords_of_its_own(world: World) -> None:
    """Roles are there, secrets are not: new ones are made, and the other's log in no more."""
    world.migrate("002")
    other = {login: world.login_secret(login)["password"] for login in LOGINS}
    world.aws.secrets = {
        name: kept for name, kept in world.aws.secrets.items() if not name.startswith("day2/")
    }

    answer = world.migrate("002")

    assert answer.outcome == "UP_TO_DATE"
    assert [world.who_logs_in(login) for login in LOGINS] == list(LOGINS)
    for login in LOGINS:
        with pytest.raises(psycopg2.OperationalError):
            world.who_logs_in(login, other[login])


def test_instance_made_again_under_its_name_gets_the_secrets_passwords(world: World) -> None:
    """The secret is an earlier instance's, the roles an older snapshot's: they come to agree."""
    world.migrate("002")
    for login in LOGINS:
        world.server.set_password(login, "as it was in the snapshot")
    world.declare_instance(DbiResourceId="db-ORDERS-2")

    answer = world.migrate("002")

    assert answer.outcome == "UP_TO_DATE"
    assert [world.who_logs_in(login) for login in LOGINS] == list(LOGINS)
    assert [world.aws.secrets[secret_name(login)].tags for login in LOGINS] == [
        {"day2:dbi-resource-id": "db-ORDERS-2"}
    ] * 2


def test_standard_rotation_works_on_a_logins_secret(world: World) -> None:
    """AWS's single-user rotation finds what it needs, and no run undoes what it has set."""
    world.migrate("002")
    before = world.login_secret("analytics_user")

    rotate(world, "analytics_user")
    answer = world.migrate("002")

    after = world.login_secret("analytics_user")
    assert {name for name in after if after[name] != before[name]} == {"password"}
    assert answer.outcome == "UP_TO_DATE"
    assert world.who_logs_in("analytics_user") == "analytics_user"
    with pytest.raises(psycopg2.OperationalError):
        world.who_logs_in("analytics_user", before["password"])


def test_login_that_acts_as_a_role_is_rotated_by_a_run(world: World) -> None:
    """
    Such a login may not change its own password: PostgreSQL asks the role that it acts as.

    The standard rotation then fails and breaks nothing. A new value and the tag that says
    that it is not set yet are the way: the next run sets it.
    """
    world.migrate("001")
    before = world.login_secret("app_user")
    with pytest.raises(errors.InsufficientPrivilege):
        rotate(world, "app_user")
    assert world.who_logs_in("app_user") == "app_user"

    secret = world.aws.secrets["day2/orders/app_user"]
    del secret.stages["AWSPENDING"]
    secret.put(json.dumps(before | {"password": "the next one"}))
    secret.tags["day2:unset"] = "true"
    answer = world.migrate("001")

    assert answer.outcome == "UP_TO_DATE"
    assert world.who_logs_in("app_user", "the next one") == "app_user"
    with pytest.raises(psycopg2.OperationalError):
        world.who_logs_in("app_user", before["password"])


def rotate(world: World, login: str) -> None:
    """
    Rotate as AWS's template SecretsManagerRDSPostgreSQLRotationSingleUser does, step by step.

    Its get_secret_dict demands engine, host, username and password, and engine "postgres".
    """
    secret = world.aws.secrets[secret_name(login)]

    # create_secret: the same fields with another password.
    fields = json.loads(secret.text())
    assert {"engine", "host", "username", "password"} <= fields.keys()
    assert fields["engine"] == "postgres"
    pending = fields | {"password": "rotated: " + "x" * 23}
    version = secret.put(json.dumps(pending), "AWSPENDING")

    # set_secret: log in with pending, then with current; the login changes itself.
    with pytest.raises(psycopg2.OperationalError), connected(world, pending):
        pass
    with connected(world, fields) as session, session.cursor() as cursor:
        cursor.execute("SELECT quote_ident(%s)", (pending["username"],))
        (quoted,) = cursor.fetchone()
        cursor.execute(f"ALTER USER {quoted} WITH PASSWORD %s", (pending["password"],))
        session.commit()

    # test_secret: log in and ask something.
    with connected(world, pending) as session:
        assert query(session, "SELECT NOW()")

    # finish_secret: what was pending is current.
    secret.stages["AWSPREVIOUS"] = secret.stages["AWSCURRENT"]
    secret.stages["AWSCURRENT"] = version


@contextmanager
def connected(world: World, fields: dict[str, object]) -> Iterator[object]:
    """Connect as the template does: with TLS, by the fields of the secret."""
    session = psycopg2.connect(
        host=fields["host"],
        user=fields["username"],
        password=fields["password"],
        dbname=fields.get("dbname", "postgres"),
        port=int(str(fields.get("port", 5432))),
        connect_timeout=30,
        sslrootcert=str(world.ca_file),
        sslmode="verify-full",
    )
    with closing(session):
        yield session
