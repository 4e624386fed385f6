"""
The root certificates of Amazon RDS: which ones we trust, and the file that holds them.

``core/rds-ca-bundle.pem`` is part of the function's package. This module rewrites it, from AWS's
own trust store or from any file of PEM certificates, and keeps only what is a root of RDS today.
"""

from __future__ import annotations

import argparse
import re
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

# Published in the RDS User Guide, "Using SSL/TLS to encrypt a connection to a DB instance".
TRUST_STORE = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
BUNDLE = Path(__file__).parents[1] / "core" / "rds-ca-bundle.pem"

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def certificates(pem: bytes) -> list[x509.Certificate]:
    """Read every certificate of *pem*, whatever stands between them."""
    return [x509.load_pem_x509_certificate(block) for block in _PEM.findall(pem)]


def name(certificate: x509.Certificate) -> str:
    """Return the subject's common name, such as ``Amazon RDS eu-west-1 Root CA RSA2048 G1``."""
    (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common_name.value)


def is_rds_root(certificate: x509.Certificate) -> bool:
    """Tell whether *certificate* is a CA of Amazon RDS that signed itself."""
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if [unit.value for unit in units] != ["Amazon RDS"]:
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


def main() -> None:
    """Rewrite the bundle, and say what came and what went."""
    parser = argparse.ArgumentParser(description="Refresh core/rds-ca-bundle.pem.")
    parser.add_argument(
        "--from", dest="source", type=Path, help="a PEM file instead of AWS's trust store"
    )
    source: Path | None = parser.parse_args().source
    if source is None:
        with urllib.request.urlopen(TRUST_STORE, timeout=30) as answer:
            pem = answer.read()
    else:
        pem = source.read_bytes()

    roots = trusted(certificates(pem), datetime.now(UTC))
    if not roots:
        raise SystemExit("no root certificate of Amazon RDS in there: the bundle is left as it was")
    before = {name(root) for root in certificates(BUNDLE.read_bytes())}
    after = {name(root) for root in roots}
    BUNDLE.write_bytes(render(roots))
    for change, names in (("new", after - before), ("gone", before - after)):
        for root in sorted(names):
            print(f"{change}: {root}")
    print(f"{BUNDLE.name}: {len(roots)} root certificates")


if __name__ == "__main__":
    main()
