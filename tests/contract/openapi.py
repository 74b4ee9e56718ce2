"""Part of `make check`: schemathesis asks a real service what its own description says it takes, and compares the answers.

A status, a content type or a body that /openapi.json does not name fails the check, and so does any 5xx.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.conftest import new_world
from tests.support import postgres
from tests.support.service import Service, serving

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
KEY = "the-key-of-the-till-in-this-check"
MAX_EXAMPLES = 200
"""Of each operation."""
EXPECTED = {200, 201, 204, 400, 401, 404, 409, 415, 422}
"""What must have been answered, or the check has looked at too little."""


async def check() -> int:
    """The exit status: that of schemathesis, or 1 where it has not met all that it should."""
    async with new_world() as world:
        with serving(world.service_url, pos_api_key=KEY) as service:
            with tempfile.TemporaryDirectory() as folder:
                status, output = await _ask(service, folder)
            missed = EXPECTED - _answered(service)
    if status or missed:
        print(output)
        print(f"Statuses that were never answered: {sorted(missed) or 'none'}")
    return status or int(bool(missed))


async def _ask(service: Service, folder: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        str(shutil.which("schemathesis")),
        "run",
        f"{service.url}/openapi.json",
        f"--checks={CHECKS}",
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={MAX_EXAMPLES}",
        # The same requests in each run.
        "--generation-deterministic",
        "--continue-on-failure",
        "--warnings=off",
        "--no-color",
        f"--header=Authorization: Bearer {KEY}",
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.contract.signature", "PYTHONPATH": str(Path.cwd())},
        # It keeps what it found before, and would ask other things next time.
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def _answered(service: Service) -> set[int]:
    return {line["status"] for line in map(json.loads, service.log.splitlines()) if "status" in line}


def main() -> int:
    """Run the check on a server of its own."""
    server = postgres.start()
    try:
        return asyncio.run(check())
    finally:
        if server is not None:
            server.stop()
            shutil.rmtree(server.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
