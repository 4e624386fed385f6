"""
One run of ours outside Lambda: no AWS is called.

As a program (``ours.py CA_FILE PORT DATABASE``) it is a whole process that applies what is pending
with the package on ``PYTHONPATH``, as the peers' commands do.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import handlers  # noqa: F401 - it sets up the process, as in Lambda
from core.actions.carry_out import carry_out
from core.actions.run import Run
from core.budget import Budget
from core.model import Parameters, Request, Result, Secret, Trigger
from core.revisions.runner import Revisions
from core.settings import Settings

BUDGET_SECONDS = 600.0


@dataclass(frozen=True)
class NoCloud:
    """A cloud of one master secret, which names its host itself."""

    port: int
    database: str

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """Return the master secret."""
        text = (
            '{"username": "postgres", "password": "benchmark", "host": "localhost",'
            f' "port": {self.port}, "dbname": "{self.database}"}}'
        )
        return Secret(name, f"{name}:{stage}", text)

    def instances(self) -> list[object]:
        """Return no instance."""
        return []

    def clusters(self) -> list[object]:
        """Return no cluster."""
        return []

    def parameters(self, _instance: str) -> Parameters:
        """Return that nothing is declared."""
        return Parameters()

    def put_events(self, _detail_type: str, _details: Sequence[Mapping[str, object]]) -> None:
        """Tell nobody."""


def migrate(revisions: Revisions, ca_file: str, port: int, database: str) -> Result:
    """Bring *database* to head."""
    return carry_out(
        Run(
            request=Request(Trigger.DIRECT, secret_name="master", target="head"),
            cloud=NoCloud(port, database),  # type: ignore[arg-type]
            revisions=revisions,
            settings=Settings(ca_file=ca_file),
            budget=Budget.of(BUDGET_SECONDS),
            request_id="benchmark",
        )
    )


if __name__ == "__main__":
    result = migrate(Revisions(), sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.exit(0 if result.outcome.success else 1)
