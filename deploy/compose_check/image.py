"""In the namespaces: build the image alone, by buildah without any engine, and start what is in it."""

import os
import resource
import subprocess
import sys
from pathlib import Path

from deploy.compose_check.traffic import Fault, expect

MAX_SECONDS = 600
"""Of one call: past it, something hangs."""
BASE, STAND_IN, IMAGE = "debian-with-packages:13", "python:3.13-slim", "mipos-pos-sync"
POLICY = Path("/etc/containers/policy.json")
# What was mounted or made here is no part of an image.
_LEFT_OUT = (
    "./project ./var/lib/containers ./var/cache/apt ./var/lib/apt/lists ./proc/* ./sys/* ./dev/* ./run/* ./tmp/* ./var/tmp/*"
)
# chroot: steps run without namespaces of their own, so in a container too. vfs: no file system is asked for overlays.
_ENVIRONMENT = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}


def main() -> int:
    """0: it works; 1: a fault."""
    POLICY.parent.mkdir(parents=True, exist_ok=True)
    # Debian has it in a package that buildah only recommends. Nothing is pulled here.
    POLICY.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    try:
        print(_buildah("--version").strip(), flush=True)
        _make_base()
        folder = Path(__file__).parent / "stand_ins/python"
        _buildah("build", *_limits(), "--pull-never", "--tag", STAND_IN, str(folder))
        print("== Building the image by buildah", flush=True)
        # As Docker's format: that of OCI has no HEALTHCHECK.
        _buildah("build", *_limits(), "--pull-never", "--format", "docker", "--tag", IMAGE, str(Path.cwd()))
        _look_at_image()
    except Fault as fault:
        print(f"Fault: {fault}", file=sys.stderr)
        return 1
    return 0


def _make_base() -> None:
    print("== Making the stand-in of the base image", flush=True)
    container = _buildah("from", "scratch").strip()
    mounted = _buildah("mount", container).strip()
    left_out = [f"--exclude={path}" for path in _LEFT_OUT.split()]
    with subprocess.Popen(["tar", "-C", "/", "--one-file-system", *left_out, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["tar", "-C", mounted, "-x"], stdin=tar.stdout, check=True)
    if tar.returncode != 0:
        raise Fault(f"packing this system ended with {tar.returncode}")
    _buildah("commit", "--quiet", "--rm", container, BASE)


def _look_at_image() -> None:
    """The command is there, runs as the image's user, and says what it lacks; the check of health is in the image."""
    print("== Starting what is in the image", flush=True)
    container = _buildah("from", *_limits(), "--pull-never", IMAGE).strip()
    expect("the user", _buildah("run", container, "--", "id", "--user").strip(), "10001")
    print(_buildah("run", container, "--", "pos-sync", "--version").strip(), flush=True)
    unset = _run("run", container, "--", "pos-sync", "serve")
    if "DATABASE_URL: is not set" not in unset.stdout + unset.stderr:
        raise Fault(f"without settings it says:\n{unset.stdout}{unset.stderr}")
    if "app.server.healthcheck" not in _buildah("inspect", "--type", "image", IMAGE):
        raise Fault("the image has no HEALTHCHECK")


def _limits() -> list[str]:
    """As they are: buildah raises them, which takes a right that root in a container may lack."""
    options = []
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        soft, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            options += ["--ulimit", f"{name}={soft}:{hard}"]
    return options


def _buildah(*arguments: str) -> str:
    done = _run(*arguments)
    if done.returncode != 0:
        raise Fault(f"buildah {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["buildah", *arguments],
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=MAX_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main())
