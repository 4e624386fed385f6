"""What a master secret says: pure parsing of its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from core.errors import InvalidField
from core.model import Secret

# RFC 1123, section 2.1, and the underscore that private DNS zones allow.
_LABEL = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?")
_LONGEST_HOST = 253
_ENGINES = frozenset({"postgres", "postgresql", "aurora-postgresql"})
_SHAPE = 'store {"username": …, "password": …}'


@dataclass(frozen=True, slots=True)
class MasterCredentials:
    """
    The fields of a master secret; RDS's own holds ``user`` and ``password`` only.

    The names in the JSON are those of the Secrets Manager User Guide, "JSON structure of
    AWS Secrets Manager database credential secrets"; they are case-sensitive. ``endpoint``,
    as Crossplane's connection secrets call it, does for ``host``.
    """

    user: str
    password: str = field(repr=False)
    host: str | None = None
    port: int | None = None
    dbname: str | None = None
    instance: str | None = None
    cluster: str | None = None


def master_credentials(secret: Secret) -> MasterCredentials:
    """
    Read the master's credentials out of *secret*.

    A field that is optional may be empty, as templates leave it; that is as if it were missing.

    Raises:
        InvalidField: It is not a JSON object, is for another engine, or lacks a field;
            the error names the secret and the field, and never a value.
    """
    where = f"secret {secret.name}"
    fields = _fields(secret, where)

    def text(name: str) -> str | None:
        value = fields.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise InvalidField(f"{where}, field {name}", "is not text", "store a string")
        flaw = flaw_of(value)
        if flaw is not None:
            raise InvalidField(f"{where}, field {name}", flaw, "store it without")
        return value

    def needed(name: str) -> str:
        value = text(name)
        if value is None:
            raise InvalidField(f"{where}, field {name}", *_why_missing(fields, name))
        return value

    engine = text("engine")
    if engine is not None and engine.lower() not in _ENGINES:
        raise InvalidField(f"{where}, field engine", "is not postgres", "name a PostgreSQL secret")
    named = "endpoint" if text("host") is None else "host"
    return MasterCredentials(
        user=needed("username"),
        password=needed("password"),
        host=_host(text(named), f"{where}, field {named}"),
        port=_port(fields.get("port"), where),
        dbname=text("dbname"),
        instance=_identifier(text("dbInstanceIdentifier")),
        cluster=_identifier(text("dbClusterIdentifier")),
    )


def json_object(text: str) -> Mapping[str, Any] | None:
    """Return the JSON object that *text* is, a byte order mark before it or not; else ``None``."""
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        # The parser's own error quotes the text; it must not travel with ours.
        return None
    return found if isinstance(found, dict) else None


def flaw_of(text: str) -> str | None:
    """Say why PostgreSQL cannot be given *text*; ``None`` where it can."""
    if "\0" in text:
        return "contains a NUL character"
    # JSON may write half of a character, such as "\ud800", which no encoding has.
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "contains half of a surrogate pair"
    return None


def same_host(one: str | None, other: str | None) -> bool:
    """Say whether two host names are one: DNS knows no case, and a last dot adds nothing."""
    return one is not None and other is not None and _plain(one) == _plain(other)


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")


def _fields(secret: Secret, where: str) -> Mapping[str, Any]:
    fields = json_object(secret.text)
    if fields is not None:
        return fields
    try:
        inner = json.loads(secret.text)
    except (ValueError, RecursionError):
        inner = None
    if isinstance(inner, str) and json_object(inner) is not None:
        problem = "is a JSON object inside a JSON string"
        raise InvalidField(where, problem, "store the object itself, encoded once")
    if re.match(r"\s*[a-z][a-z0-9+]*://", secret.text):
        raise InvalidField(where, "is a URL, not a JSON object", _SHAPE)
    raise InvalidField(where, "is not a JSON object", _SHAPE)


def _why_missing(fields: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return why the field *name* is not where it belongs, and what to do."""
    for found, value in fields.items():
        if found.lower() == name and found != name:
            return f"is missing, and {found} is there", f"write its name as {name}"
        if isinstance(value, dict) and name in value:
            return f"is missing, and lies inside {found}", "store it at the top of the object"
    return "is missing", "store it"


def _identifier(value: str | None) -> str | None:
    """Return an identifier, which the API of RDS takes as an ARN, too."""
    return value.rpartition(":")[2] if value and value.startswith("arn:") else value


def _host(value: str | None, where: str) -> str | None:
    """
    Return a host name or address in lower case.

    To libpq a path is a socket's folder, where TLS is not asked for, and a comma makes a list.
    """
    if value is None:
        return None
    if "%" not in value:
        # A zone such as %eth0 means something on one machine only.
        with suppress(ValueError):
            return str(ip_address(value))
    name = _plain(value)
    before, colon, port = value.rpartition(":")
    if colon and port.isdecimal() and _is_name(_plain(before)):
        remedy = f"store the name alone, and {port} as field port"
        raise InvalidField(where, "contains a port too", remedy)
    if not _is_name(name):
        raise InvalidField(where, "is not a host name", "store the endpoint's name, and no more")
    return name


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_HOST and all(map(_LABEL.fullmatch, text.split(".")))


def _port(value: object, where: str) -> int | None:
    """Return a TCP port from JSON, where it may be a number or its digits."""
    if value is None or value == "":
        return None
    digits = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
        raise InvalidField(
            f"{where}, field port", "is not a TCP port", "store a number up to 65535"
        )
    return int(digits)
