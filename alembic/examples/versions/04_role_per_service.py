"""
A role per service with its own schema

Each service logs in as itself, acts as its role, and finds the schemas of the others closed.
Another service is another line. Going back keeps the schemas that are not empty.
"""

from core import operations

revision = "example_services"
down_revision = "example_monitoring"
branch_labels = None
depends_on = None

SERVICES = ("billing", "shipping")


def upgrade() -> None:
    for service in SERVICES:
        operations.role(f"{service}_role")
        operations.login(f"{service}_service", acts_as=f"{service}_role")
        operations.schema(service, owner=f"{service}_role")


def downgrade() -> None:
    for service in SERVICES:
        operations.drop_schema(service)
        operations.drop_login(f"{service}_service")
        operations.drop_role(f"{service}_role")
