"""LocalStack's own S3, but for where it keeps objects: in our state folder, not in a fixed one."""

import os
from pathlib import Path

from localstack.services.plugins import Service, aws_provider


@aws_provider(api="s3", name="day2")
def s3() -> Service:
    """Return the service; ``PROVIDER_OVERRIDE_S3`` chooses it."""
    # As LocalStack itself does, since loading them takes a second.
    from localstack.services.s3.provider import S3Provider
    from localstack.services.s3.storage.ephemeral import EphemeralS3ObjectStore

    objects = Path(os.environ["TMPDIR"]) / "s3"
    objects.mkdir(mode=0o700, exist_ok=True)
    return Service.for_provider(S3Provider(EphemeralS3ObjectStore(str(objects))))
