"""What happens in the demo, scene by scene; each one checks that it really happened."""

import plistlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ostiary.cli.demo_board import BoardRow
from ostiary.cli.demo_secrets import keep_secrets
from ostiary.cli.demo_stage import Stage, generation, has_state, is_proven, token
from ostiary_sim.device import Device

_FIRST_COMMANDS: Final = ("DeviceInformation", "SecurityInfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays, each with the row that shows it."""

    iphone: Device
    ipad: Device
    shared: Device
    mac: Device
    rows: dict[str, BoardRow]
    """By the words iphone, ipad, shared, mac for devices; shared/ada, shared/grace, mac/ada for users."""

    @property
    def users(self) -> list[BoardRow]:
        return [row for row in self.rows.values() if row.is_user]

    @property
    def device_rows(self) -> list[BoardRow]:
        return [row for row in self.rows.values() if not row.is_user]


async def play(stage: Stage, *, stay: bool) -> None:
    """Everything in order; with `stay` only the iPhone leaves at the end. Raises DemoFailed."""
    await get_push_certificate(stage)
    cast = await enroll_everybody(stage)
    await wake_everybody(stage, cast)
    await wake_users(stage, cast)
    await be_busy(stage, cast)
    await change_push_token(stage, cast)
    await fetch_bootstrap_token(stage, cast)
    await keep_secrets(stage, cast.mac, cast.rows["mac"])
    await clear_passcode(stage, cast)
    await leave(stage, cast, stay=stay)
    await stage.apple.apns.settle()


async def get_push_certificate(stage: Stage) -> None:
    """The way every organization goes once a year: request, vendor's signature, portal, import."""
    stage.act("A push certificate: request, vendor, Apple's portal, import")
    directory = stage.apple.directory
    request, certificate = directory / "push.csr", directory / "push.pem"
    await stage.house.run("apns", "csr", "--out", str(request))
    csr = x509.load_pem_x509_csr(request.read_bytes())
    signed = stage.apple.authority.sign_as_vendor(csr.public_bytes(Encoding.DER))
    issued = stage.apple.authority.accept_signed_request(signed)
    certificate.write_bytes(issued.certificate_pem)
    await stage.house.run("apns", "import", str(certificate))
    await stage.pause()


async def enroll_everybody(stage: Stage) -> Cast:
    """Four devices and three users; the Mac hands over its bootstrap token when its user logs in."""
    rows: dict[str, BoardRow] = {}
    stage.act(
        "An iPhone enrolls: invitation, signed profile, SCEP identity, Authenticate, TokenUpdate"
    )
    iphone, rows["iphone"] = await enroll(stage, "iphone", "iPhone")
    stage.act("An iPad enrolls; like the iPhone it brings an unlock token, sent only this once")
    ipad, rows["ipad"] = await enroll(stage, "ipad", "iPad")
    stage.act(
        "A Shared iPad enrolls, and two pupils log in: each is a channel with its own push token"
    )
    shared, rows["shared"] = await enroll(stage, "shared-ipad", "Shared iPad")
    for name in ("ada", "grace"):
        rows[f"shared/{name}"] = await log_in(stage, shared, f"{name}@school.example")
    await stage.pause()
    stage.act("A Mac enrolls; its first user logs in, and the bootstrap token is escrowed")
    mac, rows["mac"] = await enroll(stage, "mac", "Mac")
    rows["mac/ada"] = await log_in(stage, mac, "ada")
    await stage.until("the Mac escrows its bootstrap token", lambda: mac.bootstrap.escrowed)
    await stage.until(
        "the ledger holds the bootstrap token", lambda: token(rows["mac"], "bootstrap") is not None
    )
    await stage.pause()
    return Cast(iphone=iphone, ipad=ipad, shared=shared, mac=mac, rows=rows)


async def enroll(stage: Stage, personality: str, name: str) -> tuple[Device, BoardRow]:
    """One device, from its invitation to its first TokenUpdate."""
    device, row = stage.new_device(personality, name)
    invitation = await stage.house.ask("enroll", "invite", "--serial", device.serial)
    document = await stage.played(
        f"the {name} gets its profile", device.fetch_profile(invitation["url"])
    )
    new = stage.board.new_challenges(await stage.ledger())
    stage.require("a profile holds one new enrollment challenge", holds=len(new) == 1)
    row.challenge = new.pop()
    await stage.pause()
    await stage.played(f"the {name} enrolls", device.enroll(document))
    await stage.until(f"the {name} is enrolled", partial(has_state, row, "enrolled"))
    await stage.until(f"the {name} has a push token", lambda: token(row, "push") is not None)
    return device, row


async def log_in(stage: Stage, device: Device, short_name: str) -> BoardRow:
    """Somebody logs in and becomes a channel of the server's."""
    row = stage.new_user(device, short_name)
    user = await stage.played(f"{short_name} logs in", device.user_login(short_name))
    stage.know_user(row, device, user)
    await stage.until(f"{short_name} is enrolled", partial(has_state, row, "enrolled"))
    return row


async def wake_everybody(stage: Stage, cast: Cast) -> None:
    """The first pushes, two seconds after the TokenUpdates, and the commands every enrollment begins with."""
    stage.act("Apple's push service wakes every device; each comes back and answers")
    for row in cast.device_rows:
        for word in _FIRST_COMMANDS:
            await stage.until(
                f"the {row.name} answers {word}", partial(stage.has_answered, row, word)
            )
        await stage.until(f"the {row.name}'s push token is proven", partial(is_proven, row, "push"))
    await stage.pause()


async def wake_users(stage: Stage, cast: Cast) -> None:
    """A command for each user: woken by the user's own push token, answered on the user's own channel."""
    stage.act("Users are woken on channels of their own; a device's queue never mixes with theirs")
    listing = stage.house.data / "profile-list.plist"
    command = {"CommandUUID": str(uuid4()).upper(), "Command": {"RequestType": "ProfileList"}}
    listing.write_bytes(plistlib.dumps(command))
    pupils = [row for row in cast.users if row.serial == cast.shared.serial]
    await stage.house.ask("enqueue", *(row.id for row in pupils), "--plist", str(listing))
    profile = write_profile(stage.house.data, "web-clip")
    ada = cast.rows["mac/ada"]
    await stage.house.ask("enqueue", ada.id, "install-profile", str(profile))
    for row in pupils:
        await stage.until(
            f"{row.name} answers on the Shared iPad",
            partial(stage.has_answered, row, "ProfileList"),
        )
    await stage.until(
        "the Mac installs a profile for its user", lambda: stage.has_answered(ada, "InstallProfile")
    )
    for row in cast.users:
        await stage.until(f"{row.name}'s push token is proven", partial(is_proven, row, "push"))
    await stage.pause()


async def be_busy(stage: Stage, cast: Cast) -> None:
    """NotNow, and the same command once more when the iPad is ready."""
    stage.act("The iPad is busy and says NotNow: the command waits, and is offered again")
    ipad, row = cast.ipad, cast.rows["ipad"]
    ipad.say_not_now(["InstallProfile"])
    profile = write_profile(stage.house.data, "wi-fi")
    await stage.house.ask("enqueue", ipad.udid, "install-profile", str(profile))
    await stage.until(
        "the iPad says NotNow", lambda: stage.has_answered(row, "InstallProfile", "NotNow")
    )
    await stage.until("the server defers the command", lambda: row.command.endswith("NotNow"))
    await stage.pause()
    ipad.ready()
    await stage.played("the iPad comes back", ipad.poll())
    await stage.until(
        "the iPad installs the profile", lambda: stage.has_answered(row, "InstallProfile")
    )
    await stage.pause()


async def change_push_token(stage: Stage, cast: Cast) -> None:
    """A second generation: the old one is kept for history, the next push uses the new one."""
    stage.act("The iPad gets a new push token: a new generation, and the next wake-up uses it")
    ipad, row = cast.ipad, cast.rows["ipad"]
    await stage.played("the iPad sends its new token", ipad.change_push_token())
    await stage.until("the ledger has two push tokens", lambda: generation(row, "push") > 1)
    await stage.pause()
    await stage.house.ask("enqueue", ipad.udid, "device-information")
    await stage.until("the new push token is proven", partial(is_proven, row, "push"))
    pushed = [each.token for each in stage.apple.apns.requests]
    stage.require("a push went to the new token", holds=ipad.push_token in pushed)
    await stage.pause()


async def fetch_bootstrap_token(stage: Stage, cast: Cast) -> None:
    """A second account needs a SecureToken, for which the Mac asks its own bootstrap token back."""
    stage.act("A second person logs in on the Mac, which fetches its bootstrap token back")
    user = await stage.played(
        "grace logs in on the Mac", cast.mac.user_login("grace", managed=False)
    )
    stage.require("the Mac got its own bootstrap token back", holds=user.secure_token)
    await stage.pause()


async def clear_passcode(stage: Stage, cast: Cast) -> None:
    """The token that came once, with the first TokenUpdate, opens the iPhone now."""
    stage.act(
        "The iPhone's passcode is cleared with the unlock token that came once, at enrollment"
    )
    iphone, row = cast.iphone, cast.rows["iphone"]
    stage.require("the iPhone has a passcode", holds=iphone.passcode_set)
    await stage.house.ask("enqueue", iphone.udid, "clear-passcode")
    await stage.until(
        "the iPhone acknowledges ClearPasscode", lambda: stage.has_answered(row, "ClearPasscode")
    )
    stage.require("the passcode is gone", holds=not iphone.passcode_set)
    await stage.until("the unlock token is proven", lambda: is_proven(row, "unlock"))
    await stage.pause()


async def leave(stage: Stage, cast: Cast, *, stay: bool) -> None:
    """CheckOut: no more pushes, no more commands; the tokens are held, and served to nobody."""
    leaving = cast.device_rows[:1] if stay else cast.device_rows
    who = "The iPhone leaves" if stay else "Everybody leaves"
    stage.act(f"{who}: CheckOut; what was escrowed is held, and served to nobody")
    for row in leaving:
        device = next(one for one in stage.devices if one.serial == row.serial)
        await stage.played(f"the {row.name} leaves", device.remove_profile())
    gone = [row for row in cast.rows.values() if row.serial in {one.serial for one in leaving}]
    for row in gone:
        await stage.until(f"{row.name} is out", partial(has_state, row, "out"))
    await stage.pause()


def write_profile(directory: Path, name: str) -> Path:
    """A small configuration profile to install."""
    file = directory / f"{name}.mobileconfig"
    inner = {
        "PayloadType": "com.apple.webClip.managed",
        "PayloadIdentifier": f"example.demo.{name}.payload",
        "PayloadUUID": str(uuid4()).upper(),
        "PayloadVersion": 1,
        "Label": name,
        "URL": "https://example.org/",
    }
    outer = {
        "PayloadType": "Configuration",
        "PayloadIdentifier": f"example.demo.{name}",
        "PayloadUUID": str(uuid4()).upper(),
        "PayloadVersion": 1,
        "PayloadDisplayName": name,
        "PayloadContent": [inner],
    }
    file.write_bytes(plistlib.dumps(outer))
    return file
