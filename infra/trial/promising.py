"""What a revision made and nothing promises, as ``promises.toml`` would have it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from core.revisions.promises import MASTER
from infra.trial.catalogue import name_in

# Membership in it is how RDS knows a login that shows a token.
_BY_TOKEN = "rds_iam"

Catalogue = Mapping[str, Sequence[str]]


def role(name: str, since: str, catalogue: Catalogue) -> str:
    """Return the promise of the role *name*, with all of it that the *catalogue* tells."""
    (columns,) = (line.split(" | ") for line in catalogue["roles"] if name_in(line) == name)
    member_of = {
        line.split(" | ")[1].removeprefix("in ")
        for line in catalogue["memberships"]
        if name_in(line) == name
    }
    login = ("iam" if _BY_TOKEN in member_of else "password") if columns[1] == "LOGIN" else None
    settings = columns[-1].split(" ")
    # A setting of one database, and a value with a space, are left to the author.
    if not all("=" in one for one in settings):
        settings = []
    acts_as = [one.removeprefix("role=") for one in settings if one.startswith("role=")]
    return _entry(
        "role",
        name=name,
        since=since,
        login=login,
        acts_as=acts_as[0] if acts_as else None,
        settings=[one for one in settings if not one.startswith("role=")],
        member_of=sorted(member_of - {_BY_TOKEN}),
    )


def schema(name: str, since: str, catalogue: Catalogue, master: str) -> str:
    """Return the promise of the schema *name*; its owner may be the *master*."""
    (owner,) = (
        line.split(" | ")[1].removeprefix("of ")
        for line in catalogue["schemas"]
        if name_in(line) == name
    )
    # A name that needs quotes comes with them.
    owner = owner.strip('"').replace('""', '"')
    return _entry("schema", name=name, since=since, owner=MASTER if owner == master else owner)


def _entry(kind: str, **fields: str | list[str] | None) -> str:
    """Return the TOML of one *kind* of promise; a JSON string or list of them is one of TOML's."""
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
        if value
    ]
    return "\n".join([f"    [[{kind}]]", *(f"    {line}" for line in lines)])
