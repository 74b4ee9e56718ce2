"""What systemd is told of a service with Type=notify: that it serves, and that it stops (sd_notify(3))."""

import contextlib
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
READY = "READY=1"
STOPPING = "STOPPING=1"


class Systemd:
    """Says nothing where systemd did not start this process, or does not want to be told."""

    def __init__(self) -> None:
        self._address: str | None = None

    def take_over(self) -> None:
        """Be the one process that tells: the workers, which inherit the environment, would tell of themselves alone."""
        self._address = os.environ.pop(VARIABLE, None)

    def notify(self, state: str) -> None:
        """Tell `state`. Where systemd cannot be reached, its own time limit says so."""
        if not self._address:
            return
        # A name that begins with @ is in no file system.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.connect(address)
            telling.send(state.encode("ascii"))


systemd = Systemd()
"""That of this process"""
