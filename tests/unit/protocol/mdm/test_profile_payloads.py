"""Which payloads of a profile no device under User Enrollment may take. (escrowed-secrets.md 4.3, 4.11)"""

import plistlib
from typing import Any

import pytest

from ostiary.protocol.mdm.commands import install_profile
from ostiary.protocol.mdm.profile_payloads import forbidden_to_own_devices

FILEVAULT = "com.apple.MCX.FileVault2"


def profile(content: Any, *, form: Any = plistlib.FMT_XML) -> bytes:
    return plistlib.dumps({"PayloadType": "Configuration", "PayloadContent": content}, fmt=form)


PLAIN = profile([{"PayloadType": FILEVAULT}])


@pytest.mark.parametrize(
    "written",
    [
        PLAIN,
        PLAIN.replace(b"FileVault2", b"File&#86;ault2"),
        PLAIN.replace(b"FileVault2", b"<![CDATA[FileVault2]]>"),
        PLAIN.replace(b"FileVault2", b"File<!-- no -->Vault2"),
        profile([{"PayloadType": FILEVAULT}], form=plistlib.FMT_BINARY),
        profile({"PayloadType": FILEVAULT}),
        profile({"disk": {"PayloadType": FILEVAULT}}),
    ],
    ids=["plain", "reference", "CDATA", "comment", "binary", "no array", "by name"],
)
def test_a_forbidden_payload_is_found_however_its_type_is_spelled(written: bytes) -> None:
    assert forbidden_to_own_devices(install_profile(written)) == {FILEVAULT}


@pytest.mark.parametrize(
    "written",
    [
        profile([{"PayloadType": "com.apple.wifi", "SSID": FILEVAULT}]),
        profile([{"PayloadType": "com.apple.wifi", "Note": {"PayloadType": FILEVAULT}}]),
        profile([FILEVAULT, {"PayloadType": 1}]),
        profile("text"),
        FILEVAULT.encode(),
        PLAIN + b"<",
    ],
    ids=["another key", "deeper", "no payloads", "text", "no profile", "damaged"],
)
def test_a_profile_that_only_speaks_of_one_or_cannot_be_read_is_the_devices_to_judge(
    written: bytes,
) -> None:
    assert forbidden_to_own_devices(install_profile(written)) == frozenset()


def test_other_commands_hold_no_payloads() -> None:
    assert forbidden_to_own_devices({"RequestType": "Settings", "Payload": PLAIN}) == frozenset()
