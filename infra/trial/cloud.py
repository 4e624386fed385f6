"""AWS as a run needs it, without a network: databases and their secrets, kept in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from core.errors import NoSuchInstance, NotFound
from core.model import ManagedDatabase, Parameters, Secret


class Register:
    """
    What RDS has, of which whoever makes it says all that it knows.

    Attributes:
        deployed: The ARNs of what is a side of a blue/green deployment.
        secondaries: The ARNs of clusters that take no writes.
    """

    deployed: frozenset[str] = frozenset()
    secondaries: frozenset[str] = frozenset()

    def databases(self) -> Iterable[ManagedDatabase]:
        """Return every instance and cluster."""
        return ()

    def instance(self, identifier: str) -> ManagedDatabase:
        """Return the instance *identifier*."""
        return self._named(identifier, self.instances())

    def cluster(self, identifier: str) -> ManagedDatabase:
        """Return the cluster *identifier*."""
        return self._named(identifier, self.clusters())

    def instances(self) -> Iterator[ManagedDatabase]:
        """Yield every instance."""
        return (one for one in self.databases() if not one.is_cluster)

    def clusters(self) -> Iterator[ManagedDatabase]:
        """Yield every cluster."""
        return (one for one in self.databases() if one.is_cluster)

    def in_deployments(self) -> frozenset[str]:
        """Return the ARNs of what is in a blue/green deployment."""
        return self.deployed

    def read_only_clusters(self) -> frozenset[str]:
        """Return the ARNs of the secondaries of global clusters."""
        return self.secondaries

    def _named(self, identifier: str, among: Iterable[ManagedDatabase]) -> ManagedDatabase:
        for one in among:
            if one.identifier == identifier:
                return one
        raise NoSuchInstance(f"{identifier} does not exist")


@dataclass
class MemoryCloud(Register):
    """
    The ``Cloud`` of a run: databases, parameters and secrets by name, and what was sent.

    Attributes:
        secrets: Each secret's JSON fields.
        tags: Each secret's tags.
        events: Detail type and detail of every event that was put on the bus.
    """

    known: dict[str, ManagedDatabase] = field(default_factory=dict)
    declared: dict[str, Parameters] = field(default_factory=dict)
    secrets: MutableMapping[str, dict[str, object]] = field(default_factory=dict)
    tags: MutableMapping[str, dict[str, str]] = field(default_factory=dict)
    events: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    def databases(self) -> Iterable[ManagedDatabase]:
        """Return every instance and cluster, each by the name that it is known by."""
        return [one._replace(identifier=name) for name, one in self.known.items()]

    def parameters(self, instance: str) -> Parameters:
        """Return what is declared for *instance*."""
        return self.declared.get(instance, Parameters())

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
        """Remember the events."""
        self.events += [(detail_type, detail) for detail in details]

    def ask_later(
        self, event: Mapping[str, object], waiting: Mapping[str, str], *, delay_seconds: int
    ) -> None:
        """Refuse: whoever runs here waits for an answer."""
        raise AssertionError(f"{event} was put off by {delay_seconds} s: {waiting}")

    def auth_token(self, host: str, port: int, user: str) -> str:
        """Refuse: the local servers know no IAM."""
        raise NotFound(f"no token for {user} at {host}:{port}")

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """Return the secret *name*, which has a current value only."""
        if stage != "AWSCURRENT":
            raise NotFound(f"secret {name} has no {stage}")
        self._check(name)
        return Secret(name, name, json.dumps(self.secrets[name]))

    def secret_tags(self, name: str) -> dict[str, str]:
        """Return a copy of the tags of the secret *name*."""
        self._check(name)
        return dict(self.tags[name])

    def create_secret(
        self, name: str, text: str, *, description: str, tags: Mapping[str, str]
    ) -> None:
        """Keep a new secret."""
        if not description or name in self.secrets:
            raise ValueError(f"secret {name!r} has no description, or is there already")
        self.secrets[name] = json.loads(text)
        self.tags[name] = dict(tags)

    def put_secret(self, name: str, text: str) -> None:
        """Replace the text of the secret *name*."""
        self._check(name)
        self.secrets[name] = json.loads(text)

    def tag_secret(self, name: str, tags: Mapping[str, str]) -> None:
        """Put *tags* on the secret *name*."""
        self._check(name)
        self.tags[name] = self.tags[name] | dict(tags)

    def untag_secret(self, name: str, tag: str) -> None:
        """Take *tag* from the secret *name*."""
        self._check(name)
        self.tags[name] = {key: kept for key, kept in self.tags[name].items() if key != tag}

    def _check(self, name: str) -> None:
        if name not in self.secrets:
            raise NotFound(f"no secret {name}")
        self.tags.setdefault(name, {})
