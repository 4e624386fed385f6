"""The root certificates that the function trusts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.rds_ca import BUNDLE, certificates, is_rds_root, name, render, trusted

TODAY = datetime(2026, 11, 22, tzinfo=UTC)


def certificate(
    common_name: str = "Amazon RDS test Root CA",
    *,
    unit: str = "Amazon RDS",
    ca: bool = True,
    self_signed: bool = True,
    until: datetime = TODAY + timedelta(days=1),
) -> x509.Certificate:
    """Make a certificate that is a root of RDS but for what the arguments say."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(TODAY - timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key if self_signed else ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )


def test_the_bundle_holds_roots_of_amazon_rds_and_nothing_else() -> None:
    """Each certificate of the file is a CA that signed itself, with an Amazon RDS subject."""
    roots = certificates(BUNDLE.read_bytes())

    assert len(roots) == BUNDLE.read_bytes().count(b"BEGIN CERTIFICATE")
    assert [name(root) for root in roots if not is_rds_root(root)] == []


def test_the_bundle_is_what_its_roots_render_to() -> None:
    """The file is in order, without doubles, and none of it had expired when it was written."""
    content = BUNDLE.read_bytes()

    assert render(trusted(certificates(content), TODAY)) == content


@pytest.mark.parametrize("kind", ["RSA2048", "RSA4096", "ECC384"])
def test_every_kind_of_root_is_there_for_a_large_region(kind: str) -> None:
    """RDS lets an instance choose among three kinds of certificate."""
    names = {name(root) for root in certificates(BUNDLE.read_bytes())}

    assert f"Amazon RDS us-east-1 Root CA {kind} G1" in names


@pytest.mark.parametrize(
    "refused",
    [
        certificate(ca=False),
        certificate(self_signed=False),
        certificate(unit="Somebody else"),
        certificate(until=TODAY),
    ],
    ids=["no CA", "signed by another", "another unit", "expired"],
)
def test_what_is_no_root_of_rds_today_is_left_out(refused: x509.Certificate) -> None:
    """A refresh keeps what it knows to be right, whatever else the source holds."""
    root = certificate()

    assert trusted([refused, root, root], TODAY) == [root]
