"""
The root certificates of Amazon RDS: which ones we trust, and the file that holds them.

    python -m infra.rds_ca [--from FILE | --compare | --require]

``core/rds-ca-bundle.pem`` is part of the function's package. This module rewrites it, from AWS's
own trust stores or from any file of PEM certificates, and keeps only what is a root of RDS today.
"""

from __future__ import annotations

import argparse
import http.client
import re
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

# Published in the RDS User Guide, "Using SSL/TLS to encrypt a connection to a DB instance", each
# in the edition of its partition.
TRUST_STORES = {
    "aws": "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
    "aws-us-gov": "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem",
    "aws-cn": "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/global/global-bundle.pem",
}
BUNDLE = Path(__file__).parents[1] / "core" / "rds-ca-bundle.pem"
ANSWER_SECONDS = 10

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Not "Beta" or "Preview": no instance of anybody's has a certificate of theirs.
_NAME = re.compile(r"Amazon RDS ([a-z]{2,3}(?:-[a-z]+)+-\d+) Root CA \w+ G\d+")


def certificates(pem: bytes) -> list[x509.Certificate]:
    """Read every certificate of *pem*, whatever stands between them."""
    return [x509.load_pem_x509_certificate(block) for block in _PEM.findall(pem)]


def name(certificate: x509.Certificate) -> str:
    """Return the subject's common name, such as ``Amazon RDS eu-west-1 Root CA RSA2048 G1``."""
    (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common_name.value)


def region(certificate: x509.Certificate) -> str | None:
    """Return the region that the subject's name is about; None where it is about none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    found = _NAME.fullmatch(str(names[0].value)) if len(names) == 1 else None
    return found[1] if found else None


def partition(region_name: str) -> str:
    """Return the partition of a region, of those whose trust store we know."""
    prefixes = {"us-gov-": "aws-us-gov", "cn-": "aws-cn"}
    return next((it for prefix, it in prefixes.items() if region_name.startswith(prefix)), "aws")


def is_rds_root(certificate: x509.Certificate) -> bool:
    """Tell whether *certificate* is the CA of Amazon RDS in a region, and signed itself."""
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if [unit.value for unit in units] != ["Amazon RDS"] or region(certificate) is None:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (ValueError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return constraints.value.ca


def trusted(candidates: Iterable[x509.Certificate], today: datetime) -> list[x509.Certificate]:
    """
    Return the roots of RDS among *candidates* that are valid *today*, each once, in a fixed order.

    An intermediate would be an anchor as well (libpq accepts partial chains in recent releases),
    and an expired root says nothing: neither belongs in the file.
    """
    by_fingerprint = {
        certificate.fingerprint(hashes.SHA256()): certificate
        for certificate in candidates
        if is_rds_root(certificate)
        and certificate.not_valid_before_utc <= today < certificate.not_valid_after_utc
    }
    order = sorted(by_fingerprint, key=lambda digest: (name(by_fingerprint[digest]), digest))
    return [by_fingerprint[digest] for digest in order]


def render(roots: Iterable[x509.Certificate]) -> bytes:
    """Write each certificate under a line that names it, for the reader of a diff."""
    return b"\n".join(
        f"# {name(root)}, until {root.not_valid_after_utc:%Y-%m-%d}\n".encode()
        + root.public_bytes(Encoding.PEM)
        for root in roots
    )


def ask(store: str) -> list[x509.Certificate]:
    """
    Return the roots of RDS in the trust store at the URL *store*, valid today.

    Raises:
        OSError: It does not answer, or with something else.
    """
    try:
        with urllib.request.urlopen(store, timeout=ANSWER_SECONDS) as answer:  # noqa: S310  ours
            roots = trusted(certificates(answer.read()), datetime.now(UTC))
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"an answer that cannot be read ({error!r})") from error
    if not roots:
        raise OSError("an answer without a root certificate of Amazon RDS")
    return roots


def regions(bundle: Path = BUNDLE) -> set[str]:
    """Return the regions that *bundle* has a root of."""
    return {found for root in certificates(bundle.read_bytes()) if (found := region(root))}


def compare(
    region_name: str | None,
    bundle: Path = BUNDLE,
    stores: Mapping[str, str] = TRUST_STORES,
) -> str:
    """Say what the trust store of the region's partition has that *bundle* does not, if it can."""
    name = partition(region_name or "")
    try:
        roots = ask(stores[name])
    except OSError as error:
        return f"{bundle.name}: not compared with {name}'s trust store, which gave: {error}"
    held = set(certificates(bundle.read_bytes()))
    lacking = sorted({it for root in roots if root not in held and (it := region(root))})
    if not lacking:
        return f"{bundle.name} has all {len(roots)} roots of {name}'s trust store"
    return (
        f"{bundle.name} lacks roots of {name}'s trust store, for {', '.join(lacking)}: "
        "make refresh-ca, and review the change"
    )


