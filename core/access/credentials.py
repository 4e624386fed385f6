"""What a master secret says: pure parsing of its JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from core.errors import InvalidField
from core.model import Secret

_HOST = re.compile(r"[0-9A-Za-z:]([0-9A-Za-z.:_-]{0,253}[0-9A-Za-z.:])?")
_ENGINES = frozenset({"postgres", "postgresql"})


@dataclass(frozen=True, slots=True)
class MasterCredentials:
    """
    The fields of a master secret; RDS's own holds ``user`` and ``password`` only.

    The names in the JSON are those of the Secrets Manager User Guide, "JSON structure of
    AWS Secrets Manager database credential secrets"; they are case-sensitive.
    """

    user: str
    password: str = field(repr=False)
    host: str | None = None
    port: int | None = None
    dbname: str | None = None
    instance: str | None = None


def master_credentials(secret: Secret) -> MasterCredentials:
    """
    Read the master's credentials out of *secret*.

    Raises:
        InvalidField: It is no JSON object, is for another engine, or lacks a field;
            the error names the secret and the field, and never a value.
    """
    where = f"secret {secret.name}"
    try:
        fields = json.loads(secret.text)
    except ValueError:
        # The parser's own error quotes the text; it must not travel with ours.
        fields = None
    if not isinstance(fields, dict):
        raise InvalidField(where, "is no JSON object", 'store {"username": …, "password": …}')

    def text(name: str) -> str | None:
        value = fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise InvalidField(f"{where}, field {name}", "is no text", "store a string")
        if "\0" in value:
            raise InvalidField(f"{where}, field {name}", "holds a NUL", "store it without")
        return value

    def needed(name: str) -> str:
        value = text(name)
        if value is None:
            raise InvalidField(f"{where}, field {name}", "is missing", "store it")
        return value

    engine = text("engine")
    if engine is not None and engine.lower() not in _ENGINES:
        raise InvalidField(f"{where}, field engine", "is not postgres", "name a PostgreSQL secret")
    return MasterCredentials(
        user=needed("username"),
        password=needed("password"),
        host=_host(text("host"), where),
        port=_port(fields.get("port"), where),
        dbname=text("dbname"),
        instance=text("dbInstanceIdentifier"),
    )


def _host(value: str | None, where: str) -> str | None:
    """
    Return a host name or address.

    To libpq a path is a socket's folder, where TLS is not asked for, and a comma makes a list.
    """
    if value is not None and not _HOST.fullmatch(value):
        raise InvalidField(f"{where}, field host", "is no host name", "store the endpoint's name")
    return value


def _port(value: object, where: str) -> int | None:
    """Return a TCP port from JSON, where it may be a number or its digits."""
    if value is None:
        return None
    digits = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not digits.isdecimal() or not 0 < int(digits) < 65536:
        raise InvalidField(f"{where}, field port", "is no TCP port", "store a number up to 65535")
    return int(digits)
