"""Fuzz mobileconfig.read_profile: only our errors, and a signed profile holds what asn1crypto finds in it.

python tests/fuzz/fuzz_mobileconfig.py -runs=100000
"""

import plistlib

from asn1crypto import cms as asn1_cms
from harness import fuzz
from pki import issue, openssl_sign, rsa_key, to_indefinite

from ostiary.errors import OstiaryError
from ostiary.formats import mobileconfig

_SIGNER = issue("profile signer", key=rsa_key())
_PROFILE = mobileconfig.render_profile(
    {"PayloadType": "Configuration", "PayloadContent": [{"PayloadType": "com.apple.mdm"}]}
)
SEEDS = [
    _PROFILE,
    plistlib.dumps(plistlib.loads(_PROFILE), fmt=plistlib.FMT_BINARY),
    mobileconfig.sign_profile(_PROFILE, _SIGNER.der, _SIGNER.key, []),
    openssl_sign(_SIGNER, _PROFILE, "-nodetach", "-stream"),
    to_indefinite(openssl_sign(_SIGNER, _PROFILE, "-nodetach", "-noattr")),
]


def check(raw: bytes) -> None:
    """Compare what comes out with what others find inside."""
    try:
        fields = mobileconfig.read_profile(raw)
    except OstiaryError:
        return
    content = raw
    if raw.startswith(b"0"):
        content = asn1_cms.ContentInfo.load(raw)["content"]["encap_content_info"]["content"].native
    binary = content.startswith(b"bplist00")
    theirs = plistlib.loads(content, fmt=plistlib.FMT_BINARY if binary else plistlib.FMT_XML)
    if fields.keys() != theirs.keys():
        raise AssertionError("plistlib reads another profile")


if __name__ == "__main__":
    fuzz(check, SEEDS)
