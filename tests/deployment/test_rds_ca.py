"""The root certificates that the function trusts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.rds_ca import (
    BUNDLE,
    TRUST_STORES,
    certificates,
    compare,
    is_rds_root,
    main,
    name,
    partition,
    regions,
    render,
    require,
    trusted,
)

TODAY = datetime.now(UTC)
WRITTEN = datetime(2026, 11, 22, tzinfo=UTC)


def certificate(
    common_name: str = "Amazon RDS eu-west-1 Root CA ECC384 G1",
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

    assert render(trusted(certificates(content), WRITTEN)) == content


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
        certificate("Amazon RDS Beta us-east-1 Root CA ECC384 G1"),
        certificate("Amazon RDS Preview us-east-2 Root CA ECC384 G1"),
        certificate("Amazon RDS eu-west-1 Subordinate CA ECC384 G1"),
        certificate(until=TODAY),
    ],
    ids=["no CA", "signed by another", "another unit", "beta", "preview", "subordinate", "expired"],
)
def test_what_is_no_root_of_rds_today_is_left_out(refused: x509.Certificate) -> None:
    """A refresh keeps what it knows to be right, whatever else the source holds."""
    root = certificate()

    assert trusted([refused, root, root], TODAY) == [root]


IRELAND = certificate()
ISRAEL = certificate("Amazon RDS il-central-1 Root CA ECC384 G1")
BEIJING = certificate("Amazon RDS cn-north-1 Root CA ECC384 G1")


class _Store(BaseHTTPRequestHandler):
    """Answers with what the path names: the roots of the world, a page, or nothing."""

    def do_GET(self) -> None:
        """Answer one request."""
        pages = {"/aws": render([IRELAND, ISRAEL]), "/portal": b"<html>please log in</html>"}
        page = pages.get(self.path)
        self.send_response(503 if page is None else 200)
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a trust store."""
    server = HTTPServer(("127.0.0.1", 0), _Store)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle that knows Ireland and Beijing."""
    file = tmp_path / "bundle.pem"
    file.write_bytes(render([IRELAND, BEIJING]))
    return file


@pytest.mark.parametrize(
    ("region_name", "expected"),
    [
        ("us-east-1", "aws"),
        ("us-gov-east-1", "aws-us-gov"),
        ("cn-northwest-1", "aws-cn"),
        ("il-central-1", "aws"),
    ],
)
def test_a_region_has_the_trust_store_of_its_partition(region_name: str, expected: str) -> None:
    """Each partition has its own."""
    assert partition(region_name) == expected
    assert TRUST_STORES[expected].startswith("https://")


def test_a_package_is_compared_with_the_trust_store(address: str, bundle: Path) -> None:
    """It names what is missing and the way, or why nobody knows; a package is built in any case."""
    store = {"aws": f"{address}/aws"}

    said = compare("us-east-1", bundle, store)
    bundle.write_bytes(render([IRELAND, ISRAEL]))
    afterwards = compare(None, bundle, store)
    silent = compare("us-east-1", bundle, {"aws": f"{address}/nothing"})
    nowhere = compare("us-east-1", bundle, {"aws": "http://127.0.0.1:1/"})

    assert "lacks roots of aws's trust store, for il-central-1: make refresh-ca" in said
    assert "has all 2 roots" in afterwards
    assert "not compared" in silent
    assert "503" in silent
    assert "not compared" in nowhere


def test_no_deployment_to_a_region_that_no_root_is_known_of(bundle: Path) -> None:
    """Every run there would end in UNTRUSTED_SERVER."""
    require("eu-west-1", bundle)
    require("us-east-1")

    with pytest.raises(SystemExit, match=r"no root .* in il-central-1.*make refresh-ca"):
        require("il-central-1", bundle)
    with pytest.raises(SystemExit, match="set AWS_REGION"):
        require(None, bundle)


def test_a_package_needs_no_shell_of_aws(
    address: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile that is not there leaves the region unknown, for which a deployment asks."""
    monkeypatch.setenv("AWS_PROFILE", "not-there")

    assert main(["--compare"], bundle=bundle, stores={"aws": f"{address}/aws"}) == 0
    assert "not-there" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="set AWS_REGION"):
        main(["--require"], bundle=bundle)
    with pytest.raises(SystemExit, match=r"^--from /nowhere: No such file"):
        main(["--from", "/nowhere"], bundle=bundle)


def test_a_refresh_keeps_what_a_silent_store_had(
    address: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One partition's trust store cannot be reached from everywhere, and a portal is none."""
    stores = {"aws": f"{address}/aws", "aws-cn": f"{address}/portal"}

    assert main([], bundle=bundle, stores=stores) == 0

    assert regions(bundle) == {"eu-west-1", "il-central-1", "cn-north-1"}
    told = capsys.readouterr()
    assert "new: Amazon RDS il-central-1 Root CA ECC384 G1" in told.out
    assert "the trust store of aws-cn gave: an answer without a root" in told.err


def test_a_refresh_that_nobody_answers_changes_nothing(address: str, bundle: Path) -> None:
    """And says so by its status."""
    before = bundle.read_bytes()

    assert main([], bundle=bundle, stores={"aws": f"{address}/portal"}) == 1
    assert bundle.read_bytes() == before


def test_a_file_takes_the_place_of_the_trust_stores(tmp_path: Path, bundle: Path) -> None:
    """Where there is no network; a file without roots changes nothing."""
    file = tmp_path / "from.pem"
    file.write_bytes(render([IRELAND, ISRAEL]))
    assert main(["--from", str(file)], bundle=bundle) == 0
    assert regions(bundle) == {"eu-west-1", "il-central-1"}

    file.write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="left as it was"):
        main(["--from", str(file)], bundle=bundle)
    assert regions(bundle) == {"eu-west-1", "il-central-1"}
