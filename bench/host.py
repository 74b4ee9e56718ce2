"""`python -m bench.host noop|textbook WORKERS`: a rival under the same uvicorn, set up by the service's own code."""

import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

from app.serving import server_config
from app.settings import load_settings


def main(name: str, workers: int) -> None:
    """Serve `bench.<name>` on the settings' PORT until it is stopped."""
    settings = load_settings()
    config = server_config(f"bench.{name}:application", settings, workers=workers)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.set_inheritable(True)
    if workers > 1:
        Multiprocess(config, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
