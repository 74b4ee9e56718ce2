"""A real Prometheus (Debian's `prometheus`) with the alert rules as they are shipped, scraping one service."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.support.alert_rules import FILE
from tests.support.service import free_port

SCRAPE_INTERVAL = "15s"
"""As an operator sets it; the promise of docs/runbook.md names it."""
START_SECONDS = 60

PROGRAM = shutil.which("prometheus")
_WITH_PARENT = shutil.which("setpriv")
WHY_NOT = None if PROGRAM and _WITH_PARENT else "prometheus is not installed (Debian: prometheus), or no setpriv (util-linux)"


@dataclass(frozen=True)
class Prometheus:
    """Running."""

    url: str
    client: httpx2.AsyncClient

    async def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire, by the problem and the severity in their labels; each is one of the file's rules."""
        answer = await self.client.get(f"{self.url}/api/v1/alerts")
        alerts = [one["labels"] for one in answer.json()["data"]["alerts"] if one["state"] == "firing"]
        for labels in alerts:
            assert (labels["alertname"], labels["problem"], labels["severity"]) in _rules(), labels
        return {(labels["problem"], labels["severity"]) for labels in alerts}

    async def knows_the_last_look(self) -> bool:
        """Whether it has scraped that the service has looked for problems."""
        query = {"query": "pos_sync_problems_looked_at_timestamp_seconds > 0"}
        return bool((await self.client.get(f"{self.url}/api/v1/query", params=query)).json()["data"]["result"])


def _rules() -> set[tuple[str, str, str]]:
    rules = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"] if "alert" in rule]
    return {(rule["alert"], rule["labels"]["problem"], rule["labels"]["severity"]) for rule in rules}


@asynccontextmanager
async def prometheus(port: int) -> AsyncIterator[Prometheus]:
    """One that scrapes the service at `port`; stopped at the end."""
    own_port = free_port()
    with tempfile.TemporaryDirectory(prefix="pos-sync-prometheus-", ignore_cleanup_errors=True) as folder:
        configuration: dict[str, Any] = {
            "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
            "rule_files": [str(FILE)],
            "scrape_configs": [{"job_name": "pos-sync", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        }
        file = Path(folder) / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration))
        options = [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{own_port}"]
        log_file = Path(folder) / "log"
        process = _start([f"--config.file={file}", *options, "--log.level=warn"], log_file)
        try:
            async with httpx2.AsyncClient(timeout=10) as client:
                it = Prometheus(f"http://127.0.0.1:{own_port}", client)
                await _until_ready(it, process, log_file)
                yield it
        finally:
            process.terminate()
            try:
                process.wait(10)
            finally:
                process.kill()
                process.wait()


def _start(options: list[str], log_file: Path) -> subprocess.Popen[bytes]:
    assert PROGRAM is not None
    assert _WITH_PARENT is not None
    with log_file.open("wb") as log:
        return subprocess.Popen(
            # Ended by the kernel where the tests are killed: nothing must be left running.
            [_WITH_PARENT, "--pdeathsig", "KILL", PROGRAM, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "GOMAXPROCS": "1"},
        )


async def _until_ready(it: Prometheus, process: subprocess.Popen[bytes], log_file: Path) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            assert process.poll() is None, await asyncio.to_thread(log_file.read_text)
            with suppress(httpx2.TransportError):
                if (await it.client.get(f"{it.url}/-/ready")).status_code == httpx2.codes.OK:
                    return
            await asyncio.sleep(0.2)
