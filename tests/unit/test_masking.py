"""Passwords that somebody wrote into SQL, masked wherever its text is shown."""

from __future__ import annotations

import json

import pytest

from core.postgres.masking import masked
from handlers.reporting import as_line

VERIFIER = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$c3RvcmVk:c2VydmVy"
SECRET = [
    "ALTER ROLE x PASSWORD 's3cr3t' LOGIN",
    "alter role x encrypted password 's3cr3t'",
    r"CREATE ROLE x PASSWORD E's3c\'r3t' LOGIN",
    "CREATE ROLE x PASSWORD 's3c''r3t'",
    "CREATE ROLE x PASSWORD $$s3cr3t$$",
    "CREATE ROLE x PASSWORD $q$s3c$r3t$q$",
    "CREATE ROLE x\n  PASSWORD\n  U&'s3cr3t'",
    "OPTIONS (user 'x', password 's3cr3t')",
    "SELECT dblink_connect('host=h password=s3cr3t')",
    "SELECT dblink_connect('host=h password=''s3cr3t''')",
    f"ALTER ROLE x PASSWORD '{VERIFIER}'",
    f"UPDATE mine SET verifier = '{VERIFIER}'",
    "ALTER ROLE x PASSWORD 'md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
    "Command '['psql', 'password=s3cr3t']' returned non-zero exit status 1",
    "PGPASSWORD=s3cr3t psql",
    "cannot parse postgresql+psycopg2://x:s3c%40r3t@host:5432/shop",
    '{"username": "x", "password": "s3c\\"r3t"}',
    "{'username': 'x', 'password': 's3cr3t'}",
]
PARTS = ("s3c", "r3t", "c3RvcmVk", "aaaaaaaaaaaaaaaa")
PLAIN = [
    "ALTER ROLE x PASSWORD NULL",
    "SELECT password FROM users",
    "-- no password here: 'x'",
    "https://sqlalche.me:443/e/20/8s2b and me@example.com",
]


@pytest.mark.parametrize("text", SECRET)
def test_a_secret_is_masked(text: str) -> None:
    """Wherever it stands in a text, and in a line of the log, however deep."""
    line = as_line({"message": "x", "details": [{"statement": text}]})

    assert not [one for one in PARTS if one in masked(text) or one in line]
    assert json.loads(line)["message"] == "x"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_is_shown(text: str) -> None:
    """A statement is of use only if it can be read."""
    assert masked(text) == text
