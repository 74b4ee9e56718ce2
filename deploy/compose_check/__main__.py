"""The command: everything that it needs is made in a temporary folder, and nothing of it is left."""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from deploy.compose_check.engine import BUILDAH_PACKAGES, PACKAGES, NoEngine, clean_up, make_root, run_inside

ROOT = Path(__file__).parents[2]
SKIPPED = 77
"""The exit status that test runners know as "skipped" """


def main() -> int:
    """0: all of it works. 77: no engine can be had here, so nothing was checked. Anything else: a fault."""
    parser = argparse.ArgumentParser(
        prog="deploy/verify-compose",
        description="Install Debian 13 with Docker and Compose into a temporary folder. Start the engine there, in namespaces of"
        " its own. Make stand-ins of the base images from Debian's packages, build the image, and start the stack as"
        " docs/deploying.md says. Then use it: import, deliveries through the proxy, the port of the POS, restarts, secrets in"
        " files, the sandbox. It needs root, 4 GB of disk and the mirrors of Debian and PyPI. It takes about four minutes. Exit"
        " status: 0 if all works, 77 if no engine can be had here.",
    )
    parser.add_argument("--keep", action="store_true", help="Keep the folder with the system and its logs.")
    parser.add_argument("--buildah", action="store_true", help="Build the image alone, by buildah: no engine, no Compose.")
    asked = parser.parse_args()
    keep = asked.keep
    packages, module = (BUILDAH_PACKAGES, "image") if asked.buildah else (PACKAGES, "inside")
    # So that an end from outside cleans up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="verify-compose-"))
    try:
        root = make_root(folder, ROOT, packages=packages)
        status = run_inside(root, folder.name, module=f"deploy.compose_check.{module}")
    except NoEngine as reason:
        print(f"skipped: {reason}", file=sys.stderr)
        return SKIPPED
    finally:
        left = clean_up(folder, keep_folder=keep)
    if status == SKIPPED:
        return SKIPPED
    if left:
        print(f"It left something behind: {left}", file=sys.stderr)
        return 1
    print(f"{'All of it works' if status == 0 else 'It does not work'}. {time.monotonic() - started:.0f} s.")
    return status


if __name__ == "__main__":
    sys.exit(main())
