"""The device CA: the authority that issues device identities, and nothing else."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ostiary.keys.file import KeyFileDamaged, KeyFileExists, write_key_file
from ostiary.keys.signer import FileSigner, encode_private_key, load_private_key
from ostiary.ports.signer import IssuingAuthority

KEY_BITS: Final = 3072
"""RSA, because a SCEP client encrypts its request to the CA's key, and SCEP knows no other way."""
VALID_FOR: Final = timedelta(days=20 * 365)
"""Devices need no copy of this certificate, but replacing it means renewing every identity: so, seldom."""
BACK_DATED: Final = timedelta(days=1)


def create_device_authority(
    certificate_path: Path, key_path: Path, *, now: datetime
) -> IssuingAuthority:
    """A new device CA, its key (0600) and certificate on disk.

    The CA signs and decrypts SCEP messages itself, without a registration authority: one certificate
    for GetCACert. Its name carries random digits, so that two installations' chains are never confused.

    Raises:
        KeyFileExists: there is one already; it is never overwritten.
    """
    if certificate_path.exists():
        raise KeyFileExists(path=certificate_path)
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Ostiary Device CA {os.urandom(4).hex()}")]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_key_file(key_path, encode_private_key(key))
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return _authority(certificate, FileSigner(key))


def open_device_authority(certificate_path: Path, key_path: Path) -> IssuingAuthority:
    """The device CA of this installation.

    Raises:
        KeyFileMissing, KeyFileExposed: as keys.file has it.
        KeyFileDamaged: no CA certificate, or certificate and key do not belong together.
    """
    signer = FileSigner(load_private_key(key_path))
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (OSError, ValueError):
        raise KeyFileDamaged(path=certificate_path) from None
    if certificate.public_key() != signer.public_key:
        raise KeyFileDamaged("certificate and key do not belong together", path=certificate_path)
    return _authority(certificate, signer)


def _authority(certificate: x509.Certificate, signer: FileSigner) -> IssuingAuthority:
    return IssuingAuthority(
        certificate=certificate.public_bytes(serialization.Encoding.DER),
        signer=signer,
        decrypter=signer,
    )


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
