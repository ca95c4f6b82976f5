"""`ostiary simulate apple`: what it prints can be followed on a new installation as it stands."""

from pathlib import Path

from ostiary.settings import load_settings
from ostiary_sim.guide import how_to_use

ENDPOINTS = {
    "apns_host": "127.0.0.1",
    "apns_port": "2197",
    "ca_file": "apple/ca.pem",
    "push_certificate_file": "apple/push.pem",
    "push_key_file": "apple/push.key",
    "courier": "127.0.0.1:2198",
    "control": "http://127.0.0.1:2199",
}


def test_the_lines_that_a_simulated_apple_prints_fit_into_the_file_that_init_wrote(
    data: Path,
) -> None:
    """A second table of one name is no TOML, so they go below the one that is there."""
    lines = [line.strip() for line in how_to_use(ENDPOINTS).splitlines()]
    first = next(at for at, line in enumerate(lines) if line.startswith("host ="))
    file = data / "ostiary.toml"
    given = "\n".join(["[apns]", *lines[first : first + 3]])
    written = file.read_text()
    assert written.count("[apns]\n") == 1
    file.write_text(written.replace("[apns]", given))
    apns = load_settings(data).apns
    assert (apns.host, apns.port, apns.ca) == ("127.0.0.1", 2197, Path("apple/ca.pem").absolute())
