"""
Certificates of a CA of our own: what the local instances show, and wrong ones for tests.

Made to satisfy ``VERIFY_X509_STRICT`` (Python 3.13's default): key usages and key identifiers.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# The last is where the readers of a cluster are.
LOCAL_NAMES = ("localhost", "127.0.0.1", "127.0.0.2")
LIFETIME = dt.timedelta(days=365)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both into *folder* and return the two files, certificate first."""
        certificate_file, key_file = folder / "server.crt", folder / "server.key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(self.key)
        certificate_file.write_bytes(self.certificate)
        return certificate_file, key_file

    def covers(self, names: Sequence[str]) -> bool:
        """Tell whether the certificate is for each of *names*."""
        certificate = x509.load_pem_x509_certificate(self.certificate)
        of = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return all(_general_name(name) in of for name in names)

    def expires_within(self, time: dt.timedelta) -> bool:
        """Tell whether the certificate ends sooner than *time* from now."""
        end = x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc
        return end < dt.datetime.now(dt.UTC) + time


@dataclass(frozen=True)
class Authority:
    """A certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str = "day2 local CA") -> "Authority":
        """Make a new authority with a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key, key, LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @property
    def pem(self) -> bytes:
        """The authority's own certificate, for clients to trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, names: Sequence[str] = LOCAL_NAMES, *, lifetime: dt.timedelta = LIFETIME
    ) -> Certificate:
        """Issue a server certificate for *names*; a negative *lifetime* gives an expired one."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = (
            _builder(subject, self.certificate.subject, key, self.key, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return Certificate(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def ensure(folder: Path) -> Certificate:
    """
    Return the server certificate kept in *folder*, with its CA's in ``ca.pem``, made when missing.

    The CA's key is thrown away: nobody can issue another certificate that our clients trust.
    """
    ca_file, certificate_file, key_file = (
        folder / name for name in ("ca.pem", "server.crt", "server.key")
    )
    if ca_file.exists() and certificate_file.exists() and key_file.exists():
        kept = Certificate(certificate_file.read_bytes(), key_file.read_bytes())
        if kept.covers(LOCAL_NAMES) and not kept.expires_within(dt.timedelta(days=1)):
            return kept
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    authority = Authority.create()
    made = authority.issue()
    made.write(folder)
    ca_file.write_bytes(authority.pem)
    return made


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    lifetime: dt.timedelta,
) -> x509.CertificateBuilder:
    """Return what certificates of an authority and of a server have in common."""
    now = dt.datetime.now(dt.UTC)
    end = now + lifetime
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day early, for clocks that differ.
        .not_valid_before(min(now, end) - dt.timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
