"""Names from outside are names: in parameters, tags, secrets, requests, events and databases."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg2 import sql

from core.access.locate import locate
from core.decisions.plan import resolve
from core.decisions.target import declared_target
from core.errors import MigrationError, Rejected
from core.model import Action, Declared, Request, TargetSource, Trigger
from core.operations import login, role
from handlers.requests import parse
from tests.equipment.site import Site, make_empty
from tests.equipment.world import INSTANCE, MASTER_SECRET, World

NAMES = {
    "a statement": 'a"; DROP ROLE x; --',
    "a literal": "a'; DROP ROLE x; --",
    "a conninfo": "x host=elsewhere sslmode=disable",
    "a URL": "postgresql://postgres@elsewhere/x?sslmode=disable",
    "64 characters": "n" * 64,
    "a format": "%(x)s %I {0} ${HOME}",
    "a path": "../../billing",
    "a line": "a\nb",
    "capitals": "Orders",
    "unicode": "bestellungen-ü",
}
# PostgreSQL would cut the longest to another name.
USABLE = {name: NAMES[name] for name in ("a statement", "a literal", "a conninfo", "a URL")}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["target_revision", "action", "instance"])
def test_field_of_a_request_is_refused_by_name(field: str, name: str) -> None:
    """Nothing that a caller writes gets further than its own field."""
    event = {"instance": INSTANCE, field: NAMES[name]}

    if name == "capitals" and field != "action":
        # It has the form of both. RDS knows no capitals, and no revision is called so.
        assert parse(event, "day2").instance == "orders"
    else:
        with pytest.raises(Rejected, match=rf"^{field}: "):
            parse(event, "day2")


@pytest.mark.parametrize("name", NAMES)
def test_target_in_a_parameter_is_refused_by_name(name: str) -> None:
    """Whoever may write the parameter may choose a revision, and no more."""
    parameter = f"/day2/{INSTANCE}/target-revision"
    declared = Declared(NAMES[name], TargetSource.PARAMETER, parameter)

    with pytest.raises(Rejected):
        resolve(("001", "002"), declared_target(declared).target)


@pytest.mark.parametrize("name", NAMES)
def test_from_revision_is_compared_and_no_more(at_head: Site, name: str) -> None:
    """What a rollback says it starts from is never in a statement."""
    settings = at_head.settings._replace(allow_rollback=True)
    request = Request(
        Trigger.DIRECT, Action.ROLLBACK, INSTANCE, target="001", from_revision=NAMES[name]
    )

    with pytest.raises(Rejected, match=r"^from_revision: "):
        at_head.run(request=request, settings=settings)


@pytest.mark.parametrize(
    "name", ["a statement", "a literal", "a conninfo", "a URL", "64 characters"]
)
def test_database_in_a_tag_is_a_name_and_no_connection_string(world: World, name: str) -> None:
    """A tag that says more than a name finds no database of that name."""
    world.declare_instance(
        TagList=[
            {"Key": "day2:secret", "Value": MASTER_SECRET},
            {"Key": "day2:database", "Value": NAMES[name]},
        ]
    )

    answer = world.call({"instance": INSTANCE, "action": "status"})

    assert answer.outcome == "NOT_FOUND"
    assert "3D000" in answer.body["message"]


@pytest.mark.parametrize("name", USABLE)
def test_database_and_master_may_have_any_name(site: Site, name: str) -> None:
    """A name that is more than a name is a name all the same, where PostgreSQL has it so."""
    odd = USABLE[name]
    make_empty(site.server)
    with closing(site.server.superuser()) as session, session.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(odd), sql.Identifier(site.master)
            )
        )
    site.cloud.secrets["orders-master"] |= {"dbname": odd}

    result = site.run(target="004")
    checked = site.run(Action.CHECK, None)

    assert result.report.database == odd
    assert result.report.final_revision == "004"
    assert checked.report.details["drift"] == []


def emitted(helper: Callable[[], None]) -> str:
    """Return the SQL that *helper* writes on paper."""
    output = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": output}
    )
    with Operations.context(context):
        helper()
    return output.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_role_of_a_revision_has_a_plain_name(name: str) -> None:
    """A revision whose role would be cut, folded or quoted away is refused before it runs."""
    if name == "unicode" or NAMES[name] != NAMES[name].lower() or not NAMES[name].isidentifier():
        with pytest.raises(ValueError, match="is not a plain name"):
            emitted(lambda: role(NAMES[name]))
        with pytest.raises(ValueError, match="is not a plain name"):
            emitted(lambda: login(NAMES[name]))
    else:
        assert name == "64 characters"
        with pytest.raises(ValueError, match="is not a plain name"):
            emitted(lambda: role(NAMES[name]))


@pytest.mark.parametrize(
    "host",
    ["/tmp", "@abstract", "evil.example.com,localhost", "localhost sslmode=disable", "h\nport=1"],  # noqa: S108
)
def test_host_of_a_secret_is_one_name(site: Site, host: str) -> None:
    """A socket's folder would go around TLS, and a list would reach another server."""
    site.cloud.known.clear()
    site.cloud.secrets["orders-master"] |= {"host": host}
    request = Request(Trigger.DIRECT, Action.STATUS, secret_name="orders-master")

    with pytest.raises(Rejected, match="field host: is not a host name"):
        locate(request, site.cloud, site.settings)


