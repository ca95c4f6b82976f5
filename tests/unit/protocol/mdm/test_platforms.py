"""What a device is, by what it calls itself."""

import pytest

from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.platforms import Chip, Platform, chip_of, platform_of, version_of


@pytest.mark.parametrize(
    ("facts", "platform"),
    [
        (DeviceFacts(product_name="iPhone15,2"), Platform.IOS),
        (DeviceFacts(product_name="iPod9,1"), Platform.IOS),
        (DeviceFacts(product_name="iPad13,1"), Platform.IPADOS),
        (DeviceFacts(product_name="MacBookPro16,1"), Platform.MACOS),
        (DeviceFacts(product_name="Mac14,2"), Platform.MACOS),
        (DeviceFacts(product_name="iMac21,1"), Platform.MACOS),
        (DeviceFacts(product_name="VirtualMac2,1"), Platform.MACOS),
        (DeviceFacts(product_name="AppleTV14,1"), Platform.TVOS),
        (DeviceFacts(product_name="Watch6,1"), Platform.WATCHOS),
        (DeviceFacts(product_name="RealityDevice14,1"), Platform.VISIONOS),
        (DeviceFacts(model="Macmini9,1"), Platform.MACOS),
        (DeviceFacts(model="MQ7F2LL", model_name="iPhone"), Platform.IOS),
        (DeviceFacts(model="MQ7F2LL", model_name="MacBook Air"), Platform.MACOS),
        (DeviceFacts(model_name="Apple TV"), Platform.TVOS),
        (DeviceFacts(product_name="Toaster1,1"), None),
        (DeviceFacts(), None),
    ],
)
def test_the_platform_is_read_from_product_model_or_model_name(
    facts: DeviceFacts, platform: Platform | None
) -> None:
    """check-in-and-commands.md 1.3.2: any of them may be absent."""
    assert platform_of(facts) is platform


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("17.4.1", (17, 4, 1)),
        ("10.15.7", (10, 15, 7)),
        ("26", (26,)),
        ("17.4.1 (a)", (17, 4, 1)),
        ("", None),
        ("beta", None),
        ("١٧", None),
        ("99999999999999999999", (99999,)),
    ],
)
def test_a_version_is_its_leading_numbers(said: str, version: tuple[int, ...] | None) -> None:
    assert version_of(DeviceFacts(os_version=said)) == version


@pytest.mark.parametrize(
    ("product", "os_version", "chip"),
    [
        ("Mac14,2", "15.1", Chip.APPLE_SILICON),
        ("MacBookPro17,1", "11.5", Chip.APPLE_SILICON),
        ("MacBookPro18,3", None, Chip.APPLE_SILICON),
        ("Macmini9,1", None, Chip.APPLE_SILICON),
        ("VirtualMac2,1", "15.0", Chip.APPLE_SILICON),
        ("MacBookPro16,1", "13.0", Chip.INTEL),
        ("Macmini8,1", "13.0", Chip.INTEL),
        ("MacPro7,1", "14.0", Chip.INTEL),
        ("iMacPro1,1", "14.0", Chip.INTEL),
        ("MacSomething1,1", "14.0", None),
        ("MacSomething1,1", "10.15.7", Chip.INTEL),
        ("iPad13,1", "18.1", None),
    ],
)
def test_a_mac_s_processor_is_known_by_its_identifier(
    product: str, os_version: str | None, chip: Chip | None
) -> None:
    """Recovery Lock and firmware password part here. (escrowed-secrets.md 4.4, 4.5)"""
    assert chip_of(DeviceFacts(product_name=product, os_version=os_version)) is chip
