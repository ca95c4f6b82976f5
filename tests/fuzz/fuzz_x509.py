"""Fuzz x509.verify_chain: only our errors, and whatever we accept was really issued by the anchor.

python tests/fuzz/fuzz_x509.py -runs=100000
"""

from cryptography import x509 as library
from cryptography.x509.oid import ExtendedKeyUsageOID
from harness import fuzz
from pki import NOW, issue, rsa_key

from ostiary.errors import OstiaryError
from ostiary.formats import x509

_ROOT = issue("root", authority=True, key=rsa_key())
_MIDDLE = issue("middle", _ROOT, authority=True, path_length=0)
_CLIENT = library.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_NAMES = library.SubjectAlternativeName([library.DNSName("a.example"), library.RFC822Name("a@b.c")])
SEEDS = [
    issue("device", _ROOT, extensions=[(_CLIENT, True)], uid="uid").der,
    issue("device", _MIDDLE, extensions=[(_NAMES, False)]).der,
    issue("device", _MIDDLE, key=rsa_key(2)).der,
    _MIDDLE.der,
    issue("self-signed").der,
]
_ANCHORS = x509.TrustAnchors([_ROOT.der])
_AUTHORITIES = (_ROOT.certificate, _MIDDLE.certificate)


def check(raw: bytes) -> None:
    """Take the bytes as a device's certificate and, at the same time, as an intermediate."""
    try:
        chain = x509.verify_chain(raw, [raw, _MIDDLE.der], _ANCHORS, NOW)
    except OstiaryError:
        return
    certificate = library.load_der_x509_certificate(raw)
    issuer = next(one for one in _AUTHORITIES if one.subject == certificate.issuer)
    certificate.verify_directly_issued_by(issuer)
    if x509.not_after(raw) < NOW or chain.fingerprint != x509.fingerprint(raw):
        raise AssertionError("the proof says something else than the certificate")
    x509.subject_uid(raw)


if __name__ == "__main__":
    fuzz(check, SEEDS)
