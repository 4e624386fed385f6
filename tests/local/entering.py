"""How the tests of the local AWS's databases enter them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import psycopg2

from infra.local.local_aws import LocalAws

PASSWORD = "%p4ss'w0rd:?#&"


def managed_login(aws: LocalAws, instance: dict[str, Any]) -> tuple[str, str]:
    """Return user and password of the managed master secret of *instance*, or of a cluster."""
    secret = aws.client("secretsmanager").get_secret_value(
        SecretId=instance["MasterUserSecret"]["SecretArn"]
    )
    login = json.loads(secret["SecretString"])
    assert set(login) == {"username", "password"}
    return login["username"], login["password"]


def connect(
    aws: LocalAws,
    instance: dict[str, Any],
    user: str = "boss",
    password: str = PASSWORD,
    **more: str,
) -> Any:
    """Connect to *instance*, verify-full."""
    return psycopg2.connect(
        **{
            "host": instance["Endpoint"]["Address"],
            "port": instance["Endpoint"]["Port"],
            "user": user,
            "password": password,
            "dbname": instance.get("DBName", "postgres"),
            "sslmode": "verify-full",
            "sslrootcert": str(aws.state.ca_file),
            **more,
        }
    )


def ask(connection: Any, query: str) -> Any:
    """Return the first row of *query*, and close the connection."""
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone() if cursor.description else None
