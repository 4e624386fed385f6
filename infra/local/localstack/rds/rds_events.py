"""
What RDS tells on the bus, in its own words.

Identifiers, categories and messages are those of the RDS User Guide and the Aurora User Guide,
"Amazon RDS event categories and event messages".
"""

import datetime as dt
import json
from dataclasses import dataclass, replace
from typing import Any

from localstack.aws.connect import connect_to


@dataclass(frozen=True)
class Kind:
    """What an event is about: its detail-type, and the type of its source."""

    detail_type: str
    source_type: str


INSTANCE = Kind("RDS DB Instance Event", "DB_INSTANCE")
CLUSTER = Kind("RDS DB Cluster Event", "CLUSTER")
DEPLOYMENT = Kind("RDS Blue Green Deployment Event", "BLUE_GREEN_DEPLOYMENT")


@dataclass(frozen=True)
class Event:
    """One event: *message* may have fields that :meth:`about` fills."""

    id: str
    category: str
    message: str
    kind: Kind = INSTANCE

    def about(self, *names: str) -> "Event":
        """Return it with *names* in its message."""
        return replace(self, message=self.message.format(*names))


CREATED = Event("RDS-EVENT-0005", "creation", "DB instance created")
DELETED = Event("RDS-EVENT-0003", "deletion", "DB instance deleted")
RESTARTED = Event("RDS-EVENT-0006", "availability", "DB instance restarted")
NEW_PASSWORD = Event("RDS-EVENT-0016", "configuration change", "Reset master credentials")
RESTORED_TO_TIME = Event("RDS-EVENT-0019", "restoration", "Restored from DB instance")
RESTORED = Event("RDS-EVENT-0043", "restoration", "Restored from snapshot")
STOPPED = Event("RDS-EVENT-0087", "notification", "DB instance stopped")
STARTED = Event("RDS-EVENT-0088", "notification", "DB instance started")

CLUSTER_CREATED = Event("RDS-EVENT-0170", "creation", "DB cluster created", CLUSTER)
CLUSTER_DELETED = Event("RDS-EVENT-0171", "deletion", "DB cluster deleted", CLUSTER)
CLUSTER_STOPPED = Event("RDS-EVENT-0150", "notification", "DB cluster stopped", CLUSTER)
CLUSTER_STARTED = Event("RDS-EVENT-0151", "notification", "DB cluster started", CLUSTER)
CLUSTER_RENAMED = Event("RDS-EVENT-0172", "notification", "Renamed cluster from {} to {}", CLUSTER)
CLUSTER_NEW_PASSWORD = Event(
    "RDS-EVENT-0016", "configuration change", "Reset master credentials", CLUSTER
)
FAILOVER_STARTED = Event(
    "RDS-EVENT-0073", "failover", "Started cross AZ failover to DB instance: {}", CLUSTER
)
FAILOVER_COMPLETED = Event(
    "RDS-EVENT-0071", "failover", "Completed failover to DB instance: {}", CLUSTER
)

# Each is told of the member, in two categories.
PAUSED = Event("RDS-EVENT-0372", "notification, serverless", "Successfully paused the DB instance")
RESUMED = Event(
    "RDS-EVENT-0374", "notification, serverless", "Successfully resumed the DB instance"
)

DEPLOYMENT_READY = Event(
    "RDS-EVENT-0244",
    "creation",
    "Blue/green deployment tasks completed. You can make more modifications to the green "
    "environment databases or switch over the deployment.",
    DEPLOYMENT,
)
DEPLOYMENT_DELETED = Event(
    "RDS-EVENT-0246", "deletion", "Blue/green deployment deleted.", DEPLOYMENT
)
SWITCHOVER_STARTED = Event(
    "RDS-EVENT-0247", "notification", "Switchover from {} to {} started.", DEPLOYMENT
)
SWITCHOVER_COMPLETED = Event(
    "RDS-EVENT-0248", "notification", "Switchover completed on blue/green deployment.", DEPLOYMENT
)


def put(resource: Any, event: Event) -> None:
    """Put *event* about moto's *resource* on its account's default bus, as RDS does."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    detail = {
        "EventCategories": event.category.split(", "),
        "SourceType": event.kind.source_type,
        "SourceArn": resource.arn,
        "Date": now.replace("+00:00", "Z"),
        "Message": event.message,
        "SourceIdentifier": resource.resource_id,
        "EventID": event.id,
    }
    entry = {
        "Source": "aws.rds",
        "DetailType": event.kind.detail_type,
        "Resources": [resource.arn],
        "Detail": json.dumps(detail),
    }
    bus = connect_to(aws_access_key_id=resource.account_id, region_name=resource.region).events
    bus.put_events(Entries=[entry])
