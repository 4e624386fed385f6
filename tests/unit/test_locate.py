"""Where the database of a request is: each order of precedence, and each way it is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from core.access.locate import (
    Place,
    is_entered_unasked,
    locate,
    master_secret_name,
    with_password_at,
)
from core.errors import (
    AwaitsPerson,
    InstanceNotReady,
    InvalidField,
    LeftAlone,
    NotFound,
    NotReady,
    Rejected,
)
from core.model import (
    Action,
    Database,
    Kind,
    ManagedDatabase,
    ManagedSecret,
    Request,
    Secret,
    Trigger,
)
from core.settings import Settings
from tests.equipment.fakes import FakeRegister

SETTINGS = Settings(ca_file="/ca.pem")
DIRECT = Request(Trigger.DIRECT, instance="orders")
EVENT = Request(Trigger.INSTANCE, instance="orders")
BARE = Request(Trigger.DIRECT, secret_name="orders-master")
HOST = "orders.abc.us-east-1.rds.amazonaws.com"
TOKEN = f"token for master at {HOST}:5432"


@dataclass
class FakeDirectory(FakeRegister):
    """Databases and secrets by name; a secret's fields, and its stages."""

    known: Sequence[ManagedDatabase] = ()
    secrets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    deployed: frozenset[str] = frozenset()
    secondaries: frozenset[str] = frozenset()

    def databases(self) -> Sequence[ManagedDatabase]:
        """Return every instance and cluster."""
        return self.known

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """Return the secret *name*; at another stage it is kept as ``name@stage``."""
        key = name if stage == "AWSCURRENT" else f"{name}@{stage}"
        if key not in self.secrets:
            raise NotFound(f"secret {name} does not exist")
        fields = {"username": "master", "password": f"of {key}"} | self.secrets[key]
        return Secret(name, name, json.dumps(fields))

    def auth_token(self, host: str, port: int, user: str) -> str:
        """Return a token that says what it is for."""
        return f"token for {user} at {host}:{port}"


def managed(orders: ManagedDatabase) -> str:
    """Return the ARN of the master secret that RDS keeps for *orders*."""
    assert orders.managed_secret is not None
    return orders.managed_secret.arn


def where(place: Place) -> tuple[str, str, int, str, str]:
    """Return the name, address and password of *place*."""
    database = place.database
    return (place.name, database.host, database.port, database.name, database.password)


def test_an_instance_is_entered_at_its_own_endpoint(orders: ManagedDatabase) -> None:
    """RDS's managed secret has a user and a password; all else comes from RDS."""
    directory = FakeDirectory([orders], {managed(orders): {}})

    place = locate(EVENT, directory, SETTINGS)

    assert place == Place(
        "orders",
        Database(HOST, 5432, "shop", "master", f"of {managed(orders)}", "/ca.pem"),
        orders,
        directory.secret(managed(orders)),
    )
    assert place.address == {
        "host": HOST,
        "port": 5432,
        "dbname": "shop",
        "dbInstanceIdentifier": "orders",
    }


# Which secret is used, while the better ones before it are taken away one by one.
SECRETS = [
    (
        Request(Trigger.DIRECT, instance="orders", secret_name="asked"),
        True,
        "{instance}-x",
        "asked",
    ),
    (DIRECT, True, "{instance}-x", "tagged"),
    (DIRECT, False, "{instance}-x", "orders-x"),
    (DIRECT, False, "shared", "shared"),
]


@pytest.mark.parametrize(("request_", "is_tagged", "pattern", "expected"), SECRETS)
def test_the_master_secret_is_found_in_order(
    request_: Request, pattern: str, expected: str, orders: ManagedDatabase, *, is_tagged: bool
) -> None:
    """The request's secret, then the tag's, then the pattern's, then RDS's own."""
    instance = orders._replace(tags=orders.tags | ({"day2:secret": "tagged"} if is_tagged else {}))
    names = ("asked", "tagged", "orders-x", "shared", managed(orders))
    directory = FakeDirectory([instance], {name: {} for name in names})

    place = locate(request_, directory, SETTINGS._replace(master_secret_name=pattern))

    assert where(place) == ("orders", HOST, 5432, "shop", f"of {expected}")


