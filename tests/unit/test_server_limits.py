"""What the process and uvicorn are given: descriptors, the keep-alive time; and the image's own check."""

import http.server
import resource
import threading
from collections.abc import Iterator

import pytest

from app.server import healthcheck, run
from app.settings import Settings

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1024, 524_288), (65_536, 524_288)),
        ((1024, 4096), (4096, 4096)),
        ((1024, UNLIMITED), (65_536, UNLIMITED)),
        ((65_536, 65_536), None),
        ((200_000, 524_288), None),
    ],
    ids=["to 65,536", "to the hard limit", "not to infinity", "all that there is", "never lowered"],
)
def test_descriptors_are_raised_to_the_hard_limit_and_at_most_65536(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int] | None
) -> None:
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: asked.append((kind, pair)))

    run._raise_descriptors()  # noqa: SLF001 - the limits of this process must not change

    assert ([] if raised is None else [(resource.RLIMIT_NOFILE, raised)]) == asked


@pytest.mark.parametrize("seconds", [5, 75, 601, 86_400])
def test_the_keep_alive_time_reaches_uvicorn_also_above_the_600_seconds_of_google_cloud(seconds: int) -> None:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        database_url="postgresql://db/pos",
        mipos_client_secret="a secret for this test",
        keep_alive=seconds,
    )

    assert seconds == run.server_config("app.server.run:application", settings, workers=1).timeout_keep_alive


@pytest.fixture
def ready_server() -> Iterator[tuple[str, list[int]]]:
    """The port of what answers as a service, and the statuses that it will answer with."""
    statuses: list[int] = []

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[-1] if self.path == "/readyz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *_arguments: object) -> None:  # noqa: A002 - the base class's
            """Nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield str(server.server_port), statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_image_s_check_asks_this_machine_and_no_proxy(
    monkeypatch: pytest.MonkeyPatch, ready_server: tuple[str, list[int]]
) -> None:
    port, statuses = ready_server
    monkeypatch.setenv("PORT", port)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        # Nobody listens there.
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = []
    for status in (200, 503):
        statuses.append(status)
        found.append(healthcheck.main())
    monkeypatch.setenv("PORT", "1")

    assert [0, 1, 1] == [*found, healthcheck.main()]
