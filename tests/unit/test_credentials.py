"""What a master secret says, and that what is wrong with it is said without its values."""

from __future__ import annotations

import json

import pytest

from core.access.credentials import MasterCredentials, master_credentials
from core.errors import InvalidField
from core.model import Secret

PASSWORD = "s3cr3t-%:/@?#"

HALF = "contains half of a surrogate pair: store it without"
PORT_TOO = "contains a port too: store the name alone, and 5432 as field port"
NO_HOST = "field host: is not a host name: store the endpoint's name, and no more"


def secret(text: str) -> Secret:
    """Return a secret that holds *text*."""
    return Secret("orders-master", "arn:aws:secretsmanager:us-east-1:123456789012:secret:x", text)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"username": "master", "password": PASSWORD},
            MasterCredentials("master", PASSWORD),
        ),
        (
            {
                "engine": "postgres",
                "username": "master",
                "password": PASSWORD,
                "host": "orders.example",
                "port": 5433,
                "dbname": "shop",
                "dbInstanceIdentifier": "orders",
                "masterarn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:y",
            },
            MasterCredentials("master", PASSWORD, "orders.example", 5433, "shop", "orders"),
        ),
        (
            {"engine": "PostgreSQL", "username": "master", "password": PASSWORD, "port": "5433"},
            MasterCredentials("master", PASSWORD, port=5433),
        ),
        (
            {"username": "master", "password": PASSWORD, "host": None, "port": None},
            MasterCredentials("master", PASSWORD),
        ),
        (
            {"username": "master", "password": PASSWORD, "host": "", "port": "", "dbname": ""},
            MasterCredentials("master", PASSWORD),
        ),
        (
            # Crossplane's connection secret.
            {"username": "master", "password": PASSWORD, "endpoint": "db.example", "port": "5432"},
            MasterCredentials("master", PASSWORD, "db.example", 5432),
        ),
        (
            {"username": "master", "password": PASSWORD, "host": "a.example", "endpoint": "b:1"},
            MasterCredentials("master", PASSWORD, "a.example"),
        ),
        (
            {"username": "master", "password": PASSWORD, "host": "Orders.EXAMPLE."},
            MasterCredentials("master", PASSWORD, "orders.example"),
        ),
        (
            {"username": "master", "password": PASSWORD, "host": "FD00::1"},
            MasterCredentials("master", PASSWORD, "fd00::1"),
        ),
        (
            {"username": "master", "password": f" {PASSWORD}\n"},
            MasterCredentials("master", f" {PASSWORD}\n"),
        ),
    ],
)
def test_a_secret_is_read(fields: dict[str, object], expected: MasterCredentials) -> None:
    """RDS's own two fields suffice; the rotation format's others are taken where they are."""
    assert master_credentials(secret(json.dumps(fields))) == expected