def test_an_instance_without_any_secret_has_no_secrets_name(orders: ManagedDatabase) -> None:
    """Not tagged, no pattern, not managed by RDS: there is nothing to read."""
    assert master_secret_name(orders._replace(managed_secret=None), SETTINGS) is None


@pytest.mark.parametrize(
    ("tag", "dbname", "db_name", "expected"),
    [
        ("tagged", "of_secret", "of_instance", "tagged"),
        (None, "of_secret", "of_instance", "of_secret"),
        (None, None, "of_instance", "of_instance"),
        (None, None, None, "postgres"),
    ],
)
def test_the_database_is_found_in_order(
    tag: str | None, dbname: str | None, db_name: str | None, expected: str, orders: ManagedDatabase
) -> None:
    """The tag's name, then the secret's, then the instance's, then ``postgres``."""
    tags = orders.tags | ({"day2:database": tag} if tag else {})
    instance = orders._replace(tags=tags, db_name=db_name)
    directory = FakeDirectory([instance], {managed(orders): {"dbname": dbname}})

    assert locate(DIRECT, directory, SETTINGS).database.name == expected


def test_the_secrets_own_address_does_not_count_for_a_known_instance(
    orders: ManagedDatabase,
) -> None:
    """A CNAME or a proxy in the secret would break TLS verification and the lock."""
    fields = {"host": "proxy.example", "port": 6432, "dbInstanceIdentifier": "orders"}
    directory = FakeDirectory([orders], {"orders-master": fields})

    place = locate(BARE, directory, SETTINGS)

    assert where(place) == ("orders", HOST, 5432, "shop", "of orders-master")
    assert place.managed == orders


def test_a_bare_secrets_owner_is_found_in_order(orders: ManagedDatabase) -> None:
    """``dbInstanceIdentifier``, then the endpoint."""
    by_field, by_endpoint = (
        orders._replace(identifier=name, host=f"{name}.example")
        for name in ("by-field", "by-endpoint")
    )
    known = [by_field, by_endpoint]
    address = {"host": "by-endpoint.example"}
    named = FakeDirectory(known, {"orders-master": address | {"dbInstanceIdentifier": "by-field"}})
    placed = FakeDirectory(known, {"orders-master": address})

    found = [locate(BARE, directory, SETTINGS).managed for directory in (named, placed)]

    assert found == known


def test_a_bare_managed_secrets_owner_is_who_says_so(orders: ManagedDatabase) -> None:
    """RDS's tag on it has the name of another time, and the instance its ARN."""
    other = ManagedSecret(managed(orders).replace("db-1", "db-2"), "active")
    billing = orders._replace(identifier="billing", managed_secret=other)
    directory = FakeDirectory([billing, orders], {managed(orders): {}})

    place = locate(BARE._replace(secret_name=managed(orders)), directory, SETTINGS)

    assert place.managed == orders


@pytest.mark.parametrize(
    ("known", "stored"),
    [
        (HOST, HOST.upper()),
        (HOST, f"{HOST}."),
        (HOST.title(), HOST),
        (f"{HOST}.", HOST),
    ],
)
def test_hosts_are_compared_as_dns_does(known: str, stored: str, orders: ManagedDatabase) -> None:
    """Neither the case of a letter nor a last dot makes another host."""
    directory = FakeDirectory([orders._replace(host=known)], {"orders-master": {"host": stored}})

    place = locate(BARE, directory, SETTINGS)

    assert (place.name, place.database.host) == ("orders", known)


def test_an_instance_is_named_in_any_case(orders: ManagedDatabase) -> None:
    """RDS keeps identifiers in lower case, whatever a secret says."""
    directory = FakeDirectory([orders], {"orders-master": {"dbInstanceIdentifier": "Orders"}})

    assert locate(BARE, directory, SETTINGS).name == "orders"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": "db.example"}, ("db.example", "db.example", 5432, "postgres")),
        (
            {"host": HOST, "port": 6432, "dbname": "shop"},
            (HOST, HOST, 6432, "shop"),
        ),
    ],
)
def test_an_unknown_host_is_used_as_it_stands(
    fields: dict[str, object], expected: tuple[str, str, int, str], orders: ManagedDatabase
) -> None:
    """A host that RDS does not know, at that port, stands for the instance in names."""
    place = locate(BARE, FakeDirectory([orders], {"orders-master": fields}), SETTINGS)

    assert where(place) == (*expected, "of orders-master")
    assert place.managed is None
    assert "dbInstanceIdentifier" not in place.address


