"""Drawn secrets: of the right form, and never the same."""

from ostiary.keys.drawn import LENGTH, LETTERS, SystemDraws
from ostiary.ports.draws import Draws
from ostiary.protocol.mdm.bypass_code import encode_bypass_code
from ostiary.protocol.mdm.lock_commands import require_pin
from ostiary.protocol.mdm.passwords import require_admin_password, require_lock_password

DRAWS: Draws = SystemDraws()


def test_a_drawn_password_fits_every_lock_and_account() -> None:
    """escrowed-secrets.md 4.4, 4.5, 4.8."""
    for _ in range(100):
        password = DRAWS.password()
        assert require_lock_password(password) == require_admin_password(password)
        assert set(password.reveal().decode()) <= set(LETTERS)
        assert len(password) == LENGTH


def test_letters_that_look_alike_or_move_between_keyboards_are_not_drawn() -> None:
    """A Mac asks before anybody can choose a keyboard: QWERTZ moves y and z, AZERTY a, q, z, w and m."""
    assert not set("aqwzymilo0125") & set(LETTERS)
    assert len(set(LETTERS)) == len(LETTERS)


def test_a_drawn_pin_is_six_digits_and_any_of_them() -> None:
    """escrowed-secrets.md 4.6."""
    pins = [require_pin(DRAWS.pin()).reveal().decode() for _ in range(1000)]
    assert {digit for pin in pins for digit in pin} == set("0123456789")
    assert len(set(pins)) > 900


def test_every_draw_is_another() -> None:
    """escrowed-secrets.md 4.0.2 rule 8."""
    for draw in (DRAWS.password, DRAWS.bypass_raw):
        assert len({draw().reveal() for _ in range(100)}) == 100
    assert len({DRAWS.salt() for _ in range(100)}) == 100
    assert len(DRAWS.salt()) == 32
    assert len(encode_bypass_code(DRAWS.bypass_raw())) == 31
