"""
List what is left of instances and clusters that are gone, and delete what we have made for them.

    python -m infra.orphans [--stack day2] [--delete] [--yes]

Login secrets are billed by the month, and nothing deletes them with their instance. It talks to
whichever AWS the shell's credentials are for, names it, and asks before it deletes. Secrets can be
restored for 30 days; declared targets are their owners', and are only listed.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from core.decisions import observed
from core.decisions.orphans import Live, gone
from core.settings import observed_parameter, target_parameter
from infra import account, commands

FLEET = "_fleet"
# The longest that Secrets Manager offers (API Reference, "DeleteSecret").
RECOVERY_DAYS = 30


@dataclass(frozen=True)
class Orphan:
    """
    Something whose instance is gone.

    Attributes:
        kind: ``secret``, ``state`` or ``target``.
        identifier: The secret's ARN, or the parameter's name.
        instance: Its name, with its DbiResourceId where that is known.
        since: When it was written last.
    """

    kind: str
    name: str
    identifier: str
    instance: str
    since: datetime

    @property
    def is_ours(self) -> bool:
        """Whether we have made it, and may delete it."""
        return self.kind != "target"

    def line(self, today: datetime) -> str:
        """Say what it is, of what, and how old."""
        days = (today - self.since).days
        kept = "" if self.is_ours else ", kept: its owner wrote it"
        return f"{self.kind:<7} {self.name}  of {self.instance}, {days} day(s) old{kept}"


def live_ones(
    instances: Iterable[Mapping[str, Any]], clusters: Iterable[Mapping[str, Any]]
) -> Live:
    """Return what there is, by what ``DescribeDBInstances`` and ``DescribeDBClusters`` tell."""
    every = [(one["DBInstanceIdentifier"], one["DbiResourceId"]) for one in instances]
    every += [(one["DBClusterIdentifier"], one["DbClusterResourceId"]) for one in clusters]
    return Live({name for name, _ in every}, {resource_id for _, resource_id in every})


def orphaned_secret(secret: Mapping[str, Any], prefix: str, live: Live) -> Orphan | None:
    """Return a secret of ``ListSecrets`` as an orphan, or ``None`` where it is not one."""
    tags = {tag["Key"]: tag.get("Value", "") for tag in secret.get("Tags", [])}
    found = gone(secret["Name"], tags, prefix, live)
    if found is None:
        return None
    instance, resource_id = found
    since = secret.get("LastChangedDate") or secret["CreatedDate"]
    return Orphan("secret", secret["Name"], secret["ARN"], f"{instance} ({resource_id})", since)


def orphaned_parameter(parameter: Mapping[str, Any], prefix: str, live: Live) -> Orphan | None:
    """
    Return a parameter as an orphan, or ``None`` where it is in use or not one of day2's.

    A target may be declared before its instance is made: it is told, and never deleted.
    """
    name = parameter["Name"]
    parts = name.split("/")
    if len(parts) != 4 or parts[2] == FLEET or parts[2] in live.names:
        return None
    instance, since = parts[2], parameter["LastModifiedDate"]
    if name == target_parameter(prefix, instance):
        return Orphan("target", name, name, instance, since)
    state = (
        observed.read(parameter["Value"]) if name == observed_parameter(prefix, instance) else None
    )
    if state is None or not state.dbi_resource_id or state.dbi_resource_id in live.resource_ids:
        return None
    return Orphan("state", name, name, f"{instance} ({state.dbi_resource_id})", since)


class Leftovers:
    """What one stack has left in its account and region."""

    def __init__(self, stack: str, client: Callable[[str], Any]) -> None:
        outputs = account.outputs(client, stack)
        function = client("lambda").get_function_configuration(FunctionName=outputs["FunctionName"])
        self.prefix: str = function["Environment"]["Variables"]["DAY2_PREFIX"]
        self._rds, self._ssm = client("rds"), client("ssm")
        self._secrets = client("secretsmanager")

    def orphans(self) -> list[Orphan]:
        """Return them, secrets first."""
        # What there is last: what is made meanwhile is seen.
        secrets = list(
            _all(
                self._secrets.get_paginator("list_secrets"),
                "SecretList",
                Filters=[{"Key": "name", "Values": [f"{self.prefix}/"]}],
            )
        )
        parameters = list(
            _all(
                self._ssm.get_paginator("get_parameters_by_path"),
                "Parameters",
                Path=f"/{self.prefix}/",
                Recursive=True,
            )
        )
        instances = list(_all(self._rds.get_paginator("describe_db_instances"), "DBInstances"))
        clusters = list(_all(self._rds.get_paginator("describe_db_clusters"), "DBClusters"))
        live = live_ones(instances, clusters)
        found = [
            *(orphaned_secret(one, self.prefix, live) for one in secrets),
            *(orphaned_parameter(one, self.prefix, live) for one in parameters),
        ]
        return sorted(filter(None, found), key=lambda one: (one.kind != "secret", one.name))

    def delete(self, orphan: Orphan) -> None:
        """Delete what is ours; a secret can be restored for 30 days, a state is of no more use."""
        if orphan.kind == "secret":
            self._secrets.delete_secret(
                SecretId=orphan.identifier, RecoveryWindowInDays=RECOVERY_DAYS
            )
        elif orphan.kind == "state":
            self._ssm.delete_parameter(Name=orphan.identifier)


def _all(paginator: Any, field: str, **arguments: Any) -> Iterable[dict[str, Any]]:
    for page in paginator.paginate(**arguments):
        yield from page[field]


def main(words: list[str]) -> int:
    """List what is left, and delete what is ours of it after a yes."""
    parser = commands.parser("infra.orphans", __doc__)
    parser.add_argument("--stack", default="day2")
    parser.add_argument("--delete", action="store_true", help="delete what is ours")
    parser.add_argument("--yes", action="store_true", help="do not ask, as in CI")
    arguments = parser.parse_args(words)

    def command(session: Any) -> int:
        leftovers = Leftovers(arguments.stack, session.client)
        found = leftovers.orphans()
        for orphan in found:
            print(orphan.line(datetime.now(UTC)))
        ours = [orphan for orphan in found if orphan.is_ours]
        if not arguments.delete or not ours:
            # Nothing is left over in most accounts: say which one that is.
            print(account.place(session, arguments.stack), file=sys.stderr)
            print(f"{len(found)} left over, {len(ours)} of them ours")
            return 0
        what = f"delete {len(ours)} of them"
        account.confirm(session, arguments.stack, what, yes=arguments.yes)
        # An instance may have come back while somebody thought about it.
        still = {orphan.identifier for orphan in leftovers.orphans()}
        return delete_all(leftovers, [orphan for orphan in ours if orphan.identifier in still])

    return account.carried_out(command)


def delete_all(leftovers: Leftovers, orphans: list[Orphan]) -> int:
    """Delete each of *orphans*, whatever becomes of the others; return 1 where one is left."""
    left = 0
    for orphan in orphans:
        try:
            leftovers.delete(orphan)
        except (BotoCoreError, ClientError) as error:
            left += 1
            print(f"not deleted: {orphan.name}: {error}", file=sys.stderr)
    kept = f", {left} left" if left else ""
    print(f"{len(orphans) - left} deleted{kept}; secrets can be restored for {RECOVERY_DAYS} days")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
