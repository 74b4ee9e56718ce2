"""A real PgBouncer in transaction mode."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.service import free_port

PGBOUNCER = shutil.which("pgbouncer", path=f"/usr/sbin:{os.environ.get('PATH', '')}")
"""None where it is not installed"""
START_SECONDS = 20


@contextmanager
def pgbouncer(socket_folder: str, *, ignored: str = "") -> Iterator[int]:
    """Before the server whose socket is in `socket_folder`; its port. `ignored`: the start-up parameters that it swallows."""
    assert PGBOUNCER is not None
    port = free_port()
    owner = Path(socket_folder).stat()
    with tempfile.TemporaryDirectory(prefix="pos-sync-pgbouncer-") as name:
        folder = Path(name)
        users, configuration = folder / "users", folder / "pgbouncer.ini"
        users.write_text('"pos_sync" ""\n')
        configuration.write_text(
            f"[databases]\n* = host={socket_folder}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"unix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\nmax_client_conn = 500\n"
            # Its default, 15 s after a failed login, would make each short outage of Postgres a long one.
            "server_login_retry = 1\n" + (f"ignore_startup_parameters = {ignored}\n" if ignored else "")
        )
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            # It refuses to be root, and with root's groups it could not pass the folders above the socket.
            for path in (folder, users, configuration):
                os.chown(path, owner.st_uid, owner.st_gid)
            identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        command = [PGBOUNCER, "--quiet", str(configuration)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity) as process:
            try:
                _await_port(port)
                yield port
            finally:
                # SIGINT waits for clients.
                process.kill()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError("PgBouncer does not listen")
