"""
What RDS refuses of a request for a PostgreSQL instance, with its own code and words.

Pure: a request goes in as botocore names its members, and a refusal comes out. The limits are those
of the RDS API Reference, "CreateDBInstance" and "ModifyDBInstance"; the words are RDS's own where
its users quote them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from infra.local.postgres.engine_versions import resolve

ENGINE = "postgres"

# The identifier that a request gives to something, by operation.
NEW_IDENTIFIERS = {
    "CreateDBInstance": "DBInstanceIdentifier",
    "CreateDBInstanceReadReplica": "DBInstanceIdentifier",
    "ModifyDBInstance": "NewDBInstanceIdentifier",
    "RestoreDBInstanceFromDBSnapshot": "DBInstanceIdentifier",
    "RestoreDBInstanceToPointInTime": "TargetDBInstanceIdentifier",
    "CreateDBCluster": "DBClusterIdentifier",
    "ModifyDBCluster": "NewDBClusterIdentifier",
}

# RDS User Guide, "DB instance class types" and "Supported DB engines for DB instance classes":
# families that PostgreSQL 14 and newer run on, with the sizes that each has.
_SIZES = {
    "db.t3": "micro small medium large xlarge 2xlarge",
    "db.t4g": "micro small medium large xlarge 2xlarge",
    "db.m5": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge",
    "db.m5d": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge",
    "db.m6g": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "db.m6gd": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "db.m6i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "db.m6id": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "db.m7g": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "db.m7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "db.m8g": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "db.r5": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge",
    "db.r5b": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge",
    "db.r5d": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge",
    "db.r6g": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "db.r6gd": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "db.r6i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "db.r6id": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "db.r7g": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "db.r7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "db.r8g": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "db.x2g": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge",
    "db.x2idn": "16xlarge 24xlarge 32xlarge",
    "db.x2iedn": "xlarge 2xlarge 4xlarge 8xlarge 16xlarge 24xlarge 32xlarge",
}
CLASSES = tuple(f"{family}.{size}" for family, sizes in _SIZES.items() for size in sizes.split())

# GiB, for PostgreSQL instances.
STORAGE = {
    "gp2": range(20, 65_536 + 1),
    "gp3": range(20, 65_536 + 1),
    "io1": range(100, 65_536 + 1),
    "io2": range(100, 65_536 + 1),
    "standard": range(5, 3_072 + 1),
}
PASSWORD_LENGTH = range(8, 128 + 1)
RESERVED_MASTERS = ("admin", "rdsadmin", "rds_superuser", "rdsrepladmin", "public")
RESERVED_DATABASES = ("rdsadmin", "template0", "template1")
# RDS User Guide, "Working with gp3 storage": below it they are what they are.
GP3_THRESHOLD = 400
PORTS = range(1_150, 65_535 + 1)
BACKUP_DAYS = range(35 + 1)
# PostgreSQL, "SQL Key Words": those that no name can be without quotes.
_KEY_WORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except false fetch for foreign freeze from full grant group having ilike in
initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table tablesample
then to trailing true union unique user using variadic verbose when where window with
"""
KEY_WORDS = frozenset(_KEY_WORDS.split())

_IDENTIFIER = re.compile(r"[A-Za-z](?!.*--)[A-Za-z0-9-]{0,62}(?<!-)")


