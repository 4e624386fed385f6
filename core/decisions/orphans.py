"""Which login secrets are left of databases that are gone: the rule of sweep and operator alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from core.model import ManagedDatabase


class Live(NamedTuple):
    """The instances and clusters that there are: their names, and what RDS calls them itself."""

    names: Collection[str]
    resource_ids: Collection[str]

    @classmethod
    def of(cls, databases: Iterable[ManagedDatabase]) -> Live:
        """Return them for *databases*, which are all that RDS has."""
        every = list(databases)
        return cls({one.identifier for one in every}, {one.resource_id for one in every})


def gone(name: str, tags: Mapping[str, str], prefix: str, live: Live) -> tuple[str, str] | None:
    """
    Return name and resource id of the database that the secret *name* has outlived, if it has.

    Ours are tagged with the resource id they were set on. One that is not is of a server that RDS
    does not know, or somebody else's; one whose database has another name now is in use.
    """
    resource_id = tags.get(f"{prefix}:dbi-resource-id")
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != prefix or not resource_id:
        return None
    if resource_id in live.resource_ids or parts[1] in live.names:
        return None
    return parts[1], resource_id
