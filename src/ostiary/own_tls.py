"""The TLS files of an installation: which they are, how they stay fresh, and profiles signed with them."""

import asyncio
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ostiary.errors import OstiaryError
from ostiary.formats.mobileconfig import sign_profile
from ostiary.keys.server_tls import ServerTls, TlsFileUnusable, renew_own_certificate
from ostiary.keys.signer import load_private_key
from ostiary.ports.clock import Clock
from ostiary.services.enrollment import SignProfile
from ostiary.settings import Settings
from ostiary.web.problems import log_problem

_log = structlog.get_logger()

TLS_LOOK_SECONDS: Final = 60.0


def open_tls(settings: Settings, clock: Clock, *, renews: bool) -> ServerTls:
    """What the server shows; `renews`: our own certificate is first made anew, if its end is near.

    Raises:
        TlsFileUnusable
    """
    if renews:
        _renew_tls(settings, clock)
    return ServerTls(*tls_files(settings))


def _renew_tls(settings: Settings, clock: Clock) -> None:
    """Our own certificate anew, if its end is near; the operator's are the operator's to renew."""
    if settings.tls.certificate is not None:
        return
    places = settings.places
    not_after = renew_own_certificate(
        places.tls_ca, places.tls, hosts=settings.hosts, now=clock.now()
    )
    if not_after is not None:
        _log.info("tls_certificate_renewed", not_after=not_after.isoformat())


async def keep_tls_fresh(settings: Settings, clock: Clock, tls: ServerTls, *, renews: bool) -> None:
    """Take up files that changed, for ever; of several processes that share them, one renews them."""
    while True:
        await asyncio.sleep(TLS_LOOK_SECONDS)
        try:
            if renews:
                _renew_tls(settings, clock)
            if tls.refresh():
                _log.info("tls_certificate_taken_up")
        except OstiaryError as error:
            log_problem(error)


def tls_files(settings: Settings) -> tuple[Path, Path]:
    """Certificate chain and key that the server shows: the operator's, or our own."""
    if settings.tls.certificate is not None and settings.tls.key is not None:
        return settings.path(settings.tls.certificate), settings.path(settings.tls.key)
    return settings.places.tls


def own_tls_authority(settings: Settings) -> tuple[bytes, ...]:
    """The CA that an enrollment profile must bring along, because no device knows it."""
    if not settings.tls.enabled or settings.tls.certificate is not None:
        return ()
    return (load_chain(settings.places.tls_ca[0])[0].public_bytes(Encoding.DER),)


def profile_signer(settings: Settings) -> SignProfile:
    """Signs profiles with the TLS key, whose certificate devices have every reason to trust.

    Read for each profile, since the files may be renewed while we run; once now, to fail at the start.
    """
    certificate_file, key_file = tls_files(settings)

    def sign(profile: bytes) -> bytes:
        chain = [one.public_bytes(Encoding.DER) for one in load_chain(certificate_file)]
        return sign_profile(profile, chain[0], load_private_key(key_file), chain[1:])

    load_chain(certificate_file)
    load_private_key(key_file)
    return sign


def load_chain(file: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file, the server's own first. Raises TlsFileUnusable."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        raise TlsFileUnusable(path=file) from None
