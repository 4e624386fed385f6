"""The function, a small AWS and a real server together: what an attacker or an accident meets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2

from core.postgres.session import query
from infra.local.postgres import Server
from tests.security.function import Answer, Function
from tests.security.small_aws import ARN, SmallAws

INSTANCE = "orders"
DATABASE = "shop"
MASTER_SECRET = "orders-master"


@dataclass
class World:
    """The instance ``orders`` with its database ``shop``, an account, and the function."""

    server: Server
    ca_file: Path
    aws: SmallAws
    function: Function

    def __post_init__(self) -> None:
        self.aws.instances[INSTANCE] = self.instance()
        self.aws.keep(
            MASTER_SECRET, {"username": "postgres", "password": self.server.master_password}
        )

    def instance(self, **other: object) -> dict[str, Any]:
        """Return what RDS says of the instance, with *other* fields."""
        return {
            "DBInstanceIdentifier": INSTANCE,
            "DBInstanceArn": ARN.format("rds", f"db:{INSTANCE}"),
            "DbiResourceId": "db-ORDERS",
            "Engine": "postgres",
            "DBInstanceStatus": "available",
            "Endpoint": {"Address": "localhost", "Port": self.server.port},
            "DBName": DATABASE,
            "MasterUsername": "postgres",
            "InstanceCreateTime": datetime(2024, 1, 1, tzinfo=UTC).isoformat(),
            "TagList": [
                {"Key": "day2", "Value": "enabled"},
                {"Key": "day2:secret", "Value": MASTER_SECRET},
            ],
        } | other

    def variables(self, **settings: str) -> dict[str, str]:
        """Return the function's environment; *settings* are named as its variables are."""
        return {
            "AWS_ENDPOINT_URL": self.aws.url,
            "DAY2_CA_FILE": str(self.ca_file),
            **settings,
        }

    def migrate(self, target: str = "head", **settings: str) -> Answer:
        """Have the function migrate to *target*, by a direct request."""
        event = {"instance": INSTANCE, "target_revision": target}
        return self.function.invoke(event, **self.variables(**settings))

    def invoke(self, event: Mapping[str, object], **settings: str) -> Answer:
        """Call the function."""
        return self.function.invoke(event, **self.variables(**settings))

    def start(self, event: Mapping[str, object], **settings: str) -> None:
        """Start a call of the function."""
        self.function.start(event, **self.variables(**settings))

    def login_secret(self, login: str) -> dict[str, Any]:
        """Return the fields of a login's secret."""
        fields: dict[str, Any] = json.loads(self.aws.secrets[f"day2/{INSTANCE}/{login}"].text())
        return fields

    def who_logs_in(self, login: str, password: str | None = None) -> str:
        """Log in with the password in the secret of *login*, and return who that is."""
        fields = self.login_secret(login)
        session = psycopg2.connect(
            host=fields["host"],
            port=fields["port"],
            dbname=fields["dbname"],
            user=fields["username"],
            password=password or fields["password"],
            sslmode="verify-full",
            sslrootcert=str(self.ca_file),
        )
        with closing(session):
            return str(query(session, "SELECT session_user")[0][0])

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run *statement* as the superuser."""
        with closing(self.server.superuser(DATABASE)) as session:
            return query(session, statement)