def test_a_secret_without_host_and_owner_leads_nowhere(orders: ManagedDatabase) -> None:
    """Who the secret belongs to cannot be told, so nothing is guessed."""
    with pytest.raises(NotFound) as caught:
        locate(BARE, FakeDirectory([orders], {"orders-master": {}}), SETTINGS)

    assert str(caught.value) == (
        "secret orders-master names no host, and belongs to no instance or cluster that RDS knows: "
        "store host, dbInstanceIdentifier or dbClusterIdentifier"
    )


@pytest.mark.parametrize(
    ("name", "fields", "problem"),
    [
        ("mine", {"dbInstanceIdentifier": "billing"}, "is for instance billing, not orders"),
        (
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-2-AbCdEf",
            {},
            "is not the one that RDS keeps for orders",
        ),
    ],
)
def test_another_instances_secret_is_refused(
    name: str, fields: dict[str, object], problem: str, orders: ManagedDatabase
) -> None:
    """By its field, or by RDS's word: a secret of another instance is never tried here."""
    directory = FakeDirectory([orders], {name: fields})
    request = Request(Trigger.DIRECT, instance="orders", secret_name=name)

    with pytest.raises(Rejected) as caught:
        locate(request, directory, SETTINGS)

    remedy = "name the instance's own secret"
    if fields:
        remedy += ", or correct the identifier in this one"
    assert str(caught.value) == f"secret_name: {name} {problem}: {remedy}"


@pytest.mark.parametrize("request_", [DIRECT, EVENT])
def test_a_young_instances_secret_may_still_come(
    request_: Request, orders: ManagedDatabase
) -> None:
    """Who makes the instance and then its secret has an hour for it."""
    young = orders._replace(managed_secret=None, created_at=minutes_ago(59))
    settings = SETTINGS._replace(master_secret_name="{instance}-master")

    with pytest.raises(InstanceNotReady) as caught:
        locate(request_, FakeDirectory([young]), settings)

    assert str(caught.value) == (
        "secret orders-master does not exist; the instance is new, so it may still appear"
    )


@pytest.mark.parametrize("made_at", [datetime(2026, 1, 1, tzinfo=UTC), None])
def test_an_old_instances_secret_is_missing(
    made_at: datetime | None, orders: ManagedDatabase
) -> None:
    """After that hour a missing secret is a mistake, and the error says what would help."""
    old = orders._replace(managed_secret=None, created_at=made_at)

    with pytest.raises(NotFound) as caught:
        locate(EVENT, FakeDirectory([old]), SETTINGS)

    assert str(caught.value) == (
        "instance orders has no master secret: let RDS manage it, tag the instance day2:secret, "
        "or set the parameter MasterSecretName; or turn on IAM database authentication, if its "
        "master may log in with a token"
    )


def test_an_event_leaves_what_is_not_ours(orders: ManagedDatabase) -> None:
    """An event's instance without the tag is left alone, for that reason."""
    directory = FakeDirectory([orders._replace(tags={})], {managed(orders): {}})

    with pytest.raises(LeftAlone) as caught:
        locate(EVENT, directory, SETTINGS)

    assert caught.value.reason == "not-opted-in"
    assert locate(DIRECT, directory, SETTINGS).name == "orders"


@pytest.mark.parametrize("request_", [DIRECT, BARE])
def test_a_named_instance_that_cannot_be_used_is_an_error(
    request_: Request, orders: ManagedDatabase
) -> None:
    """A direct request learns that the instance is stopped, by whichever way it named it."""
    stopped = orders._replace(status="stopped")
    fields = {"dbInstanceIdentifier": "orders"}
    directory = FakeDirectory([stopped], {"orders-master": fields, managed(orders): {}})

    with pytest.raises(NotReady):
        locate(request_, directory, SETTINGS)


def test_an_impaired_managed_secret_matters_only_if_it_is_used(orders: ManagedDatabase) -> None:
    """It is used with a warning; with a secret of the caller's own there is nothing to warn of."""
    impaired = orders._replace(managed_secret=ManagedSecret(managed(orders), "impaired"))
    directory = FakeDirectory([impaired], {"mine": {}, managed(orders): {}})

    used = locate(DIRECT, directory, SETTINGS)
    other = locate(DIRECT._replace(secret_name="mine"), directory, SETTINGS)

    assert where(used)[-1] == f"of {managed(orders)}"
    assert used.warning == (
        "the managed master secret is impaired: its password still works, but RDS cannot rotate "
        "it: give RDS access to the secret and its KMS key"
    )
    assert other.warning is None


