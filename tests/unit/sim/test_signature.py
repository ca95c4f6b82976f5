"""Mdm-Signature in all its forms, checked by openssl as a stranger. Source: check-in-and-commands.md 3.8."""

import subprocess
from base64 import b64decode
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ostiary_sim.cms import verify_signed
from ostiary_sim.errors import MessageUnreadable
from ostiary_sim.identity import Identity, new_rsa_key, self_signed
from ostiary_sim.signature import SignatureForm, render_header, sign_body
from unit.sim.fake_mdm import NOW

BODY = b"<plist>\r\n a body \x00 of bytes</plist>"
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a device")])
SIGNING_TIME = "1.2.840.113549.1.9.5"


@pytest.fixture(scope="module", params=["rsa", "ec"])
def identity(request: pytest.FixtureRequest) -> Identity:
    if request.param == "rsa":
        return self_signed(new_rsa_key(2048), NAME, NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return Identity(key=key, certificate=certificate)


@pytest.mark.parametrize("form", list(SignatureForm))
def test_openssl_accepts_every_form(
    tmp_path: Path, identity: Identity, form: SignatureForm
) -> None:
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "signature").write_bytes(sign_body(BODY, identity, form, NOW))
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-noverify"]
    files = ["-in", str(tmp_path / "signature"), "-content", str(tmp_path / "body")]
    done = subprocess.run([*command, *files], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == BODY


@pytest.mark.parametrize("form", list(SignatureForm))
def test_only_forms_with_attributes_have_a_signing_time(
    identity: Identity, form: SignatureForm
) -> None:
    header = render_header(BODY, identity, form, NOW)
    signed = verify_signed(b64decode(header, validate=True), BODY)
    assert signed.signer == identity.certificate
    assert (SIGNING_TIME in signed.attributes) is form.has_attributes
    with pytest.raises(MessageUnreadable):
        verify_signed(b64decode(header), BODY + b" ")


def test_the_indefinite_form_is_ber_and_not_der(identity: Identity) -> None:
    message = sign_body(BODY, identity, SignatureForm.INDEFINITE_SHA256, NOW)
    assert message[:2] == b"\x30\x80"
    assert message.endswith(b"\x00" * 6)
