"""
``make run``: the three triggers before your eyes, on the real template and a real PostgreSQL.

``make run CLUSTER=1`` plays the same on a DB cluster: a writer and a reader that streams from it.

Every line with an arrow is something that was seen to happen; what is not seen in time ends it
with exit status 1.
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from infra.local import clusters, stack, workflow
from infra.local.local_aws import LocalAws, LocalAwsError

NAME = "orders"
DATABASE = "orders"
WAIT_SECONDS = 60

PARAMETER = f"/{stack.STACK}/{NAME}/target-revision"
OBSERVED = f"/{stack.STACK}/{NAME}/observed-state"
TAGS = [{"Key": stack.STACK, "Value": "enabled"}]


@dataclass(frozen=True)
class Subject:
    """
    What the triggers are played on.

    Attributes:
        request: How a person asks RDS for it.
        find: Waits until it is available, and returns its host, port and RDS's description.
        woken_by: The event behind each trigger that its appearing can have.
        events: How many events its appearing has, each of which wakes a run.
    """

    kind: str
    request: str
    make: Callable[[LocalAws], None]
    find: Callable[[LocalAws], tuple[str, int, dict[str, Any]]]
    woken_by: Mapping[str, str]
    events: int


def _make_instance(aws: LocalAws) -> None:
    aws.client("rds").create_db_instance(
        DBInstanceIdentifier=NAME,
        Engine="postgres",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        DBName=DATABASE,
        MasterUsername="postgres",
        ManageMasterUserPassword=True,
        Tags=TAGS,
    )


def _find_instance(aws: LocalAws) -> tuple[str, int, dict[str, Any]]:
    found = workflow.wait_for_instance(aws, NAME)
    return found["Endpoint"]["Address"], found["Endpoint"]["Port"], found


def _make_cluster(aws: LocalAws) -> None:
    clusters.create(aws, NAME, members=2, DatabaseName=DATABASE, Tags=TAGS)


def _find_cluster(aws: LocalAws) -> tuple[str, int, dict[str, Any]]:
    found = clusters.wait_for(aws, NAME)
    return found["Endpoint"], found["Port"], found


AN_INSTANCE = Subject(
    "instance",
    f"rds create-db-instance {NAME}",
    _make_instance,
    _find_instance,
    {"instance": "RDS-EVENT-0005"},
    events=1,
)
A_CLUSTER = Subject(
    "cluster",
    f"rds create-db-cluster {NAME}, with two instances",
    _make_cluster,
    _find_cluster,
    # The first finds nobody yet who writes, and waits; whoever comes first then migrates.
    {
        "cluster": "RDS-EVENT-0170 of the cluster",
        "instance": "RDS-EVENT-0005 of an instance of it",
    },
    events=3,
)


def run(aws: LocalAws, subject: Subject = AN_INSTANCE) -> None:
    """
    Set everything up, play the three triggers on *subject*, and leave the local AWS up.

    Raises:
        LocalAwsError: Something was not seen to happen.
    """
    begin = time.monotonic()
    first, head = _targets([identifier for identifier, _ in workflow.revisions()])
    _set_up(aws)
    _it_appears(aws, subject, first)
    if first != head:
        _the_parameter_is_bumped(aws, subject, head)
    else:
        _title("2. The parameter is bumped")
        print(f"  not played: there is one revision, {head}, and nothing to bump it to")
    _an_operator_invokes(aws, head)
    seconds = time.monotonic() - begin
    print(
        f"\nAll of it was seen to happen, in {seconds:.0f} s. The local AWS stays up at "
        f"{aws.endpoint_url}. Try next:\n\n"
        '  eval "$(make -s env)"        then any AWS client: boto3, Terraform, aws\n'
        '  aws --endpoint-url "$AWS_ENDPOINT_URL" rds create-db-instance \\\n'
        "      --db-instance-identifier invoices --engine postgres \\\n"
        "      --db-instance-class db.t4g.micro --allocated-storage 20 \\\n"
        "      --master-username postgres --manage-master-user-password \\\n"
        "      --tags Key=day2,Value=enabled\n"
        '  make invoke PAYLOAD=\'{"instance": "invoices", "action": "status"}\'\n'
        "  make down                    stops it, and every process it started\n"
    )


def _targets(revisions: list[str]) -> tuple[str, str]:
    """
    Return the one of *revisions* that the database appears with, about half way, and the head.

    Raises:
        LocalAwsError: There is none.
    """
    if not revisions:
        raise LocalAwsError('there is no revision to play with: make new-migration NAME="…"')
    return revisions[(len(revisions) - 1) // 2], revisions[-1]


def _set_up(aws: LocalAws) -> None:
    _title("The local AWS")
    print("  starting LocalStack and deploying infra/template.yaml …", flush=True)
    aws.up()
    outputs = stack.up(aws)
    _seen(f"{outputs['FunctionName']} is deployed at {aws.endpoint_url}")
    # What an earlier run left.
    workflow.remove_instance(aws, NAME)
    clusters.remove(aws, NAME)
    aws.client("ssm").delete_parameters(Names=[PARAMETER, OBSERVED])


def _it_appears(aws: LocalAws, subject: Subject, target: str) -> None:
    _title(f"1. {'An' if subject is AN_INSTANCE else 'A'} {subject.kind} appears")
    earlier = set(aws.state.calls.iterdir())
    aws.client("ssm").put_parameter(Name=PARAMETER, Value=target, Type="String")
    print(f"  {PARAMETER} = {target}")
    # Its own event finds no instance yet.  It passes first, or it might be the one that migrates.
    _wait(
        lambda: _runs_since(aws, earlier, {"parameter"}) == 1, "the parameter's own event to pass"
    )
    subject.make(aws)
    print(f"  {subject.request}, tagged day2=enabled")
    host, port, found = subject.find(aws)
    _seen(f"PostgreSQL {found['EngineVersion']} is available at {host}:{port}")
    _wait_for_revision(aws, target)
    trigger = _trigger_of(aws, target)
    if trigger not in subject.woken_by:
        raise LocalAwsError(f"{target} was applied by {trigger}")
    _seen(f"{subject.woken_by[trigger]} had it migrated to {target}")
    # The others find nothing left to do.  They pass first, or one might answer the bump.
    woken_by = set(subject.woken_by)
    _wait(lambda: _runs_since(aws, earlier, woken_by) >= subject.events, "the runs of all events")
    _show_logins(aws, subject)


def _the_parameter_is_bumped(aws: LocalAws, subject: Subject, head: str) -> None:
    _title("2. The parameter is bumped")
    aws.client("ssm").put_parameter(Name=PARAMETER, Value=head, Overwrite=True)
    print(f"  ssm put-parameter {PARAMETER} = {head}")
    _wait_for_revision(aws, head)
    trigger = _trigger_of(aws, head)
    if trigger != "parameter":
        raise LocalAwsError(f"{head} was applied by {trigger}, not by parameter")
    _seen(f"Parameter Store Change rolled it forward to {head}")
    _show_logins(aws, subject)


def _an_operator_invokes(aws: LocalAws, head: str) -> None:
    _title("3. An operator invokes")
    status = _invoke(aws, {"instance": NAME, "action": "status"})
    if status["final_revision"] != head:
        raise LocalAwsError(f"status says {status['final_revision']}, not {head}")
    again = _invoke(aws, {"instance": NAME, "target_revision": head})
    if again["outcome"] != "UP_TO_DATE":
        raise LocalAwsError(f"the second migrate says {again['outcome']}, not UP_TO_DATE")
    _seen(again["message"])


def _invoke(aws: LocalAws, event: dict[str, Any]) -> dict[str, Any]:
    """Invoke the function, show request and response, and return the response's body."""
    print(f"  lambda invoke {stack.FUNCTION} {json.dumps(event)}")
    call = stack.invoke(aws, event)
    print(_indented(json.dumps(call.response, indent=2)))
    if not call.succeeded:
        raise LocalAwsError(f"it did not succeed; its log:\n{call.log}")
    return dict(call.response["body"])