PREFERS_TOKENS = SETTINGS._replace(iam_authentication=True)
BY_PATTERN = SETTINGS._replace(master_secret_name="{instance}-master")


def test_a_token_is_for_the_master_at_the_instances_endpoint(orders: ManagedDatabase) -> None:
    """No secret is read, and RDS's own may be in any state."""
    instance = orders._replace(
        takes_tokens=True, managed_secret=ManagedSecret(managed(orders), "creating")
    )

    place = locate(EVENT, FakeDirectory([instance]), PREFERS_TOKENS)

    database = Database(HOST, 5432, "shop", "master", TOKEN, "/ca.pem")
    assert place == Place("orders", database, instance)


@pytest.mark.parametrize(
    ("settings", "takes_tokens", "has_secret", "expected"),
    [
        (PREFERS_TOKENS, True, True, TOKEN),
        (PREFERS_TOKENS, True, False, TOKEN),
        (PREFERS_TOKENS, False, True, "secret"),
        (SETTINGS, True, True, "secret"),
        (SETTINGS, False, True, "secret"),
        (SETTINGS, True, False, TOKEN),
        (BY_PATTERN, True, False, TOKEN),
    ],
)
def test_token_or_password_is_decided_by_instance(
    settings: Settings,
    expected: str,
    orders: ManagedDatabase,
    *,
    takes_tokens: bool,
    has_secret: bool,
) -> None:
    """A secret where there is one, else a token where the instance takes them."""
    instance = orders._replace(
        takes_tokens=takes_tokens, managed_secret=orders.managed_secret if has_secret else None
    )
    directory = FakeDirectory([instance], {managed(orders): {}} if has_secret else {})

    place = locate(EVENT, directory, settings)

    assert place.database.password == expected.replace("secret", f"of {managed(orders)}")
    assert is_entered_unasked(place, settings)


@pytest.mark.parametrize(
    ("request_", "tags"),
    [(DIRECT._replace(secret_name="mistyped"), {}), (DIRECT, {"day2:secret": "mistyped"})],
)
def test_a_secret_that_somebody_names_has_to_be_there(
    request_: Request, tags: dict[str, str], orders: ManagedDatabase
) -> None:
    """A token in its place would hide the mistake."""
    instance = orders._replace(takes_tokens=True, tags=orders.tags | tags)

    with pytest.raises(NotFound, match="mistyped"):
        locate(request_, FakeDirectory([instance]), SETTINGS)


def test_a_secret_by_pattern_may_still_come_to_an_instance_that_takes_tokens(
    orders: ManagedDatabase,
) -> None:
    """Most masters have a password, and a token for them is refused."""
    young = orders._replace(takes_tokens=True, created_at=minutes_ago(59))

    with pytest.raises(InstanceNotReady):
        locate(EVENT, FakeDirectory([young]), BY_PATTERN)


def test_a_request_on_the_bus_cannot_enter_with_a_secret_that_only_a_person_named(
    orders: ManagedDatabase,
) -> None:
    """Neither tag nor pattern names one, and its master has a password."""
    bare = orders._replace(managed_secret=None, takes_tokens=True)
    request = DIRECT._replace(secret_name="mine")

    assert not is_entered_unasked(
        locate(request, FakeDirectory([bare], {"mine": {}}), SETTINGS), SETTINGS
    )


def test_a_request_that_names_nothing_is_refused() -> None:
    """There is no database to guess."""
    with pytest.raises(InvalidField):
        locate(Request(Trigger.DIRECT), FakeDirectory(), SETTINGS)


def test_a_rotated_password_is_read_at_its_stage(orders: ManagedDatabase) -> None:
    """The same place is entered with the password of another stage, if that is another one."""
    directory = FakeDirectory(
        [orders],
        {
            managed(orders): {},
            f"{managed(orders)}@AWSPENDING": {"username": "master-2"},
        },
    )
    place = locate(EVENT, directory, SETTINGS)

    pending = with_password_at(place, directory, "AWSPENDING")

    assert pending is not None
    assert pending.database == replace(
        place.database, user="master-2", password=f"of {managed(orders)}@AWSPENDING"
    )
    assert with_password_at(place, directory, "AWSCURRENT") is None
    assert with_password_at(place, directory, "AWSPREVIOUS") is None
    assert with_password_at(place._replace(secret=None), directory, "AWSPENDING") is None


