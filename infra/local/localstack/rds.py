"""
The RDS API, which LocalStack's open edition lacks.

moto answers every operation of it, after RDS's own rules have been asked, but for those that tell
which versions there are.
"""

from typing import Any

from localstack.aws.api import CommonServiceException, RequestContext
from localstack.aws.spec import load_service
from localstack.services.moto import call_moto
from localstack.services.plugins import Service, aws_provider

from infra.local import engine_versions, rds_catalog, rds_rules
from infra.local.localstack import clusters, deployments, instances


class RdsProvider:
    """Names the service for LocalStack."""

    service = "rds"
    version = "2014-10-31"


@aws_provider(api="rds")
def rds() -> Service:
    """Return the service, once its instances have servers behind them."""
    instances.put_servers_behind_moto()
    clusters.put_servers_behind_clusters()
    deployments.put_servers_behind_deployments()

    def dispatch_table(_provider: RdsProvider) -> dict[str, Any]:
        def answer(context: RequestContext, request: Any) -> Any:
            try:
                rds_rules.check(context.operation.name, request)
            except rds_rules.RefusedError as error:
                raise CommonServiceException(error.code, str(error), 400, True) from error
            return call_moto(context)

        def engine_versions_of(context: RequestContext, request: Any) -> Any:
            if request.get("Engine", rds_rules.ENGINE) != rds_rules.ENGINE:
                return call_moto(context)
            versions = [offer.version for offer in engine_versions.offers()]
            return rds_catalog.engine_versions(request, versions, engine_versions.usual_version())

        def orderable_options(context: RequestContext, request: Any) -> Any:
            if request["Engine"] != rds_rules.ENGINE:
                return call_moto(context)
            versions = [offer.version for offer in engine_versions.offers()]
            return rds_catalog.orderable_options(request, versions, context.region)

        return dict.fromkeys(load_service("rds").operation_names, answer) | {
            "DescribeDBEngineVersions": engine_versions_of,
            "DescribeOrderableDBInstanceOptions": orderable_options,
        }

    return Service.for_provider(RdsProvider(), dispatch_table_factory=dispatch_table)
