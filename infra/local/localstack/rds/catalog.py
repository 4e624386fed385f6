"""
What RDS tells of the versions and classes of PostgreSQL that there are, as answers of its API.

Pure. The members are those of the RDS API Reference, "DescribeDBEngineVersions" and
"DescribeOrderableDBInstanceOptions"; what a page cannot hold comes with the next one, by a marker
that is the number of what has been told.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.local.localstack.rds.rules import CLASSES, ENGINE, STORAGE

LICENSE = "postgresql-license"
PAGE = 100


def engine_versions(
    request: Mapping[str, Any], versions: Sequence[str], usual: str
) -> dict[str, Any]:
    """Answer DescribeDBEngineVersions; *usual* is the one that is had without asking."""
    wanted, family = request.get("EngineVersion"), request.get("DBParameterGroupFamily")
    found = [
        one
        for one in versions
        if wanted in (None, one, _major(one)) and family in (None, _family(one))
    ]
    if request.get("DefaultOnly"):
        found = [usual] if usual in found else found[-1:]
    told, rest = _page(request, found)
    return {"DBEngineVersions": [_engine_version(one) for one in told]} | rest


def orderable_options(
    request: Mapping[str, Any], versions: Sequence[str], region: str
) -> dict[str, Any]:
    """Answer DescribeOrderableDBInstanceOptions."""
    wanted, kind = request.get("EngineVersion"), request.get("DBInstanceClass")
    license_model = request.get("LicenseModel")
    found = [
        (version, name, storage)
        for version in versions
        for name in CLASSES
        for storage in STORAGE
        if wanted in (None, version) and kind in (None, name) and license_model in (None, LICENSE)
    ]
    told, rest = _page(request, found)
    options = [_option(version, name, storage, region) for version, name, storage in told]
    return {"OrderableDBInstanceOptions": options} | rest


def _engine_version(version: str) -> dict[str, Any]:
    return {
        "Engine": ENGINE,
        "EngineVersion": version,
        "MajorEngineVersion": _major(version),
        "DBParameterGroupFamily": _family(version),
        "DBEngineDescription": "PostgreSQL",
        "DBEngineVersionDescription": f"PostgreSQL {version}",
        # No server here goes from one version to another.
        "ValidUpgradeTarget": [],
        "ExportableLogTypes": ["postgresql", "upgrade"],
        "SupportsLogExportsToCloudwatchLogs": True,
        "SupportsReadReplica": True,
        "SupportedFeatureNames": [],
        "Status": "available",
    }


def _option(version: str, name: str, storage: str, region: str) -> dict[str, Any]:
    has_iops = storage in ("io1", "io2", "gp3")
    return {
        "Engine": ENGINE,
        "EngineVersion": version,
        "DBInstanceClass": name,
        "LicenseModel": LICENSE,
        "StorageType": storage,
        "MinStorageSize": STORAGE[storage].start,
        "MaxStorageSize": STORAGE[storage].stop - 1,
        "AvailabilityZones": [{"Name": f"{region}{letter}"} for letter in "abc"],
        "MultiAZCapable": True,
        "ReadReplicaCapable": True,
        "Vpc": True,
        "SupportsStorageEncryption": True,
        "SupportsIops": has_iops,
        "SupportsEnhancedMonitoring": True,
        "SupportsIAMDatabaseAuthentication": True,
        "SupportsPerformanceInsights": True,
        "SupportsStorageAutoscaling": storage != "standard",
        "SupportedNetworkTypes": ["IPV4", "DUAL"],
    }


def _page(request: Mapping[str, Any], found: Sequence[Any]) -> tuple[Sequence[Any], dict[str, str]]:
    """Return what of *found* the answer holds, and the marker of what is left."""
    begin = int(request.get("Marker") or 0)
    end = begin + (request.get("MaxRecords") or PAGE)
    return found[begin:end], {"Marker": str(end)} if end < len(found) else {}


def _major(version: str) -> str:
    return version.partition(".")[0]


def _family(version: str) -> str:
    return f"{ENGINE}{_major(version)}"