def minutes_ago(minutes: int) -> datetime:
    """Return the time that many *minutes* ago."""
    return datetime.now(UTC) - timedelta(minutes=minutes)


# Clusters


def test_a_cluster_is_entered_at_its_writers_endpoint(orders_cluster: ManagedDatabase) -> None:
    """By the secret that RDS keeps for the cluster; a login's secret says what it is of."""
    directory = FakeDirectory([orders_cluster], {managed(orders_cluster): {}})

    place = locate(EVENT._replace(trigger=Trigger.CLUSTER), directory, SETTINGS)

    assert where(place) == (
        "orders",
        "orders.cluster-abc.us-east-1.rds.amazonaws.com",
        5432,
        "shop",
        f"of {managed(orders_cluster)}",
    )
    assert place.managed == orders_cluster
    assert place.address["dbClusterIdentifier"] == "orders"
    assert "dbInstanceIdentifier" not in place.address


def test_a_token_is_for_the_clusters_endpoint(orders_cluster: ManagedDatabase) -> None:
    """IAM database authentication is the cluster's own."""
    cluster = orders_cluster._replace(takes_tokens=True)
    settings = SETTINGS._replace(iam_authentication=True)

    place = locate(DIRECT, FakeDirectory([cluster]), settings)

    assert place.database.password == f"token for master at {cluster.host}:5432"


@pytest.mark.parametrize(
    "fields",
    [
        {"dbClusterIdentifier": "Orders", "host": "proxy.example"},
        {"host": "ORDERS.cluster-abc.us-east-1.rds.amazonaws.com."},
        {"host": "orders.cluster-ro-ABC.us-east-1.rds.amazonaws.com"},
        {"host": "any.cluster-custom-abc.us-east-1.rds.amazonaws.com"},
        {"host": "orders-1.abc.us-east-1.rds.amazonaws.com"},
        {"dbInstanceIdentifier": "orders-1"},
    ],
)
def test_a_bare_secrets_cluster_is_found(
    fields: dict[str, object], orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """By its name, an endpoint of it, or a member's: that database is the cluster's."""
    member = orders._replace(
        identifier="orders-1", cluster="orders", host="orders-1.abc.us-east-1.rds.amazonaws.com"
    )
    directory = FakeDirectory([member, orders_cluster], {"orders-master": fields})

    assert locate(BARE, directory, SETTINGS).managed == orders_cluster


@pytest.mark.parametrize("kind", list(Kind))
def test_a_bare_managed_secret_is_its_owners_by_what_rds_says(
    kind: Kind, orders: ManagedDatabase, orders_cluster: ManagedDatabase
) -> None:
    """Beside one of that name that is not ours; of two that are, neither is touched."""
    orders = orders._replace(managed_secret=ManagedSecret(f"{managed(orders)}2", "active"))
    owner, other = orders, orders_cluster
    if kind is Kind.CLUSTER:
        owner, other = other, owner
    secrets: dict[str, dict[str, object]] = {managed(owner): {}}
    request = Request(Trigger.DIRECT, secret_name=managed(owner))

    beside = FakeDirectory([owner, other._replace(tags={})], secrets)
    assert locate(request, beside, SETTINGS).managed == owner
    with pytest.raises(Rejected, match="same-name") as caught:
        locate(request, FakeDirectory([owner, other], secrets), SETTINGS)
    assert owner.arn in str(caught.value)
    assert other.arn in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"dbClusterIdentifier": "billing"}, "is for cluster billing, not orders"),
        ({"dbInstanceIdentifier": "billing"}, "is for instance billing, not orders"),
        ({"dbClusterIdentifier": "ORDERS"}, None),
        ({"dbInstanceIdentifier": "orders-1"}, None),
        ({"dbInstanceIdentifier": "Orders-2"}, None),
        ({"dbClusterIdentifier": "arn:aws-cn:rds:cn-north-1:123456789012:cluster:orders"}, None),
        ({}, None),
    ],
)
def test_a_clusters_secret_that_is_for_another_is_refused(
    fields: dict[str, object], problem: str | None, orders_cluster: ManagedDatabase
) -> None:
    """A member that wrote when it was stored is the cluster itself, after a failover, too."""
    directory = FakeDirectory([orders_cluster], {"mine": fields})
    asked = DIRECT._replace(secret_name="mine")
    if problem is None:
        assert locate(asked, directory, SETTINGS).name == "orders"
        return

    with pytest.raises(Rejected, match=problem):
        locate(asked, directory, SETTINGS)