WRONG: list[tuple[dict[str, object], str]] = [
    ({"username": None}, "field username: is missing: store it"),
    ({"password": None}, "field password: is missing: store it"),
    ({"username": ""}, "field username: is missing: store it"),
    (
        {"password": None, "PASSWORD": PASSWORD},
        "field password: is missing, and PASSWORD is there: write its name as password",
    ),
    (
        {"username": None, "credentials": {"username": "master"}},
        (
            "field username: is missing, and lies inside credentials: "
            "store it at the top of the object"
        ),
    ),
    ({"username": "\ud800"}, f"field username: {HALF}"),
    ({"password": "a\udc80"}, f"field password: {HALF}"),
    ({"dbname": "\udfff"}, f"field dbname: {HALF}"),
    ({"host": "orders.example:5432"}, f"field host: {PORT_TOO}"),
    ({"host": "Orders.Example.:5432", "port": 5432}, f"field host: {PORT_TOO}"),
    ({"host": "10.0.0.1:5432"}, f"field host: {PORT_TOO}"),
    ({"host": "", "endpoint": "orders.example:5432"}, f"field endpoint: {PORT_TOO}"),
    ({"host": "a..b"}, NO_HOST),
    ({"host": "."}, NO_HOST),
    ({"host": ".a"}, NO_HOST),
    ({"host": "a.."}, NO_HOST),
    ({"host": "-a.b"}, NO_HOST),
    ({"host": "a b"}, NO_HOST),
    ({"host": "orders.example "}, NO_HOST),
    ({"host": "orders.example:"}, NO_HOST),
    ({"host": "orders.example:x"}, NO_HOST),
    ({"host": "[::1]"}, NO_HOST),
    ({"host": "/run/postgresql"}, NO_HOST),
    ({"host": "fe80::1%eth0"}, NO_HOST),
    ({"host": "a,b"}, NO_HOST),
    ({"host": "https://a.example"}, NO_HOST),
    ({"host": "a" * 64 + ".example"}, NO_HOST),
    ({"host": "a." * 127 + "example"}, NO_HOST),
    ({"host": "bücher.example"}, NO_HOST),
    (
        {"engine": "aurora-mysql"},
        "field engine: is not postgres: name a PostgreSQL secret",
    ),
    ({"port": "9" * 5000}, "field port: is not a TCP port: store a number up to 65535"),
    ({"port": "٥٤٣٢"}, "field port: is not a TCP port: store a number up to 65535"),
    ({"password": 12345}, "field password: is not text: store a string"),
    ({"password": "a\0b"}, "field password: contains a NUL character: store it without"),
    ({"host": ["s3cr3t"]}, "field host: is not text: store a string"),
    ({"dbname": 7}, "field dbname: is not text: store a string"),
    ({"dbInstanceIdentifier": {}}, "field dbInstanceIdentifier: is not text: store a string"),
    ({"engine": "mysql"}, "field engine: is not postgres: name a PostgreSQL secret"),
    ({"port": 0}, "field port: is not a TCP port: store a number up to 65535"),
    ({"port": 65536}, "field port: is not a TCP port: store a number up to 65535"),
    ({"port": "s3cr3t"}, "field port: is not a TCP port: store a number up to 65535"),
    ({"port": True}, "field port: is not a TCP port: store a number up to 65535"),
    ({"port": 5432.0}, "field port: is not a TCP port: store a number up to 65535"),
]


def test_a_wrong_field_is_named_and_its_value_is_not(subtests: pytest.Subtests) -> None:
    """The error says which field of which secret, and nothing of what any field holds."""
    for changes, message in WRONG:
        with subtests.test(str(changes)):
            fields = {"username": "master", "password": PASSWORD} | changes

            with pytest.raises(InvalidField) as caught:
                master_credentials(secret(json.dumps(fields)))

            assert str(caught.value) == f"secret orders-master, {message}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        PASSWORD,
        f'"{PASSWORD}"',
        f'["{PASSWORD}"]',
        '{"password": ',
        f"username=master\npassword={PASSWORD}",
        "[" * 100_000,
    ],
)
def test_a_secret_that_is_no_object_is_refused_without_its_text(text: str) -> None:
    """The JSON parser's own error, which quotes the text, does not travel with ours."""
    with pytest.raises(InvalidField) as caught:
        master_credentials(secret(text))

    assert str(caught.value) == (
        'secret orders-master: is not a JSON object: store {"username": …, "password": …}'
    )
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            json.dumps(json.dumps({"username": "master", "password": PASSWORD})),
            "is a JSON object inside a JSON string: store the object itself, encoded once",
        ),
        (
            f"postgres://master:{PASSWORD}@orders.example:5432/shop",
            'is a URL, not a JSON object: store {"username": …, "password": …}',
        ),
    ],
)
def test_a_usual_mistake_is_told_without_its_text(text: str, problem: str) -> None:
    """What somebody meant is named, and none of it is shown."""
    with pytest.raises(InvalidField) as caught:
        master_credentials(secret(text))

    assert str(caught.value) == f"secret orders-master: {problem}"


def test_a_byte_order_mark_is_passed_over() -> None:
    """Some editors put one before what they save."""
    found = master_credentials(
        secret("\ufeff" + json.dumps({"username": "master", "password": PASSWORD}))
    )

    assert found == MasterCredentials("master", PASSWORD)


def test_printing_shows_no_password() -> None:
    """Neither a secret nor what is read out of it shows the password when printed."""
    held = secret(json.dumps({"username": "master", "password": PASSWORD}))

    assert PASSWORD not in repr(held) + repr(master_credentials(held))
