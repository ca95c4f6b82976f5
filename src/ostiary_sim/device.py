"""A simulated device: enrolls, listens for pushes, obeys commands, keeps its secrets, and leaves.

    device = Device(PERSONALITIES["iphone"], http=transport, clock=clock)
    await device.enroll(profile_bytes)
    await device.idle()

It behaves as `check-in-and-commands.md` 2.5 says, step by step. Failures of the *server* are not exceptions: they are
answers and events, and the device does what a device does. Exceptions (`ostiary_sim.errors`) mean that
an enrollment or installation did not happen, or that the tester asked for something impossible.
Everything random comes from `seed`, except RSA keys; time and waiting come from `clock` and `sleeper`.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime
from types import TracebackType
from typing import Self

from ostiary_sim import enrolling, login_window, logins, messages, profile, truth
from ostiary_sim.bootstrap import BootstrapEscrow, Fetched
from ostiary_sim.channel import PUSH_TOKEN_BYTES, Channel, Session
from ostiary_sim.channel_name import DEVICE
from ostiary_sim.clock import Clock, system_clock
from ostiary_sim.connections import HttpSource, TlsClients, Trust, clients_from
from ostiary_sim.erasing import Erasure
from ostiary_sim.errors import NotEnrolled, NotPossible
from ostiary_sim.events import Listener
from ostiary_sim.identity import Identity, KeySource, new_rsa_key
from ostiary_sim.installed import Backup, Installed
from ostiary_sim.levers import KEEP, Keep, Reluctance
from ostiary_sim.machine import Machine
from ostiary_sim.personality import Personality, draw_uuid
from ostiary_sim.profile import EnrollmentProfile, Pkcs12Request
from ostiary_sim.push import PushService
from ostiary_sim.retry import RetryPolicy
from ostiary_sim.return_to_service import ReturnToService
from ostiary_sim.scep import Hostility, ScepClient, Sleeper
from ostiary_sim.truth import Truth
from ostiary_sim.users import User
from ostiary_sim.wire import CHECK_IN_TYPE, COMMAND_TYPE, NO_ANSWER, Answer, Wire


class Device(Machine):
    """One simulated device: a machine that talks with an MDM server.

    Args:
        personality: which kind; see `ostiary_sim.personality.PERSONALITIES`.
        http: an httpx transport, a client, or a factory of clients; None makes real TLS clients
            that trust the system's authorities and the profile's anchors. What is given stays the
            caller's to close.
        clock: aware UTC.
        listener: hears every `Event`.
        seed: equal seeds give equal names, tokens and magics.
        push: where push tokens are announced; None: pushes come only by `receive_push`.
        sleeper: waits between attempts.
        retry: how often pending messages are repeated before the next occasion.
        new_key: makes RSA keys.
        allow_http: accept `http://` in profiles.
        awaiting: wait in Setup Assistant after the next enrollment; None takes the personality's.
        udid, serial: use these names, to play another device's twin.
    """

    def __init__(
        self,
        personality: Personality,
        *,
        http: HttpSource | None = None,
        clock: Clock = system_clock,
        listener: Listener | None = None,
        seed: int | None = None,
        push: PushService | None = None,
        sleeper: Sleeper = asyncio.sleep,
        retry: RetryPolicy | None = None,
        new_key: KeySource = new_rsa_key,
        allow_http: bool = False,
        awaiting: bool | None = None,
        udid: str | None = None,
        serial: str | None = None,
    ) -> None:
        super().__init__(
            personality, clock=clock, listener=listener, seed=seed, udid=udid, serial=serial
        )
        self.push = push
        self.sleeper = sleeper
        self.retry = retry or RetryPolicy()
        self.awaits_when_enrolled = personality.awaiting if awaiting is None else awaiting
        self._new_key = new_key
        self.allow_http = allow_http
        self.http_source: HttpSource = TlsClients() if http is None else http
        own = self.http_source if http is None else None
        self._own_clients = own if isinstance(own, TlsClients) else None
        self._clients = clients_from(self.http_source)
        self._wire = Wire(
            personality=personality, clients=self._clients, clock=clock, levers=self.levers
        )
        self._installed: Installed | None = None
        self._channels: dict[str | None, Channel] = {}
        self.enrollment_id = ""
        """Known to the server in User Enrollment; new for each one."""
        self.enrolled = False
        """The first TokenUpdate was accepted."""
        self.access_token: str | None = None
        """Shown with every request of an account-driven enrollment; whoever plays the sign-in sets it."""
        self.return_to_service = ReturnToService(self)
        self.bootstrap = BootstrapEscrow(self)

    def begin_relationship(self, installed: Installed) -> None:
        """Live under a new profile, with fresh push tokens and magics."""
        self.adopt(installed)
        self._channels = {}
        if self.personality.user_enrollment:
            self.enrollment_id = draw_uuid(self.rng)

    def adopt(self, installed: Installed | None) -> None:
        """Live under this profile and identity from now on (None: under none), all else unchanged."""
        self._installed = installed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening for pushes and close the connections this device made itself."""
        await self._stop_listening()
        if self._own_clients is not None:
            await self._own_clients.aclose()

    # What there is to see

    @property
    def installed(self) -> Installed:
        """Profile and identity.

        Raises:
            NotEnrolled: there is none.
        """
        if self._installed is None:
            raise NotEnrolled("the device has no enrollment profile")
        return self._installed

    @property
    def profile(self) -> EnrollmentProfile | None:
        """The installed enrollment profile."""
        return None if self._installed is None else self._installed.profile

    @property
    def identity(self) -> Identity | None:
        """What the device signs with."""
        return None if self._installed is None else self._installed.identity

    @property
    def push_token(self) -> bytes:
        """The device channel's push token."""
        return self.channel().push_token

    @property
    def push_magic(self) -> str:
        """The device channel's push magic."""
        return self.channel().push_magic

    def truth(self) -> Truth:
        """What is really in force now, to be compared with what a server believes."""
        return truth.truth_of(self)

    def serves(self, channel: Channel) -> bool:
        """Say whether that channel still belongs to this enrollment, and the device can speak at all."""
        is_ours = channel in self._channels.values()
        return is_ours and self._installed is not None and not self.lock_screen.is_silent

    def channel(self, user: User | str | None = None) -> Channel:
        """The device channel, or a user's; made when first asked for.

        Raises:
            NotPossible: no such user.
        """
        if isinstance(user, str):
            if user not in self.users:
                raise NotPossible(f"nobody here is called {user}")
            user = self.users[user]
        name = None if user is None else user.short_name
        if name not in self._channels:
            self._channels[name] = Channel(self, user)
        return self._channels[name]

    # Enrollment and its end

    async def fetch_profile(self, url: str, *, source: HttpSource | None = None) -> bytes:
        """The document that an enrollment URL serves.

        Args:
            url: where; used once.
            source: another source of connections than the device's own.

        Raises:
            ProfileRefused: no answer, not 2xx, or not a profile's media type.
        """
        client = (self._clients if source is None else clients_from(source))(Trust())
        return await enrolling.fetch_document(client, url, self.personality.user_agent)

    async def enroll(
        self,
        document: bytes,
        *,
        installing_user: str | None = None,
        identity: Identity | None = None,
        hostility: Hostility | None = None,
    ) -> None:
        """Install an enrollment profile and begin a new relationship.

        Args:
            document: the profile, signed or plain.
            installing_user: the Mac user who installs it and becomes managed.
            identity: use this one instead of asking for one (a retry with the same certificate, a thief).
            hostility: how to ask for the identity.

        Raises:
            ProfileRefused: the device does not install it.
            IdentityNotIssued: no certificate.
            EnrollmentRefused: Authenticate was not answered with 2xx; nothing is left behind.

        After it returns `enrolled` is true unless the TokenUpdate is still pending.
        Source: check-in-and-commands.md 2.5 steps 1 to 5.
        """
        await enrolling.enroll(self, document, identity, hostility)
        if installing_user is not None and self.profile is not None:
            await self.user_login(installing_user, managed=True)

    async def install_profile(self, document: bytes, *, channel: User | None = None) -> None:
        """Install any profile, as InstallProfile does: an enrollment profile replaces the installed one.

        Raises:
            ProfileRefused: not installed.
            IdentityNotIssued, EnrollmentRefused: the replacement failed and was rolled back.
        """
        plain, _ = profile.open_document(document)
        top = profile.read_top_level(plain)
        if profile.is_enrollment_profile(top):
            await self.replace_profile(document)
            return
        where = DEVICE if channel is None else channel.short_name
        self.other_profiles[(where, top["PayloadIdentifier"])] = top
        self.say("profile_installed", where, str(top["PayloadIdentifier"]))

    async def replace_profile(
        self,
        document: bytes,
        *,
        hostility: Hostility | None = None,
        renewal_request: bool = False,
    ) -> None:
        """Replace the enrollment profile; on any failure the old one and its identity come back.

        Args:
            document: the new profile.
            hostility: how to ask for the new identity.
            renewal_request: ask by RenewalReq, signed with the old identity, instead of PKCSReq.

        Raises:
            ProfileRefused: what may not change has changed.
            IdentityNotIssued: no certificate.
            EnrollmentRefused: Authenticate or TokenUpdate was not accepted.

        Source: check-in-and-commands.md 2.5 step 8, 6.1.
        """
        await enrolling.replace(
            self, document, hostility=hostility, renewal_request=renewal_request
        )

    async def remove_profile(self, *, check_out: bool = True) -> None:
        """Leave management: one CheckOut if the profile asks for it, then forget everything.

        Source: check-in-and-commands.md 2.5 step 9.
        """
        if self._installed is None:
            return
        if check_out and self._installed.profile.management.check_out_when_removed:
            await self.check_out()
        await self._forget()
        self.say("profile_removed")

    async def check_out(self) -> Answer:
        """Send CheckOut once, whatever becomes of it."""
        installed = self.installed
        message = messages.check_out(self, installed.profile.management)
        answer = await self._put(message, CHECK_IN_TYPE)
        self.say("checked_out", detail=str(answer.status))
        return answer

    async def erase(self, how: Erasure = Erasure.CONTENT_AND_SETTINGS) -> None:
        """Erase all content: no CheckOut, no users, no passcode, no secret that still is one.

        The firmware password stays, and so does an Activation Lock (then `enroll` is not possible before
        `activation_lock.unlock`). Source: escrowed-secrets.md 4.5, 4.7, 4.13.
        """
        await self._forget()
        self.wipe()
        self.bootstrap = BootstrapEscrow(self)
        self.passcode_set = False
        self.activation_lock.erased()
        self.return_to_service.apps = set()
        self.say("erased", detail=how.value)

    def back_up(self) -> Backup:
        """What a backup of this device holds of its management."""
        return Backup(
            udid=self.udid,
            installed=self.installed,
            enrollment_id=self.enrollment_id,
            push_magic=self.push_magic,
            unlock_token=self.unlock_token,
            bypass_code=self.activation_lock.code,
        )

    async def restore_from_backup(self, backup: Backup | None = None) -> None:
        """Restore a backup; None restores one taken this moment.

        On the device it came from management revives with a new push token and a TokenUpdate alone; on
        another device nothing does. Source: check-in-and-commands.md 1.4 TU-15, 2.5 step 11.
        """
        backup = backup or self.back_up()
        await self._forget()
        await enrolling.restore(self, backup)

    async def _forget(self) -> None:
        await self._stop_listening()
        self._installed = None
        self._channels = {}
        self.enrolled = False
        self.awaiting, self.setting_up = False, False
        self.enrollment_id = ""
        self.other_profiles.clear()
        self.declarative_channels.clear()
        self.mdm_options.clear()
        self.bootstrap.forget()
        self.recovery_lock.password = None
        for user in self.users.values():
            user.managed, user.auth_token, user.awaiting = False, None, False

    async def _stop_listening(self) -> None:
        if self.push is not None:
            for channel in self._channels.values():
                await self.push.disconnect(channel.push_token)

    def scep_client(self, offered: EnrollmentProfile) -> ScepClient:
        """The SCEP client this device would use for that profile, to be pulled by hand.

        Raises:
            NotPossible: the profile's identity does not come by SCEP.
        """
        if isinstance(offered.identity, Pkcs12Request):
            raise NotPossible("the profile carries its identity in itself")
        return ScepClient(
            request=offered.identity,
            http=self._clients(Trust(anchors=offered.anchors)),
            clock=self.clock,
            sleeper=self.sleeper,
            new_key=self._new_key,
            user_agent=self.personality.user_agent,
        )

    # Messages

    async def send_authenticate(self) -> Answer:
        """Send Authenticate under the installed profile."""
        message = messages.authenticate(self, self.installed.profile.management)
        answer = await self._put(message | self.levers.extra_keys, CHECK_IN_TYPE)
        self.say("authenticated" if answer.ok else "authenticate_failed", detail=str(answer.status))
        return answer

    async def send_token_update(
        self,
        channel: User | str | None = None,
        *,
        unlock_token: bytes | Keep | None = KEEP,
        awaiting: bool | Keep | None = KEEP,
        push_token: bytes | None = None,
        push_magic: str | None = None,
    ) -> Answer:
        """Send a TokenUpdate, repeated until 2xx, then kept pending until the next contact.

        Args:
            channel: None is the device's; else a user or a short name.
            unlock_token: KEEP sends it in the first TokenUpdate of an enrollment (and always under the
                lever); None leaves the key out; `b""` sends it empty; other bytes become the device's.
            awaiting: KEEP sends true while the channel waits; None leaves the key out.
            push_token: a new value, from now on the channel's own.
            push_magic: the same.
        """
        sender = self.channel(channel)
        if push_token is not None:
            if self.push is not None:
                await self.push.disconnect(sender.push_token)
            sender.push_token = push_token
        if push_magic is not None:
            sender.push_magic = push_magic
        answer = await sender.send_token_update(
            unlock_token=enrolling.unlock_token_to_send(self, sender, unlock_token),
            awaiting=awaiting,
        )
        if sender.user is None and self.profile is not None:
            self.enrolled = self.enrolled or answer.ok
        return answer

    async def change_push_token(self, channel: User | str | None = None) -> Answer:
        """Get a new push token from Apple and tell the server."""
        return await self.send_token_update(
            channel, push_token=self.rng.randbytes(PUSH_TOKEN_BYTES)
        )

    async def ask(
        self, message_type: str, channel: User | str | None = None, **keys: object
    ) -> Answer:
        """Send a check-in message of any type (GetToken, DeclarativeManagement, ReturnToService …)."""
        sender = self.channel(channel)
        message: messages.Message = {"MessageType": message_type}
        message |= messages.identity_keys(self, sender.user)
        return await self.check_in(message | keys, sender.name)

    async def check_in(self, message: messages.Message, channel: str = DEVICE) -> Answer:
        """Send any check-in message as it is, and obey if the answer ends the enrollment."""
        return await self._obey(await self._put(message, CHECK_IN_TYPE), channel)

    async def connect(self, message: messages.Message, channel: str = DEVICE) -> Answer:
        """Send any command report as it is, and obey if the answer ends the enrollment."""
        return await self._obey(await self._put(message, COMMAND_TYPE), channel)

    async def _put(self, message: messages.Message, media_type: str) -> Answer:
        if self.lock_screen.is_silent:
            return Answer(status=NO_ANSWER)
        return await self._wire.put(message, media_type, self.installed, self.access_token)

    async def _obey(self, answer: Answer, channel: str) -> Answer:
        if self._installed is None:
            return answer
        management = self._installed.profile.management
        if answer.wants_sign_in(management):
            self.say("sign_in_wanted", channel)
        elif answer.unenrolls(self.personality, management):
            self.say("unenrolled_by_server", channel, str(answer.status))
            await self.remove_profile(check_out=False)
        return answer

    # Commands and pushes

    async def idle(self, channel: User | str | None = None) -> Session:
        """Connect and obey until the server has nothing more; says what happened."""
        session = await self.channel(channel).session()
        if channel is None and self._installed is not None:
            self.enrolled = self.enrolled or self.channel().updates_accepted > 0
        return session

    async def poll(self, channel: User | str | None = None) -> Session | None:
        """Come back without a push, if NotNow was the last word; else do nothing (None)."""
        return await self.idle(channel) if self.channel(channel).polls_by_itself else None

    async def receive_push(self, topic: str, magic: str, channel: User | str | None = None) -> None:
        """What the push service delivers: connect if topic and magic are right, else ignore it."""
        await self.channel(channel).receive_push(topic, magic)

    def say_not_now(
        self,
        request_types: Collection[str] | None = None,
        *,
        until: datetime | None = None,
    ) -> None:
        """Put off these commands (None: all that may be) until that moment (None: until `ready`)."""
        kinds = None if request_types is None else frozenset(request_types)
        self.levers.reluctances.append(Reluctance(request_types=kinds, until=until))

    def ready(self) -> None:
        """Put nothing off any more."""
        self.levers.reluctances.clear()

    # Users and the bootstrap token

    async def user_login(
        self,
        short_name: str,
        *,
        long_name: str | None = None,
        password: str = "",
        mobile: bool = False,
        managed: bool | None = None,
        awaiting: bool = False,
    ) -> User:
        """Somebody logs in; an unknown name becomes a new account.

        A Mac gives or asks for a SecureToken, escrows its bootstrap token if it is time, and opens the
        user's channel; a Shared iPad sends the user's TokenUpdate and polls.

        Args:
            short_name: account name, or Managed Apple Account.
            long_name: full name of a new account.
            password: of a new account, for UserAuthenticate.
            mobile: a network or mobile account.
            managed: open a user channel or not; None: mobile accounts, and the first local one.
            awaiting: a new Shared iPad user waits for UserConfigured.
        """
        return await logins.log_in(
            self,
            short_name,
            long_name=long_name,
            password=password,
            mobile=mobile,
            managed=managed,
            awaiting=awaiting,
        )

    async def login(self, short_name: str, password: str) -> bool:
        """Somebody types a password at a Mac's login window: the right one logs in, as `user_login` does.

        Five wrong ones lock the account out until UnlockUserAccount.

        Raises:
            NotPossible: no such account, or nobody can log in now.
        """
        return await login_window.try_password(self, short_name, password)

    def user_logout(self, short_name: str) -> None:
        """Somebody logs out."""
        self.users[short_name].logged_in = False
        self.say("user_logged_out", short_name)

    async def user_authenticate(self, short_name: str) -> logins.Login:
        """Send UserAuthenticate for a known account, both requests if the server wants proof."""
        return await logins.user_authenticate(self, self.users[short_name])

    async def set_bootstrap_token(self, value: bytes | Keep | None = KEEP) -> Answer:
        """Send SetBootstrapToken; see `BootstrapEscrow.escrow`. As `profiles install -type bootstraptoken`."""
        return await self.bootstrap.escrow(value)

    async def get_bootstrap_token(self) -> Fetched:
        """Send GetBootstrapToken."""
        return await self.bootstrap.fetch()

    def profiles_status(self) -> str:
        """What `profiles status -type bootstraptoken` prints on this Mac."""
        return self.bootstrap.status_lines()

    async def update_software(self) -> bool:
        """Try an update without a user: true if the escrowed token authorised it, false if a user is asked."""
        done = self.bootstrap.supported and await self.bootstrap.authorizes()
        self.say("software_updated" if done else "user_asked_to_update")
        return done
