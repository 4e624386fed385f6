"""What a master secret says, and that what is wrong with it is said without its values."""

from __future__ import annotations

import json

import pytest

from core.access.credentials import MasterCredentials, master_credentials
from core.errors import InvalidField
from core.model import Secret

PASSWORD = "s3cr3t-%:/@?#"


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
    ],
)
def test_a_secret_is_read(fields: dict[str, object], expected: MasterCredentials) -> None:
    """RDS's own two fields suffice; the rotation format's others are taken where they are."""
    assert master_credentials(secret(json.dumps(fields))) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"username": None}, "field username: is missing: store it"),
        ({"password": None}, "field password: is missing: store it"),
        ({"username": ""}, "field username: is no text: store a string"),
        ({"password": 12345}, "field password: is no text: store a string"),
        ({"password": "a\0b"}, "field password: holds a NUL: store it without"),
        ({"host": ["s3cr3t"]}, "field host: is no text: store a string"),
        ({"dbname": 7}, "field dbname: is no text: store a string"),
        ({"dbInstanceIdentifier": {}}, "field dbInstanceIdentifier: is no text: store a string"),
        ({"engine": "mysql"}, "field engine: is not postgres: name a PostgreSQL secret"),
        ({"port": 0}, "field port: is no TCP port: store a number up to 65535"),
        ({"port": 65536}, "field port: is no TCP port: store a number up to 65535"),
        ({"port": "s3cr3t"}, "field port: is no TCP port: store a number up to 65535"),
        ({"port": True}, "field port: is no TCP port: store a number up to 65535"),
        ({"port": 5432.0}, "field port: is no TCP port: store a number up to 65535"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not(
    changes: dict[str, object], message: str
) -> None:
    """The error says which field of which secret, and nothing of what any field holds."""
    fields = {"username": "master", "password": PASSWORD} | changes

    with pytest.raises(InvalidField) as caught:
        master_credentials(secret(json.dumps(fields)))

    assert str(caught.value) == f"secret orders-master, {message}"


@pytest.mark.parametrize(
    "text", ["", PASSWORD, f'"{PASSWORD}"', f'["{PASSWORD}"]', '{"password": ']
)
def test_a_secret_that_is_no_object_is_refused_without_its_text(text: str) -> None:
    """The JSON parser's own error, which quotes the text, does not travel with ours."""
    with pytest.raises(InvalidField) as caught:
        master_credentials(secret(text))

    assert str(caught.value) == (
        'secret orders-master: is no JSON object: store {"username": …, "password": …}'
    )
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_printing_shows_no_password() -> None:
    """Neither a secret nor what is read out of it shows the password when printed."""
    held = secret(json.dumps({"username": "master", "password": PASSWORD}))

    assert PASSWORD not in repr(held) + repr(master_credentials(held))
