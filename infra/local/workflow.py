"""
The everyday workflow of somebody who writes revisions: a database and its secret, and runs on it.

The database is an RDS instance of the local AWS without the tag, so nothing but a direct request
touches it.  Its secret has the format of AWS's rotation, as a team without managed secrets has it.
"""

import json
import re
import secrets
import time
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from botocore.exceptions import ClientError

from infra.local import stack
from infra.local.local_aws import LocalAws, LocalAwsError
from infra.local.stack import Call
from infra.local.state import CHECKOUT

INSTANCE = "workbench"
SECRET = f"{INSTANCE}/master"
DATABASE = "app"
MASTER = "postgres"
READY_SECONDS = 60


def database_up(aws: LocalAws) -> dict[str, Any]:
    """Return the secret of the workbench database, both made when missing."""
    try:
        secret = aws.client("secretsmanager").get_secret_value(SecretId=SECRET)
        aws.client("rds").describe_db_instances(DBInstanceIdentifier=INSTANCE)
    except ClientError as error:
        if "NotFound" not in error.response["Error"]["Code"]:
            raise
        return _make_database(aws)
    return dict(json.loads(secret["SecretString"]))


def database_reset(aws: LocalAws) -> dict[str, Any]:
    """Make the workbench database anew, empty; its roles are gone with it."""
    remove_instance(aws, INSTANCE)
    return _make_database(aws)


def migrate(aws: LocalAws, target_revision: str) -> Call:
    """Have the function bring the workbench database to *target_revision*."""
    return stack.invoke(aws, {"secret_name": SECRET, "target_revision": target_revision})


def revisions() -> list[tuple[str, str]]:
    """Return identifier and description of every revision of this checkout, oldest first."""
    scripts = _scripts()
    return [(script.revision, script.doc) for script in reversed([*scripts.walk_revisions()])]


def new_revision(description: str) -> Path:
    """
    Write the skeleton of the next numbered revision and return its file.

    Raises:
        LocalAwsError: The description is not one line of text.
    """
    if not re.fullmatch(r"\S.*", description):
        raise LocalAwsError('say what it does, in one line: make new-migration NAME="…"')
    scripts = _scripts()
    names = [script.revision for script in scripts.walk_revisions()]
    numbers = [int(name) for name in names if name.isdecimal()]
    identifier = f"{max(numbers, default=0) + 1:03}"
    made = scripts.generate_revision(identifier, description)
    if made is None:
        raise LocalAwsError("Alembic wrote no file")
    return Path(made.path)


def wait_for_instance(
    aws: LocalAws, instance: str, *, timeout_seconds: float = READY_SECONDS
) -> dict[str, Any]:
    """
    Wait until *instance* is available and return what RDS says of it.

    Raises:
        LocalAwsError: It was not in time, or failed.
    """
    rds = aws.client("rds")
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = rds.describe_db_instances(DBInstanceIdentifier=instance)["DBInstances"][0]
        if found["DBInstanceStatus"] == "available":
            return dict(found)
        if found["DBInstanceStatus"] == "failed" or time.monotonic() > deadline:
            raise LocalAwsError(f"{instance} is {found['DBInstanceStatus']}, see {aws.state.log}")
        time.sleep(0.1)


def remove_instance(aws: LocalAws, instance: str) -> None:
    """Delete *instance* if it exists."""
    try:
        aws.client("rds").delete_db_instance(DBInstanceIdentifier=instance, SkipFinalSnapshot=True)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("DBInstanceNotFound", "DBInstanceNotFoundFault"):
            raise


def _make_database(aws: LocalAws) -> dict[str, Any]:
    """Make the instance and the secret."""
    password = secrets.token_urlsafe(24)
    aws.client("rds").create_db_instance(
        DBInstanceIdentifier=INSTANCE,
        Engine="postgres",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        DBName=DATABASE,
        MasterUsername=MASTER,
        MasterUserPassword=password,
    )
    endpoint = wait_for_instance(aws, INSTANCE)["Endpoint"]
    secret = {
        "engine": "postgres",
        "host": endpoint["Address"],
        "port": endpoint["Port"],
        "username": MASTER,
        "password": password,
        "dbname": DATABASE,
        "dbInstanceIdentifier": INSTANCE,
    }
    client = aws.client("secretsmanager")
    try:
        client.create_secret(Name=SECRET, SecretString=json.dumps(secret))
    except client.exceptions.ResourceExistsException:
        client.put_secret_value(SecretId=SECRET, SecretString=json.dumps(secret))
    return secret


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(Config(CHECKOUT / "alembic.ini"))
