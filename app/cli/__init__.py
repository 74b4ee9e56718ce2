"""The commands; each calls the same use case that the service calls. `main` is the entry point `pos-sync`.

Nothing heavy is imported here, so that Ctrl-C is quiet from the first moment on.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INCOMPLETE = "A part of this program cannot be loaded: {}. Install it again, with all that it requires."
"""What an ImportError means"""


@contextmanager
def importing() -> Iterator[None]:
    """While modules are imported, Ctrl-C ends the process as it ends any program: inside an import it would be a traceback."""
    is_ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> None:
    """Run `pos-sync`; what a person can correct is one message and status 1 or 2, never a traceback."""
    try:
        with importing():
            # Here and not above: these are what takes the time.
            from app.cli.program import run  # noqa: PLC0415
    except ImportError as error:
        sys.exit(f"Error: {INCOMPLETE.format(error)}")
    run()