@pytest.mark.parametrize("name", ["a statement", "a path", "unicode"])
def test_secret_may_be_named_anything(world: World, name: str) -> None:
    """Secrets Manager is asked for just that name, and has none."""
    answer = world.call({"secret_name": NAMES[name], "action": "status"})

    assert answer.outcome in ("NOT_FOUND", "REJECTED")
    asked = [call.arguments.get("SecretId") for call in world.aws.calls]
    assert asked == [NAMES[name]]
    # The role allows no such name: it is no call to hold the role to.
    world.aws.calls.clear()


def test_password_of_a_login_is_a_literal(world: World) -> None:
    """What somebody stores as a password is given to libpq, and never becomes SQL."""
    odd = "'; DROP ROLE app_role; --\\"
    fields = {"username": "app_user", "password": odd}
    world.aws.keep(f"day2/{INSTANCE}/app_user", fields, **{"day2:unset": "true"})

    answer = world.migrate("001")

    assert answer.outcome == "APPLIED", answer.body
    assert world.who_logs_in("app_user") == "app_user"


# What the bus must not be able to ask for: it is put there by whoever may put events.
FORBIDDEN: list[dict[str, Any]] = [
    {"secret_name": MASTER_SECRET},
    {"from_revision": "002"},
    {"raise_on_failure": False},
    {"database": "postgres"},
    *({"action": action.value} for action in Action if action not in ("migrate", "status")),
    {"action": "drop"},
    {"instance": 'a"; DROP ROLE x; --'},
    {"target_revision": "+1"},
]


@pytest.mark.parametrize("field", FORBIDDEN, ids=json.dumps)
def test_the_bus_may_ask_for_little(field: dict[str, Any]) -> None:
    """A Migration Requested carries instance, action and target, and nothing else."""
    event = {
        "source": "day2",
        "detail-type": "Migration Requested",
        "detail": {"instance": INSTANCE, **field},
    }

    with pytest.raises(MigrationError, match="detail"):
        parse(event, "day2")


@pytest.mark.parametrize(
    "event",
    [
        {"source": "evil", "detail-type": "Migration Requested"},
        {"source": "day2.schedule", "detail-type": "Migration Requested"},
        {"source": "aws.rds", "detail-type": "Migration Requested"},
        {"source": "evil", "detail-type": "Sweep Requested"},
        {"source": "day2", "detail-type": "Migration Succeeded"},
        {"source": "aws.ssm", "detail-type": "RDS DB Instance Event"},
    ],
    ids=json.dumps,
)
def test_an_event_of_somebody_else_is_refused(event: dict[str, Any]) -> None:
    """What wakes us is a source with its own kind of event."""
    with pytest.raises(Rejected):
        parse({**event, "detail": {"instance": INSTANCE}}, "day2")


def test_the_fields_of_an_event_are_no_request() -> None:
    """Beside the detail an event may say what it likes: it is not a direct request."""
    event = {
        "source": "day2",
        "detail-type": "Migration Requested",
        "secret_name": MASTER_SECRET,
        "action": "rollback",
        "target_revision": "base",
        "detail": {"instance": INSTANCE},
    }

    assert parse(event, "day2") == Request(Trigger.REQUEST, Action.MIGRATE, instance=INSTANCE)


def test_the_master_is_refused_for_iam(site: Site) -> None:
    """rds_iam would lock the master out, so no revision can give it to the master by our way."""
    statements = emitted(lambda: _login_by_iam(site.master))

    with (
        closing(site.connect_as_runner()) as session,
        pytest.raises(psycopg2.errors.InsufficientPrivilege, match="would lock it out"),
    ):
        session.cursor().execute(statements)
    # Since 16 rds_superuser, and so the master, is a member that may grant it and no more.
    assert site.query("SELECT pg_has_role('postgres', 'rds_iam', 'usage')") == [(False,)]


def test_a_login_by_iam_has_no_password(site: Site) -> None:
    """Such a login is a member of rds_iam, which is what makes RDS ask for a token."""
    statements = emitted(lambda: _login_by_iam("reporting"))

    # As the superuser: on PostgreSQL 16 and newer the local master may not grant rds_iam.
    site.query(statements)

    assert site.query(
        "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = 'reporting'"
    ) == [(True, None)]
    assert site.query("SELECT pg_has_role('reporting', 'rds_iam', 'member')") == [(True,)]


def _login_by_iam(name: str) -> None:
    from core.operations import login_by_iam

    login_by_iam(name)
