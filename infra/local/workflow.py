"""
The everyday workflow of somebody who writes revisions: a database and its secret, and runs on it.

The database is an RDS instance of the local AWS without the tag, so nothing but a direct request
touches it.  Its secret has the format of AWS's rotation, as a team without managed secrets has it.
"""

import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import rev_id
from botocore.exceptions import ClientError

from core.decisions.target import identifier_problem
from core.errors import RunFailed
from core.revisions import scripts
from core.revisions.folder import Folder
from core.revisions.manifest import Revision
from core.settings import INI
from infra import migrations
from infra.commands import WrongUseError
from infra.invoke import Call
from infra.local import stack
from infra.local.local_aws import LocalAws, LocalAwsError
from infra.story import printable

INSTANCE = "workbench"
SECRET = f"{INSTANCE}/master"
DATABASE = "app"
MASTER = "postgres"
READY_SECONDS = 60

# It fits into a line of the file, and into the name of one: 255 bytes with the identifier.
LONGEST_DESCRIPTION = 90
LONGEST_NAME_BYTES = 210


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


def revisions(folder: Folder | None = None) -> list[tuple[str, str]]:
    """
    Return identifier and description of every revision in *folder*, oldest first.

    Without one it is the folder that the command was given.

    Raises:
        LocalAwsError: They cannot be listed.
    """
    return [(one.identifier, one.description) for one in _build(folder or _chosen())]


def check_target(target: str) -> None:
    """
    Refuse a *target* that the folder's revisions do not have, before anything is deployed for it.

    Raises:
        WrongUseError: It is not ``head`` or one of them.
        LocalAwsError: They cannot be listed.
    """
    if not target.strip():
        raise WrongUseError("make test-lambda-to TARGET=revision: make list-migrations lists them")
    known = [identifier for identifier, _ in revisions()]
    if target not in ("head", *known):
        raise WrongUseError(
            f"TARGET={printable(target)} is unknown here: give one of {', '.join([*known, 'head'])}"
        )


def unknown_revisions(event: Any) -> list[str]:
    """Return the revisions that a direct request names, and that the folder does not have."""
    if not isinstance(event, dict) or "source" in event:
        return []
    known = {"head", "base", *(identifier for identifier, _ in revisions())}
    named = (event.get(field) for field in ("target_revision", "from_revision"))
    return [one for one in named if isinstance(one, str) and one not in known]


def new_revision(description: str, folder: Folder | None = None) -> Path:
    """
    Write the skeleton of the next revision in *folder* and return its file.

    Without one it is the folder that the command was given.

    Raises:
        WrongUseError: The description is not one short line of text.
        LocalAwsError: The history is broken; no file is left.
    """
    description = description.strip()
    if not description or not description.isprintable():
        raise WrongUseError('say what it does, in one line: make new-migration NAME="…"')
    if not re.search(r"[^\W_]", description):
        raise WrongUseError(f"{description!r} contains no letter: say what the revision does")
    if len(description) > LONGEST_DESCRIPTION or len(description.encode()) > LONGEST_NAME_BYTES:
        raise WrongUseError(
            f"the description is too long: say it in {LONGEST_DESCRIPTION} letters, "
            "and the rest in the file, below its first line"
        )
    folder = folder or _chosen()
    build = _build(folder)
    directory = ScriptDirectory.from_config(Config(INI))
    directory.version_locations = [str(folder.versions)]
    # The file's name is ours to say.
    directory.messaging_opts = {"quiet": True}
    scripts.lay(directory, build)
    before = set(folder.versions.iterdir())
    identifier = _next([one.identifier for one in build])
    try:
        directory.generate_revision(identifier, description)
        made = _build(folder)[-1]
        if (made.identifier, made.description) != (identifier, description):
            raise WrongUseError(f"{description!r} leaves nothing for a file name: use other words")
    except BaseException:
        for file in set(folder.versions.iterdir()) - before:
            if file.is_file():
                file.unlink()
        raise
    if os.geteuid() == 0:
        # As in a container, whose root is none of the people who will edit it.
        owner = made.file.parent.stat()
        os.chown(made.file, owner.st_uid, owner.st_gid)
    return made.file


def _next(identifiers: list[str]) -> str:
    """Return an identifier that follows *identifiers*, oldest first, as they are written."""
    if not identifiers:
        return "001"
    head = identifiers[-1]
    counted = re.fullmatch(r"(|.*[^0-9])([0-9]+)", head)
    if counted is None or (re.fullmatch(r"[0-9a-f]{12}", head) and not head.isdecimal()):
        return rev_id()
    prefix, number = counted.groups()
    numbers = [int(one) for one in identifiers if one.isdecimal()] if not prefix else [int(number)]
    following = f"{prefix}{max(numbers) + 1:0{len(number)}}"
    return rev_id() if following in identifiers or identifier_problem(following) else following


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


def _chosen() -> Folder:
    """Return the folder that the command was given."""
    try:
        return migrations.chosen()
    except RunFailed as error:
        raise LocalAwsError(str(error)) from error


def _build(folder: Folder) -> tuple[Revision, ...]:
    """Return the revisions in *folder*."""
    try:
        return scripts.read(folder.versions)
    except RunFailed as error:
        raise LocalAwsError(str(error)) from error