def _wait_for_revision(aws: LocalAws, revision: str) -> None:
    """Wait until the function has reported the instance at *revision*."""
    ssm = aws.client("ssm")

    def observed() -> str | None:
        with contextlib.suppress(ssm.exceptions.ParameterNotFound):
            value = ssm.get_parameter(Name=OBSERVED)["Parameter"]["Value"]
            return str(json.loads(value)["revision"])
        return None

    _wait(lambda: observed() == revision, f"{NAME} at {revision}")


def _runs_since(aws: LocalAws, earlier: set[Path], triggers: set[str]) -> int:
    """Return how many runs for the demonstration's name, *triggers*' alone, have ended since."""
    logs = [call.read_text() for call in set(aws.state.calls.iterdir()) - earlier]
    lines = [line for log in logs for line in log.splitlines() if '"run finished"' in line]
    # The last line of a log may still be on its way.
    ended = [json.loads(line) for line in lines if line.endswith("}")]
    return sum(one.get("instance") == NAME and one["trigger"] in triggers for one in ended)


def _trigger_of(aws: LocalAws, revision: str) -> str:
    """Return what *revision* was applied for, as the database itself tells."""
    call = stack.invoke(aws, {"instance": NAME, "action": "status"})
    by = {row["revision"]: row["by"].split()[0] for row in call.response["body"]["history"]}
    return str(by.get(revision))


def _show_logins(aws: LocalAws, subject: Subject) -> None:
    """Print the roles that exist in the database now, as its master sees them."""
    host, port, found = subject.find(aws)
    secret = aws.client("secretsmanager").get_secret_value(
        SecretId=found["MasterUserSecret"]["SecretArn"]
    )
    login = json.loads(secret["SecretString"])
    connection = psycopg2.connect(
        host=host,
        port=port,
        dbname=DATABASE,
        user=login["username"],
        password=login["password"],
        sslmode="verify-full",
        sslrootcert=str(aws.state.ca_file),
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|rds)' AND rolname <> current_user"
            " ORDER BY rolname"
        )
        roles = ", ".join(name for (name,) in cursor.fetchall())
    print(f"  roles in the database: {roles}")


def _wait(condition: Callable[[], bool], what: str) -> None:
    """Wait for *condition*, showing that time passes."""
    begin = shown = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now - begin > WAIT_SECONDS:
            raise LocalAwsError(
                f"{what} was not seen within {WAIT_SECONDS} s: make down, try again"
            )
        if now - shown > 2:
            print(f"  … waiting for {what} ({now - begin:.0f} s)", flush=True)
            shown = now
        time.sleep(0.1)


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)


def _seen(text: str) -> None:
    print(f"  → {text}", flush=True)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
