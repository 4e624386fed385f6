"""
The handler that most people would write first, to be measured against; copied into its function.

Three clients, ``alembic.command``, and Powertools with its tracer.
"""

import json
import os

import boto3
from alembic import command
from alembic.config import Config
from aws_lambda_powertools import Logger, Metrics, Tracer
from sqlalchemy import URL

logger = Logger(service="usual")
metrics = Metrics(namespace="usual", service="usual")
tracer = Tracer(service="usual")

secrets = boto3.client("secretsmanager")
ssm = boto3.client("ssm")
rds = boto3.client("rds")


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict, context: object) -> dict:  # noqa: ARG001 - Lambda's own signature
    """Bring the event's instance to the revision that its parameter names."""
    secret = json.loads(secrets.get_secret_value(SecretId=event["secret_name"])["SecretString"])
    found = rds.describe_db_instances(DBInstanceIdentifier=secret["dbInstanceIdentifier"])
    endpoint = found["DBInstances"][0]["Endpoint"]
    target = ssm.get_parameter(Name="/usual/target-revision")["Parameter"]["Value"]
    url = URL.create(
        "postgresql+psycopg2",
        username=secret["username"],
        password=secret["password"],
        host=endpoint["Address"],
        port=endpoint["Port"],
        database=secret["dbname"],
        query={"sslmode": "verify-full", "sslrootcert": os.environ["CA_FILE"]},
    )
    config = Config("alembic.ini")
    # ConfigParser takes a single % for an interpolation.
    text = url.render_as_string(hide_password=False).replace("%", "%%")
    config.set_main_option("sqlalchemy.url", text)
    command.upgrade(config, target)
    logger.info("migrated", extra={"target": target})
    metrics.add_metric("Migrations", unit="Count", value=1)
    return {"statusCode": 200, "body": {"success": True, "target": target}}
