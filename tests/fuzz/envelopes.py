"""Envelopes that share no code with ours: openssl closes most, asn1crypto builds what openssl cannot."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

OAEP = ("rsa_padding_mode:oaep",)
OAEP_SHA256 = (*OAEP, "rsa_oaep_md:sha256")


def openssl_envelope(
    content: bytes,
    *recipients: bytes,
    cipher: str = "-aes256",
    options: Sequence[str] = (),
    key_options: Sequence[str] = (),
) -> bytes:
    """`openssl cms -encrypt` to DER certificates: `-aes128` … `-des3`, `-aes-256-gcm`; `-keyid`, `-stream -indef`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "content").write_bytes(content)
        arguments: list[str] = []
        for number, recipient in enumerate(recipients):
            certificate = x509.load_der_x509_certificate(recipient)
            pem = certificate.public_bytes(serialization.Encoding.PEM)
            (Path(folder) / f"{number}.pem").write_bytes(pem)
            arguments += ["-recip", f"{number}.pem"]
            for option in key_options:
                arguments += ["-keyopt", option]
        subprocess.run(
            [
                *("openssl", "cms", "-encrypt", "-binary", "-in", "content"),
                *("-outform", "DER", "-out", "out", cipher, *options, *arguments),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        return (Path(folder) / "out").read_bytes()


def recipient_info(
    certificate: bytes,
    encrypted_key: bytes,
    *,
    issuer: asn1_x509.Name | None = None,
    algorithm: str = "rsaes_pkcs1v15",
) -> cms.RecipientInfo:
    """A recipient by issuer and serial number; `issuer` spells its name in another way."""
    parsed = asn1_x509.Certificate.load(certificate)
    name = cms.IssuerAndSerialNumber(
        {"issuer": issuer or parsed.issuer, "serial_number": parsed.serial_number}
    )
    return cms.RecipientInfo(
        "ktri",
        cms.KeyTransRecipientInfo(
            {
                "version": "v0",
                "rid": cms.RecipientIdentifier("issuer_and_serial_number", name),
                "key_encryption_algorithm": cms.KeyEncryptionAlgorithm({"algorithm": algorithm}),
                "encrypted_key": encrypted_key,
            }
        ),
    )


def gcm_envelope(
    content: bytes,
    certificate: bytes,
    *,
    key: bytes = b"k" * 32,
    nonce: bytes = b"n" * 12,
    tag_bytes: int = 16,
    attributes: int = 0,
    issuer: asn1_x509.Name | None = None,
) -> bytes:
    """An AuthEnvelopedData with so many authenticated attributes, whose SET OF is what gets authenticated."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    found = cms.CMSAttributes(
        [
            {"type": f"1.2.3.{number}", "values": [core.Integer(number)]}
            for number in range(attributes)
        ]
    )
    encryptor = Cipher(AES(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(found.dump() if attributes else b"")
    ciphertext = encryptor.update(content) + encryptor.finalize()
    parameters = core.Sequence(
        contents=core.OctetString(nonce).dump() + core.Integer(tag_bytes).dump()
    )
    body: dict[str, object] = {
        "version": "v0",
        "recipient_infos": [
            recipient_info(certificate, public.encrypt(key, padding.PKCS1v15()), issuer=issuer)
        ],
        "auth_encrypted_content_info": {
            "content_type": "data",
            "content_encryption_algorithm": algos.EncryptionAlgorithm(
                {"algorithm": f"aes{8 * len(key)}_gcm", "parameters": parameters}
            ),
            "encrypted_content": ciphertext,
        },
        "mac": encryptor.tag[:tag_bytes],
    }
    if attributes:
        body["auth_attrs"] = found
    encoded: bytes = cms.ContentInfo(
        {"content_type": "authenticated_enveloped_data", "content": cms.AuthEnvelopedData(body)}
    ).dump()
    return encoded
