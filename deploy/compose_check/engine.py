"""A Debian 13 with Docker in a folder, and namespaces in which its engine runs without a trace on this machine.

A dockerd beside the machine's own processes would leave bridges, a policy in iptables and ip_forward behind when it ends.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RELEASE = "trixie"
"""Debian 13: the first release with Compose v2, and with Python 3.13, which the image has"""
PACKAGES = "docker.io,docker-cli,docker-compose,iptables,iproute2,openssl,python3-venv,postgresql-17,nginx-light,ca-certificates"
BUILDAH_PACKAGES = "buildah,netavark,iproute2,python3-venv,ca-certificates"
"""debootstrap does not find that netavark is one of those that buildah needs one of."""
PYTHON_TAGS = ("--python-version", "3.13", "--implementation", "cp", "--abi", "cp313", "--abi", "abi3", "--abi", "none")
GLIBC_TAGS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
MIN_FREE_BYTES = 4 * 1024**3
LOG_LINES = 20
CGROUPS = Path("/sys/fs/cgroup")
CGROUP_SECONDS = 10

# Half of the time of an installation is spent on writing through to the disk, for a system that is thrown away.
_DPKG_SETTINGS = (
    "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n"
)
_ENTER = """
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mkdir old
pivot_root . old
umount -l /old
rmdir /old
ip link set lo up
cd /project
exec python3 -m "$2"
"""


class NoEngine(Exception):
    """No engine can be had on this machine; the message says why."""


def make_root(folder: Path, project: Path, *, packages: str) -> Path:
    """Install the system with `packages` of Debian, with the project and the packages of its image in it; return its folder.

    Raises:
        NoEngine: this machine lacks something that it takes.
    """
    _look_at_machine(folder)
    root = folder / "root"
    _step(f"Installing Debian 13 ({RELEASE}) with {packages.partition(',')[0]} into {folder}")
    _install(folder, root, packages)
    _step("Copying the project, and loading the packages of its image")
    _copy_project(project, root / "project")
    _load_wheels(project, root / "project/deploy/compose_check/stand_ins/python/wheels")
    return root


def run_inside(root: Path, name: str, *, module: str) -> int:
    """Run `module` in the system, in namespaces of its own; return its status.

    `name` is that of the control group in which the engine puts its containers.
    """
    _step("Going into namespaces of its own")
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CGROUP_PARENT": name,
    }
    # If this process is killed, unshare dies, with it the first process of the namespace, and so all others in it.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "sh", "-euc", _ENTER, "sh", str(root), module]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        finally:
            # unshare ignores SIGTERM.
            process.kill()


def clean_up(folder: Path, *, keep_folder: bool) -> str:
    """Remove the folder and the control groups; return what could not be removed."""
    left = _remove_cgroups(folder.name)
    if not keep_folder:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            left.append(str(folder))
    return ", ".join(left)


def _look_at_machine(folder: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NoEngine("it needs Linux and root.")
    missing = [
        tool for tool in ("apt-get", "dpkg", "chroot", "unshare", "setpriv", "pivot_root", "git") if shutil.which(tool) is None
    ]
    if missing:
        raise NoEngine(f"{', '.join(missing)} not found. It needs a Debian (or a relative of it) with git.")
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise NoEngine(f"there are less than {MIN_FREE_BYTES >> 30} GB free in {folder.parent} (TMPDIR names another folder).")
    _try(["unshare", *NAMESPACES, "mount", "--make-rprivate", "/"], folder, "namespaces of its own")


def _install(folder: Path, root: Path, packages: str) -> None:
    """With debootstrap from the package, which need not be installed for that."""
    tools = folder / "tools"
    tools.mkdir()
    for package in ("debootstrap", "debian-archive-keyring"):
        _try(["apt-get", "download", "-qq", package], tools, f"the package {package}")
    for archive in sorted(tools.glob("*.deb")):
        _try(["dpkg", "-x", str(archive), str(tools)], tools, archive.name)
    environment = {**os.environ, "LC_ALL": "C"}
    keyring = tools / "usr/share/keyrings/debian-archive-keyring.gpg"
    options = ["--foreign", "--variant=minbase", f"--include={packages}", f"--keyring={keyring}", "--force-check-gpg"]
    mirror = [os.environ["DEBIAN_MIRROR"]] if "DEBIAN_MIRROR" in os.environ else []
    program = str(tools / "usr/sbin/debootstrap")
    first = {**environment, "DEBOOTSTRAP_DIR": str(tools / "usr/share/debootstrap")}
    _try([program, *options, RELEASE, str(root), *mirror], folder, "the packages of Debian 13", first)
    settings = root / "etc/dpkg/dpkg.cfg.d/verify-compose"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(_DPKG_SETTINGS)
    # It mounts /proc and /sys there, and the folder must be safe to remove however it ends.
    _try(
        ["unshare", "--mount", "chroot", str(root), "/debootstrap/debootstrap", "--second-stage"],
        folder,
        "Debian 13",
        environment,
    )


def _copy_project(project: Path, target: Path) -> None:
    """What a clone would hold, with the changes that are not committed yet."""
    # root may look at the clone of another user, which git refuses by default.
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=project, check=True, stdout=subprocess.PIPE)
    for name in listed.stdout.decode().split("\0"):
        source = project / name
        if name and source.is_file():
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)


def _load_wheels(project: Path, target: Path) -> None:
    """Out here pip has this machine's settings; the engine has no way to an index. The build checks the hashes once more."""
    platforms = [part for tag in GLIBC_TAGS for part in ("--platform", f"{tag}_{platform.machine()}")]
    requirements = [part for name in ("image", "build", "sbom") for part in ("-r", str(project / f"requirements/{name}.txt"))]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    _try(
        [*pip, "--only-binary=:all:", *PYTHON_TAGS, *platforms, "--dest", str(target), *requirements],
        target.parent,
        "the Python packages of the image (`make setup` makes a pip for it)",
    )


def _try(command: Sequence[str], folder: Path, what: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
        raise NoEngine(f"{what} cannot be had: {command[0]} ended with status {done.returncode}.\n{last}")


def _remove_cgroups(name: str) -> list[str]:
    """The kernel removes a group only when the last process of it is gone, and that takes a moment."""
    deadline = time.monotonic() + CGROUP_SECONDS
    while groups := [Path(path) for path, folders, _ in os.walk(CGROUPS, topdown=False) if name in Path(path).parts]:
        for group in groups:
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    return [str(group) for group in groups]
        time.sleep(0.1)
    return []


def _step(text: str) -> None:
    print(f"== {text}", flush=True)
