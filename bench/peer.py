"""The peer of another stack: Fastify 5 and pg by node, installed from npm into bench/peer where they are missing."""

import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).with_name("peer")
COMMAND = ("node", str(FOLDER / "server.js"))


def install() -> str | None:
    """Install the packages that bench/peer/package.json names; why the peer cannot run, or None where it can."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    installed, wanted = FOLDER / "node_modules" / ".installed", FOLDER / "package.json"
    if installed.exists() and installed.read_text(encoding="utf-8") == wanted.read_text(encoding="utf-8"):
        return None
    command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    finished = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
    if finished.returncode:
        # The last line alone: npm's others name addresses and files of this machine.
        return f"npm install failed with status {finished.returncode}"
    installed.write_text(wanted.read_text(encoding="utf-8"), encoding="utf-8")
    return None
