"""
``make run``: the three triggers before your eyes, on the real template and a real PostgreSQL.

Every line with an arrow is something that was seen to happen; what is not seen in time ends it
with exit status 1.
"""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import psycopg2

from infra.local import stack, workflow
from infra.local.local_aws import LocalAws, LocalAwsError

INSTANCE = "orders"
DATABASE = "orders"
FIRST_TARGET = "002"
WAIT_SECONDS = 60

PARAMETER = f"/{stack.STACK}/{INSTANCE}/target-revision"
OBSERVED = f"/{stack.STACK}/{INSTANCE}/observed-state"


def run(aws: LocalAws) -> None:
    """
    Set everything up, play the three triggers, and leave the local AWS up.

    Raises:
        LocalAwsError: Something was not seen to happen.
    """
    begin = time.monotonic()
    _set_up(aws)
    head = workflow.revisions()[-1][0]
    _an_instance_appears(aws)
    _the_parameter_is_bumped(aws, head)
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


def _set_up(aws: LocalAws) -> None:
    _title("The local AWS")
    print("  starting LocalStack and deploying infra/template.yaml …", flush=True)
    aws.up()
    outputs = stack.deploy(aws)
    _seen(f"{outputs['FunctionName']} is deployed at {aws.endpoint_url}")
    # What an earlier run left.
    workflow.remove_instance(aws, INSTANCE)
    aws.client("ssm").delete_parameters(Names=[PARAMETER, OBSERVED])


def _an_instance_appears(aws: LocalAws) -> None:
    _title("1. An instance appears")
    earlier = set(aws.state.calls.iterdir())
    aws.client("ssm").put_parameter(Name=PARAMETER, Value=FIRST_TARGET, Type="String")
    print(f"  {PARAMETER} = {FIRST_TARGET}")
    # Its own event finds no instance yet.  It passes first, or it might be the one that migrates.
    _wait(
        lambda: any(
            "no-such-instance" in call.read_text()
            for call in set(aws.state.calls.iterdir()) - earlier
        ),
        "the parameter's own event to find nothing",
    )
    aws.client("rds").create_db_instance(
        DBInstanceIdentifier=INSTANCE,
        Engine="postgres",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        DBName=DATABASE,
        MasterUsername="postgres",
        ManageMasterUserPassword=True,
        Tags=[{"Key": "day2", "Value": "enabled"}],
    )
    print(f"  rds create-db-instance {INSTANCE}, tagged day2=enabled")
    instance = workflow.wait_for_instance(aws, INSTANCE)
    endpoint = f"{instance['Endpoint']['Address']}:{instance['Endpoint']['Port']}"
    _seen(f"PostgreSQL {instance['EngineVersion']} is available at {endpoint}")
    _wait_for_revision(aws, FIRST_TARGET)
    _check_trigger(aws, FIRST_TARGET, "instance")
    _seen(f"RDS-EVENT-0005 had it migrated to {FIRST_TARGET}")
    _show_logins(aws, instance)


def _the_parameter_is_bumped(aws: LocalAws, head: str) -> None:
    _title("2. The parameter is bumped")
    aws.client("ssm").put_parameter(Name=PARAMETER, Value=head, Overwrite=True)
    print(f"  ssm put-parameter {PARAMETER} = {head}")
    _wait_for_revision(aws, head)
    _check_trigger(aws, head, "parameter")
    _seen(f"Parameter Store Change rolled it forward to {head}")
    _show_logins(aws, workflow.wait_for_instance(aws, INSTANCE))


def _an_operator_invokes(aws: LocalAws, head: str) -> None:
    _title("3. An operator invokes")
    status = _invoke(aws, {"instance": INSTANCE, "action": "status"})
    if status["final_revision"] != head:
        raise LocalAwsError(f"status says {status['final_revision']}, not {head}")
    again = _invoke(aws, {"instance": INSTANCE, "target_revision": head})
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

    _wait(lambda: observed() == revision, f"{INSTANCE} at {revision}")


def _check_trigger(aws: LocalAws, revision: str, trigger: str) -> None:
    """Make sure that *revision* was applied for the reason that we are about to name."""
    call = stack.invoke(aws, {"instance": INSTANCE, "action": "status"})
    by = {row["revision"]: row["by"].split()[0] for row in call.response["body"]["history"]}
    if by.get(revision) != trigger:
        raise LocalAwsError(f"{revision} was applied by {by.get(revision)}, not by {trigger}")


def _show_logins(aws: LocalAws, instance: dict[str, Any]) -> None:
    """Print the roles that exist in the database now, as its master sees them."""
    secret = aws.client("secretsmanager").get_secret_value(
        SecretId=instance["MasterUserSecret"]["SecretArn"]
    )
    login = json.loads(secret["SecretString"])
    connection = psycopg2.connect(
        host=instance["Endpoint"]["Address"],
        port=instance["Endpoint"]["Port"],
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
