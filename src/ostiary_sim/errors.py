"""What goes wrong on a simulated device, as facts. Every module of the simulator may raise these."""


class SimulationFailed(Exception):
    """Something a real device would have shown to its user."""


class ProfileRefused(SimulationFailed):
    """The device does not install this profile."""


class IdentityNotIssued(SimulationFailed):
    """The certificate authority gave the device no certificate."""


class ScepRefused(IdentityNotIssued):
    """The SCEP server answered FAILURE; `fail_info` has its number (0 badAlg … 4 badCertID)."""

    def __init__(self, fail_info: int | None) -> None:
        super().__init__(f"the SCEP server refused (failInfo {fail_info})")
        self.fail_info = fail_info


class EnrollmentRefused(SimulationFailed):
    """The server did not accept Authenticate; `status` has its HTTP status (0: no answer at all)."""

    def __init__(self, status: int, said: str = "") -> None:
        answered = f"the server answered Authenticate with {status}"
        fact = answered if status else "the server did not answer Authenticate"
        super().__init__(f"{fact}: {said}" if said else fact)
        self.status = status


class MessageUnreadable(SimulationFailed):
    """Bytes of the other side are not what the protocol says."""


class NotEnrolled(SimulationFailed):
    """The device has no enrollment profile, so it has nobody to talk to."""


class NotPossible(SimulationFailed):
    """This kind of device cannot do that."""
