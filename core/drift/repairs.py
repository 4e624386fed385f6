"""The statements that repair a drift, for the master to run as they are printed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from core.drift.catalogue import PUBLIC, Catalogue, Thing
from core.revisions.promises import MASTER


class Repairs(NamedTuple):
    """
    How statements are written for one database.

    Attributes:
        promised: The roles that are promised.
        owners: Who should own each promised schema (as SQL).
    """

    catalogue: Catalogue
    promised: Collection[str]
    owners: Mapping[str, str]

    def sql(self, role: str) -> str:
        """Return the name of *role* as SQL."""
        if role == PUBLIC:
            return role
        known = self.catalogue.roles.get(role)
        return known.quoted if known else '"{}"'.format(role.replace('"', '""'))

    def new_owner(self, role: str) -> str:
        """Return how *role* is named where something is given to it."""
        return "CURRENT_USER" if role in (self.catalogue.master, MASTER) else self.sql(role)

    def is_a_strangers(self, thing: Thing) -> bool:
        """Say whether *thing*, in a promised schema, belongs to one whom nobody promised it."""
        if thing.owner == self.catalogue.master or thing.owner in self.promised:
            return False
        # All but a schema may be a superuser's.
        is_superuser = self.catalogue.roles[thing.owner].is_superuser
        return thing.kind == "SCHEMA" or not is_superuser

    def rightful_owner(self, thing: Thing) -> str:
        """Return who owns *thing* once it is repaired."""
        owner = self.owners.get(thing.home)
        return owner if owner and self.is_a_strangers(thing) else thing.owner

    def acting_for(self, owner: str, statement: str) -> str:
        """Return *statement* so that the master may run it, which only *owner* may."""
        known = self.catalogue.roles.get(owner)
        if known is None or known.is_held or known.is_superuser:
            return statement
        if owner in self.promised and not known.has_iam:
            # That the master acts as it is repaired first, and to stay.
            return statement
        return (
            f"GRANT {known.quoted} TO CURRENT_USER; {statement}; "
            f"REVOKE {known.quoted} FROM CURRENT_USER"
        )

    def own(self, kind: str, name: str, home: str, *, old: str, new: str) -> str:
        """Return what gives *name* to *new*; for a moment that takes CREATE on its schema."""
        change = f"ALTER {kind} {name} OWNER TO {self.new_owner(new)}"
        needs_create = home and kind not in ("SCHEMA", "DATABASE")
        if needs_create and new not in (self.catalogue.master, self.owners.get(home)):
            change = (
                f"GRANT CREATE ON SCHEMA {home} TO {self.sql(new)}; {change}; "
                f"REVOKE CREATE ON SCHEMA {home} FROM {self.sql(new)}"
            )
        return self.acting_for(old, change)

    def revoke_membership(self, held: str, member: str, grantor: str | None, what: str = "") -> str:
        """Return what takes the role *held*, or an option (*what*) of it, from *member*."""
        who = "CURRENT_USER" if member == self.catalogue.master else self.sql(member)
        statement = f"REVOKE {what}{self.sql(held)} FROM {who}"
        # Until 16 there was one membership of a member, whoever granted it.
        if grantor in (None, self.catalogue.master) or self.catalogue.version < 160000:
            return statement
        return f"{statement} GRANTED BY {self.sql(str(grantor))}"