def test_an_instance_is_not_entered_by_the_secret_of_a_cluster(orders: ManagedDatabase) -> None:
    """Also where the two have one name."""
    directory = FakeDirectory([orders], {"mine": {"dbClusterIdentifier": "orders"}})

    with pytest.raises(Rejected, match="is for cluster orders"):
        locate(DIRECT._replace(secret_name="mine"), directory, SETTINGS)


@pytest.mark.parametrize(("action", "is_refused"), [(Action.MIGRATE, True), (Action.PLAN, False)])
def test_a_cluster_in_a_deployment_is_left(
    action: Action, orders_cluster: ManagedDatabase, *, is_refused: bool
) -> None:
    """Blue/green deployments have clusters, too, and looking changes nothing."""
    directory = FakeDirectory(
        [orders_cluster],
        {managed(orders_cluster): {}},
        deployed=frozenset({orders_cluster.arn}),
    )
    asked = DIRECT._replace(action=action)
    if not is_refused:
        assert locate(asked, directory, SETTINGS).name == "orders"
        return

    with pytest.raises(AwaitsPerson, match="blue-green"):
        locate(asked, directory, SETTINGS)


@pytest.mark.parametrize("is_secondary", [True, False])
def test_a_cluster_without_a_writer_is_waited_for_unless_it_is_a_copy(
    orders_cluster: ManagedDatabase, *, is_secondary: bool
) -> None:
    """Both look the same to DescribeDBClusters; DescribeGlobalClusters tells."""
    secondaries = frozenset({orders_cluster.arn}) if is_secondary else frozenset()
    directory = FakeDirectory([orders_cluster._replace(writer=None)], secondaries=secondaries)
    error, reason = (LeftAlone, "takes no writes") if is_secondary else (NotReady, "no-writer")

    with pytest.raises(error, match=reason):
        locate(EVENT._replace(trigger=Trigger.CLUSTER), directory, SETTINGS)


@pytest.mark.parametrize("is_direct", [True, False])
def test_babelfishs_own_database_is_left(
    orders_cluster: ManagedDatabase, *, is_direct: bool
) -> None:
    """Another database of its cluster is served as any other's."""
    tagged = orders_cluster._replace(tags={"day2": "enabled", "day2:database": "babelfish_db"})
    secrets: dict[str, Mapping[str, object]] = {managed(tagged): {}}
    asked = DIRECT if is_direct else EVENT._replace(trigger=Trigger.CLUSTER)

    with pytest.raises(Rejected if is_direct else LeftAlone, match="Babelfish's own"):
        locate(asked, FakeDirectory([tagged], secrets), SETTINGS)


@pytest.mark.parametrize("name", ["template0", "template1", "rdsadmin"])
@pytest.mark.parametrize("way", ["a tag", "a token", "the secret", "a host that RDS knows not"])
def test_a_database_of_the_servers_own_is_refused(
    name: str, way: str, orders: ManagedDatabase
) -> None:
    """Whoever asks, by whichever way in: what is made from a template would have it all."""
    tagged = orders._replace(tags=orders.tags | {"day2:database": name})
    asked, instance, fields, settings = {
        "a tag": (EVENT, tagged, {}, SETTINGS),
        "a token": (
            EVENT,
            tagged._replace(takes_tokens=True, master_username="master"),
            {},
            SETTINGS._replace(iam_authentication=True),
        ),
        "the secret": (BARE, orders, {"dbInstanceIdentifier": "orders", "dbname": name}, SETTINGS),
        "a host that RDS knows not": (BARE, orders, {"host": "a.b", "dbname": name}, SETTINGS),
    }[way]
    directory = FakeDirectory([instance], {managed(orders): {}, "orders-master": fields})

    with pytest.raises(Rejected, match=f"^database {name} of .* is the server's own: name another"):
        locate(asked, directory, settings)
