"""
Which versions of PostgreSQL the local RDS has, and which of them a request means.

A version is there if this machine has a server of it, or can get one: the system's, the one that
pip fetches, those that npm fetches. Whatever else is asked for is refused, as RDS refuses a version
that it does not have (RDS API, ``CreateDBInstance``: ``InvalidParameterCombination``).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from infra.local.postgres import by_npm
from infra.local.postgres.programs import (
    Programs,
    ServerError,
    find_programs,
    given_programs,
    installed_programs,
    pip_programs,
)


@dataclass(frozen=True)
class Offer:
    """A version such as ``15.18``, and what gets the programs of it."""

    version: str
    programs: Callable[[], Programs]

    @property
    def major(self) -> str:
        """The major version, such as ``15``."""
        return self.version.split(".", maxsplit=1)[0]


def offers() -> list[Offer]:
    """Return every version that there is, oldest first; nothing is fetched before it is used."""
    by_version: dict[str, Offer] = {}
    for programs in (*given_programs(), *installed_programs(), pip_programs()):
        by_version.setdefault(programs.version, Offer(programs.version, partial(_itself, programs)))
    for pin in by_npm.pins():
        if by_npm.has_npm() or pin.fetched():
            by_version.setdefault(pin.version, Offer(pin.version, pin.fetch))
    return sorted(by_version.values(), key=lambda offer: numbers(offer.version))


def _itself(programs: Programs) -> Programs:
    return programs


def usual_version() -> str:
    """Return what an instance gets that asks for none."""
    return find_programs().version


def resolve(wanted: str, versions: Iterable[str]) -> str | None:
    """
    Return which of *versions* a request for *wanted* gets: itself, or the newest of a major.

    None: there is none, and RDS would refuse.
    """
    known = list(versions)
    if wanted in known:
        return wanted
    of_major = [one for one in known if "." in one and one.split(".", maxsplit=1)[0] == wanted]
    return max(of_major, key=numbers, default=None)


def programs_of(wanted: str) -> Programs:
    """
    Return the programs of a version or of a major, fetched if need be.

    Raises:
        ServerError: There are none; says what there is.
    """
    known = {offer.version: offer for offer in offers()}
    version = resolve(wanted, known)
    if version is None:
        raise ServerError(
            f"there is no PostgreSQL {wanted} for this machine; there is {', '.join(known)}, "
            f"and npm brings {', '.join(pin.version for pin in by_npm.pins())}"
        )
    return known[version].programs()


def numbers(version: str) -> tuple[int, ...]:
    """Return what a version such as ``15.18`` is sorted by."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
