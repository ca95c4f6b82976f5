"""Push certificates and vendor-signed requests. Source: check-in-and-commands.md 5.6, 5.7."""

import base64
import plistlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from ostiary_sim.apns import PushAuthority
from ostiary_sim.apns.certificates import topic_of
from ostiary_sim.errors import MessageUnreadable
from ostiary_sim.identity import new_rsa_key


def request_der() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "customer")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = builder.sign(new_rsa_key(2048), hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


def test_a_push_certificate_names_its_topic_twice(push_authority: PushAuthority) -> None:
    made = push_authority.issue_push_certificate()
    assert topic_of(made.certificate) == made.topic
    uuid = made.topic.removeprefix("com.apple.mgmt.External.")
    (name,) = made.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == f"APSP:{uuid}"
    made.certificate.verify_directly_issued_by(push_authority.root.certificate)


def test_renewing_keeps_the_topic_and_creating_does_not(push_authority: PushAuthority) -> None:
    first = push_authority.issue_push_certificate()
    renewed = push_authority.issue_push_certificate(topic=first.topic)
    assert renewed.topic == first.topic
    assert renewed.certificate != first.certificate
    assert push_authority.issue_push_certificate().topic != first.topic


def test_a_vendor_signed_request_becomes_a_certificate_for_the_customers_key(
    push_authority: PushAuthority,
) -> None:
    der = request_der()
    made = push_authority.accept_signed_request(push_authority.sign_as_vendor(der))
    assert made.certificate.public_key() == x509.load_der_x509_csr(der).public_key()
    assert made.key is None


def test_a_request_with_a_wrong_signature_or_vendor_is_refused(
    push_authority: PushAuthority,
) -> None:
    document = plistlib.loads(base64.b64decode(push_authority.sign_as_vendor(request_der())))
    document["PushCertRequestCSR"] = base64.b64encode(request_der()).decode()
    with pytest.raises(MessageUnreadable):
        push_authority.accept_signed_request(base64.b64encode(plistlib.dumps(document)))
    with pytest.raises(MessageUnreadable):
        push_authority.accept_signed_request(b"nonsense")
    stranger = PushAuthority.create().sign_as_vendor(request_der())
    with pytest.raises(MessageUnreadable):
        push_authority.accept_signed_request(stranger)


def test_an_authority_is_the_same_after_a_restart(tmp_path: Path) -> None:
    first = PushAuthority.open(tmp_path)
    assert PushAuthority.open(tmp_path).root.certificate == first.root.certificate
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o077 == 0