class RefusedError(Exception):
    """A request that RDS refuses: its code, and its message as the text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check(operation: str, request: Mapping[str, Any]) -> None:
    """
    Check what a request names by itself; what it would change is not looked at.

    Raises:
        RefusedError: RDS would refuse it.
    """
    if operation == "DeleteDBCluster":
        skips = bool(request.get("SkipFinalSnapshot"))
        check_final_snapshot(request.get("FinalDBSnapshotIdentifier"), is_skipped=skips)
    name = NEW_IDENTIFIERS.get(operation)
    if name is None:
        return
    if name in request:
        check_identifier(name, request[name])
    if password := request.get("MasterUserPassword"):
        check_password(password)
    creates = operation == "CreateDBInstance"
    if "Cluster" in operation or (creates and request.get("Engine") != ENGINE):
        return
    kind = request.get("DBInstanceClass")
    if kind is not None and kind not in CLASSES:
        raise RefusedError("InvalidParameterValue", f"Invalid DB Instance class: {kind}")
    if creates:
        check_storage(request)
        check_names(request)
        check_master_password(request)
    check_range("Port", request, PORTS)
    check_range("DBPortNumber", request, PORTS)
    check_range("BackupRetentionPeriod", request, BACKUP_DAYS)


def check_final_snapshot(wanted: str | None, *, is_skipped: bool) -> None:
    """Refuse a deletion that does not say, or says twice, what becomes of the data."""
    if wanted and is_skipped:
        raise RefusedError(
            "InvalidParameterCombination",
            "You cannot specify both FinalDBSnapshotIdentifier and SkipFinalSnapshot",
        )
    if not wanted and not is_skipped:
        raise RefusedError(
            "InvalidParameterCombination",
            "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.",
        )


def check_identifier(parameter: str, identifier: str) -> None:
    """Refuse an identifier that DNS would not take."""
    if not _IDENTIFIER.fullmatch(identifier):
        raise RefusedError(
            "InvalidParameterValue",
            f"The parameter {parameter} is not a valid identifier. Identifiers must begin with a "
            "letter; must contain only ASCII letters, digits, and hyphens; and must not end with a "
            "hyphen or contain two consecutive hyphens.",
        )


def check_storage(request: Mapping[str, Any]) -> None:
    """Refuse a size that the kind of storage does not have."""
    kind = request.get("StorageType") or ("io1" if request.get("Iops") else "gp2")
    size = request.get("AllocatedStorage")
    if kind not in STORAGE:
        raise RefusedError("InvalidParameterValue", f"Invalid storage type: {kind}")
    if size is not None and size not in STORAGE[kind]:
        raise RefusedError(
            "InvalidParameterValue",
            f"Invalid storage size for engine name {ENGINE} and storage type {kind}: {size}",
        )
    extras = request.get("Iops"), request.get("StorageThroughput")
    if kind == "gp3" and any(extras) and (size is None or size < GP3_THRESHOLD):
        raise RefusedError(
            "InvalidParameterCombination",
            f"You can't specify IOPS or storage throughput for engine {ENGINE} and a storage size "
            f"less than {GP3_THRESHOLD}.",
        )


def check_names(request: Mapping[str, Any]) -> None:
    """Refuse a master and a database whose names PostgreSQL on RDS does not take."""
    master = request.get("MasterUsername")
    if not master:
        raise _blank("MasterUsername")
    _check_name("MasterUsername", master, RESERVED_MASTERS)
    database = request.get("DBName")
    if database is not None:
        _check_name("DBName", database, RESERVED_DATABASES)


def _check_name(parameter: str, name: str, reserved: Iterable[str]) -> None:
    """Refuse a name that PostgreSQL would want quoted, or that is RDS's or PostgreSQL's own."""
    if name.lower() in KEY_WORDS.union(reserved) or name.lower().startswith("pg_"):
        raise RefusedError(
            "InvalidParameterValue",
            f"{parameter} {name} cannot be used as it is a reserved word used by the engine",
        )
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        raise RefusedError(
            "InvalidParameterValue",
            f"{parameter} must begin with a letter and contain only alphanumeric characters.",
        )


def check_range(parameter: str, request: Mapping[str, Any], allowed: range) -> None:
    """Refuse a number that is not *allowed*."""
    given = request.get(parameter)
    if given is not None and given not in allowed:
        raise RefusedError(
            "InvalidParameterValue",
            f"Invalid value {given} for {parameter}: it must be between {allowed.start} and "
            f"{allowed.stop - 1}.",
        )


def check_group(group: str, family: str, version: str) -> None:
    """Refuse a parameter *group* whose *family* is not that of the instance's *version*."""
    wanted = f"{ENGINE}{version.partition('.')[0]}"
    if family != wanted:
        raise RefusedError(
            "InvalidParameterCombination",
            f"The Parameter Group {group} with DBParameterGroupFamily {family} cannot be used for "
            f"this instance. Please use a Parameter Group with DBParameterGroupFamily {wanted}",
        )


def check_master_password(request: Mapping[str, Any]) -> None:
    """Refuse a new instance with two ways to its master's password, or none."""
    given, managed = request.get("MasterUserPassword"), request.get("ManageMasterUserPassword")
    if given and managed:
        raise RefusedError(
            "InvalidParameterCombination",
            "You can't specify MasterUserPassword for an instance with ManageMasterUserPassword.",
        )
    if not given and not managed:
        raise _blank("MasterUserPassword")


def check_password(password: str) -> None:
    """Refuse a master's password for its length or its letters."""
    stem = "The parameter MasterUserPassword is not a valid password"
    if len(password) < PASSWORD_LENGTH.start:
        reason = f" because it is shorter than {PASSWORD_LENGTH.start} characters."
    elif len(password) >= PASSWORD_LENGTH.stop:
        reason = f" because it is longer than {PASSWORD_LENGTH.stop - 1} characters."
    elif not re.fullmatch(r"[!-~]+", password) or re.search(r'[/@"]', password):
        reason = ". Only printable ASCII characters besides '/', '@', '\"', ' ' may be used."
    else:
        return
    raise RefusedError("InvalidParameterValue", stem + reason)


def version_of(wanted: str, versions: Iterable[str], engine: str = ENGINE) -> str:
    """
    Return which of *versions* a new instance or cluster of *engine* gets that wants *wanted*.

    Raises:
        RefusedError: RDS has none.
    """
    found = resolve(wanted, versions)
    if found is None:
        raise RefusedError(
            "InvalidParameterCombination", f"Cannot find version {wanted} for {engine}"
        )
    return found


def check_upgrade(current: str, wanted: str, versions: Iterable[str]) -> None:
    """
    Refuse another version than *current*: none of those here has a way to another.

    Raises:
        RefusedError: RDS has no *wanted*, or it is another.
    """
    found = version_of(wanted, versions)
    if found.partition(".")[0] == wanted == current.partition(".")[0]:
        return
    if found != current:
        raise RefusedError(
            "InvalidParameterCombination", f"Cannot upgrade {ENGINE} from {current} to {found}"
        )


def _blank(parameter: str) -> RefusedError:
    return RefusedError(
        "InvalidParameterValue",
        f"The parameter {parameter} must be provided and must not be blank.",
    )
