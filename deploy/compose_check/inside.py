"""In the namespaces: start the engine, make the base images, and check the stack. Runs with Debian 13's own Python."""

import os
import subprocess
import sys
import time
from pathlib import Path

from deploy.compose_check.stack import check
from deploy.compose_check.traffic import Fault

STAND_INS = {"python": "python:3.13-slim", "postgres": "postgres:18", "nginx": "nginx:1.30"}
LOG = Path("/var/log/dockerd.log")
START_SECONDS = 60
SKIPPED = 77
LOG_LINES = 30
# The engine itself is no part of an image, and neither is what was mounted or made here.
_LEFT_OUT = (
    "./project ./var/lib/docker ./var/lib/containerd ./var/cache/apt ./var/lib/apt/lists ./usr/sbin/dockerd"
    " ./usr/bin/docker* ./usr/bin/containerd* ./usr/sbin/runc ./usr/libexec/docker ./proc/* ./sys/* ./dev/* ./run/* ./tmp/*"
)


def main() -> int:
    """0: it works; 1: a fault; 77: the engine does not start."""
    settings = ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", os.environ["CGROUP_PARENT"]]
    with LOG.open("wb") as log, subprocess.Popen(["dockerd", *settings], stdout=log, stderr=log) as engine:
        try:
            if not _starts(engine):
                print(f"skipped: dockerd does not start here.\n{_tail()}", file=sys.stderr)
                return SKIPPED
            _show_versions()
            _make_base_images()
            check(Path.cwd())
        except (Fault, subprocess.CalledProcessError) as fault:
            print(f"Fault: {fault}", file=sys.stderr)
            return 1
        finally:
            engine.terminate()
    return 0


def _starts(engine: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        if engine.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _tail() -> str:
    return "\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])


def _show_versions() -> None:
    shown = "docker {{.Server.Version}}"
    subprocess.run(["docker", "version", "--format", shown], check=True)
    subprocess.run(["docker", "compose", "version"], check=True)


def _make_base_images() -> None:
    print("== Making the stand-ins of the base images", flush=True)
    left_out = [f"--exclude={path}" for path in _LEFT_OUT.split()]
    with subprocess.Popen(["tar", "-C", "/", "--one-file-system", *left_out, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "import", "-", "debian-with-packages:13"], stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL
        )
    folder = Path(__file__).parent / "stand_ins"
    for name, image in STAND_INS.items():
        build = ["docker", "build", "--quiet", "--tag", image, str(folder / name)]
        # Debian has the older builder only; Compose brings the newer one for the image itself.
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(build, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise Fault(f"the stand-in of {image} cannot be built:\n{done.stdout}")


if __name__ == "__main__":
    sys.exit(main())
