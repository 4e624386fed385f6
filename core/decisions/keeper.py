"""Who keeps a database: this stack, nobody yet, another stack, or whoever kept its original."""

from __future__ import annotations

from enum import StrEnum


class Keeper(StrEnum):
    """Whose a database is, by what its books say."""

    OURS = "ours"
    NOBODY = "nobody"
    ANOTHER = "another"
    A_COPYS = "a-copys"


def keeper(
    said: str | None, its_instance: str | None, *, stack: str, instance: str | None
) -> Keeper:
    """
    Decide whose the database is.

    *said* is the stack that the books name, and *its_instance* the DbiResourceId that they
    were written on; *stack* is ours and *instance* the DbiResourceId that we connect to,
    ``None`` where only a host is known. On another instance than it was written on, the
    database is a restored copy: what kept the original does not keep it.
    """
    if said is None:
        return Keeper.NOBODY
    if instance is not None and its_instance is not None and instance != its_instance:
        return Keeper.A_COPYS
    return Keeper.OURS if said == stack else Keeper.ANOTHER