def require(region_name: str | None, bundle: Path = BUNDLE) -> None:
    """
    Check that a function in this region can verify the instances there.

    Raises:
        SystemExit: It could not; the message says what to do.
    """
    if not region_name:
        raise SystemExit("no region is set: set AWS_REGION to where it is to be deployed")
    if region_name not in regions(bundle):
        raise SystemExit(
            f"core/{bundle.name} has no root certificate of Amazon RDS in {region_name}, so every "
            "run there would end in UNTRUSTED_SERVER: make refresh-ca where AWS's trust store can "
            "be reached, or python -m infra.rds_ca --from FILE with its certificates"
        )


def refreshed(
    before: list[x509.Certificate], stores: Mapping[str, str]
) -> tuple[list[x509.Certificate], dict[str, OSError]]:
    """
    Return the roots of all *stores*, and why some did not answer.

    What the bundle had *before* of the partition of such a store is kept.
    """
    found: list[x509.Certificate] = []
    silent: dict[str, OSError] = {}
    for name, store in stores.items():
        try:
            found += ask(store)
        except OSError as error:
            silent[name] = error
            found += [root for root in before if partition(region(root) or "") == name]
    return trusted(found, datetime.now(UTC)), silent


def write(roots: list[x509.Certificate], bundle: Path) -> None:
    """
    Write the *bundle*, and say what came and what went.

    Raises:
        SystemExit: There is nothing to write.
    """
    if not roots:
        raise SystemExit("no root certificate of Amazon RDS in there: the bundle is left as it was")
    before = {name(root) for root in certificates(bundle.read_bytes())}
    after = {name(root) for root in roots}
    bundle.write_bytes(render(roots))
    for change, names in (("new", after - before), ("gone", before - after)):
        for root in sorted(names):
            print(f"{change}: {root}")
    print(f"{bundle.name}: {len(roots)} root certificates")


def _shells_region() -> str | None:
    """Return the region that the shell is set for; none where its settings cannot be read."""
    try:
        region_name: str | None = boto3.session.Session().region_name
    except BotoCoreError as unread:
        print(f"the shell's region is not known: {unread}", file=sys.stderr)
        return None
    return region_name


def main(
    words: list[str], *, bundle: Path = BUNDLE, stores: Mapping[str, str] = TRUST_STORES
) -> int:
    """Rewrite the bundle, or see whether it will do; return 0 when it is as AWS has it."""
    parser = argparse.ArgumentParser(prog="python -m infra.rds_ca", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--from", dest="source", type=Path, help="a PEM file, not the trust stores")
    what.add_argument(
        "--compare", action="store_true", help="with the trust store of the shell's region"
    )
    what.add_argument("--require", action="store_true", help="a root of the shell's region")
    arguments = parser.parse_args(words)
    if arguments.compare:
        print(compare(_shells_region(), bundle, stores), file=sys.stderr)
    elif arguments.require:
        require(_shells_region(), bundle)
    elif arguments.source:
        try:
            found = certificates(arguments.source.read_bytes())
        except OSError as unread:
            raise SystemExit(f"--from {arguments.source}: {unread.strerror}") from None
        write(trusted(found, datetime.now(UTC)), bundle)
    else:
        roots, silent = refreshed(certificates(bundle.read_bytes()), stores)
        for store, error in silent.items():
            print(f"the trust store of {store} gave: {error}; its roots are kept", file=sys.stderr)
        if len(silent) == len(stores):
            return 1
        write(roots, bundle)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
