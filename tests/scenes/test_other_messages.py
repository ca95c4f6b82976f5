"""GetToken, DeclarativeManagement and ReturnToService while nobody has set a policy for them."""

import json

import pytest

from ostiary.domain.pairing import CertificateNotPaired, EnrollmentIsOut
from ostiary.errors import Malformed, Refused
from ostiary.protocol.mdm.checkin import UnknownMessageType
from ostiary.services.declarations import (
    DeclarationMissing,
    StatusReportUnreadable,
    UnknownEndpoint,
)
from ostiary.services.minted_tokens import (
    PairingIncomplete,
    TokenServiceNotSetUp,
    UnknownTokenService,
)
from ostiary.services.reply import Media, Reply
from scenes.house import IPHONE, MAC, House


@pytest.mark.case("CI-36")
async def test_an_unknown_token_service_is_malformed(house: House) -> None:
    """1.3.7 rule 2: 400."""
    phone = await house.enrolled(IPHONE)
    with pytest.raises(UnknownTokenService) as refused:
        await phone.send("GetToken", TokenServiceType="com.apple.unheard-of")
    assert isinstance(refused.value, Malformed)


@pytest.mark.case("CI-38")
@pytest.mark.parametrize("parameters", [None, {}, {"SecurityToken": "s", "PhoneUDID": "p"}])
async def test_a_watch_pairing_token_needs_all_three_parameters(
    house: House, parameters: dict[str, str] | None
) -> None:
    """1.3.7."""
    phone = await house.enrolled(IPHONE)
    with pytest.raises(Malformed):
        await phone.send(
            "GetToken", TokenServiceType="com.apple.watch.pairing", TokenParameters=parameters
        )
    assert issubclass(PairingIncomplete, Malformed)


@pytest.mark.parametrize(
    ("service", "parameters"),
    [
        ("com.apple.maid", None),
        ("com.apple.watch.pairing", {"SecurityToken": "s", "PhoneUDID": "p", "WatchUDID": "w"}),
    ],
)
async def test_a_token_that_nobody_set_up_is_refused_and_never_empty(
    house: House, service: str, parameters: dict[str, str] | None
) -> None:
    """1.3.7: TokenData is required, so an answer without one would be a lie. Served while pending, too (2.4 row 4)."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    with pytest.raises(TokenServiceNotSetUp):
        await phone.send("GetToken", TokenServiceType=service, TokenParameters=parameters)


@pytest.mark.case("DM-02")
async def test_the_empty_set_of_declarations_is_valid_and_consistent(house: House) -> None:
    """7.2: four arrays always present, the same token in both documents."""
    mac = await house.enrolled(MAC)
    tokens = await mac.send("DeclarativeManagement", Endpoint="tokens")
    items = await mac.send("DeclarativeManagement", Endpoint="declaration-items")
    assert isinstance(tokens, Reply)
    assert isinstance(items, Reply)
    assert tokens.media is items.media is Media.JSON
    sync, manifest = json.loads(tokens.body)["SyncTokens"], json.loads(items.body)
    assert sync["DeclarationsToken"] == manifest["DeclarationsToken"]
    assert manifest["Declarations"] == {
        "Activations": [],
        "Assets": [],
        "Configurations": [],
        "Management": [],
    }


@pytest.mark.case("DM-04")
async def test_a_declaration_that_is_not_there_is_missing(house: House) -> None:
    """7.2: 404, and the device removes its copy."""
    mac = await house.enrolled(MAC)
    with pytest.raises(DeclarationMissing):
        await mac.send("DeclarativeManagement", Endpoint="declaration/configuration/a/b")


@pytest.mark.parametrize(
    "endpoint", ["", "tokens/x", "declaration/unheard-of/x", "declaration/asset", "other"]
)
async def test_an_unknown_endpoint_is_malformed(house: House, endpoint: str) -> None:
    """7.2."""
    mac = await house.enrolled(MAC)
    with pytest.raises(UnknownEndpoint):
        await mac.send("DeclarativeManagement", Endpoint=endpoint)


@pytest.mark.parametrize("report", [None, b"", b"not json", b"[]", b"[" * 100_000])
async def test_a_status_report_that_is_no_json_object_is_malformed(
    house: House, report: bytes | None
) -> None:
    """7.4."""
    mac = await house.enrolled(MAC)
    with pytest.raises(StatusReportUnreadable):
        await mac.send("DeclarativeManagement", Endpoint="status", Data=report)
    assert (
        await mac.send("DeclarativeManagement", Endpoint="status", Data=b'{"StatusItems": {}}')
        is Reply.EMPTY
    )


async def test_declarative_management_begins_after_the_first_token_update(house: House) -> None:
    """2.4 row 4."""
    mac = house.device(MAC)
    await mac.authenticate()
    with pytest.raises(EnrollmentIsOut):
        await mac.send("DeclarativeManagement", Endpoint="tokens")


async def test_return_to_service_is_for_enrolled_devices(house: House) -> None:
    """1.3.8, 2.4 row 4; what an enrolled one is told is in test_return_to_service.py."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    with pytest.raises(EnrollmentIsOut):
        await phone.send("ReturnToService")


@pytest.mark.case("CI-22")
async def test_an_unknown_message_is_malformed(house: House) -> None:
    """1.2."""
    phone = await house.enrolled(IPHONE)
    with pytest.raises(UnknownMessageType):
        await phone.send("Unheard-of")


@pytest.mark.case("CI-20")
@pytest.mark.parametrize("message", ["Authenticate", "TokenUpdate", "CheckOut", "GetToken"])
async def test_a_message_that_names_nobody_is_malformed(house: House, message: str) -> None:
    """2.1."""
    phone = await house.enrolled(IPHONE)
    with pytest.raises(Malformed):
        await phone.send(
            message,
            UDID=None,
            Topic=phone.topic,
            Token=b"t",
            PushMagic="m",
            TokenServiceType="com.apple.maid",
        )


@pytest.mark.case("CI-24")
async def test_unknown_keys_are_no_reason_to_refuse(house: House) -> None:
    """1.3.2: a macOS 10.12 sample carries an undocumented Challenge."""
    mac = house.device(MAC)
    assert await mac.authenticate(Challenge=b"x", Novelty={"a": [1, True]}) is Reply.EMPTY
    assert await mac.token_update(Novelty=["b"]) is Reply.EMPTY


async def test_every_message_needs_a_bound_certificate(house: House) -> None:
    """3.8 binding rule 3; 5.4 case 5."""
    mac = await house.enrolled(MAC)
    stranger = mac.with_certificate("never bound")
    for message, keys in {
        "SetBootstrapToken": {"BootstrapToken": b"v"},
        "GetBootstrapToken": {},
        "GetToken": {"TokenServiceType": "com.apple.maid"},
        "DeclarativeManagement": {"Endpoint": "tokens"},
        "ReturnToService": {},
        "UserAuthenticate": {"UserID": "U"},
        "CheckOut": {},
    }.items():
        with pytest.raises(CertificateNotPaired) as refused:
            await stranger.send(message, **keys)
        assert isinstance(refused.value, Refused)
