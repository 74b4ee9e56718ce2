"""Every command line in the documents, and every one that `pos-sync dev` prints, run as it is printed."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from app.cli.dev_setup import NAME
from app.storage.embedded_postgres import EmbeddedPostgres
from tests.support.demo import developing, run_script
from tests.support.service import free_port

ROOT = Path(__file__).parents[2]
# In this order, on one demonstration: what one page leaves, the next goes on with.
PAGES = ["README.md", "docs/configuration.md", "docs/deploying.md", "docs/operating.md", "docs/seals.md", "docs/page.md"]
_ALL = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("proof/*.md")]
OTHERS = sorted({str(page.relative_to(ROOT)) for page in _ALL} - {*PAGES})
_BLOCK = re.compile(
    r"^ *(?:<!-- (?P<how>run|not run): (?P<why>[^>]+) -->\n *)?```(?P<language>\w*)\n(?P<text>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)
_STATUS = re.compile(r"^(?P<line>.*?)\s+# status (?P<status>\d)$")
_NO_COMMANDS = {"mermaid", "nginx", "yaml"}
# Marks of work that is to follow. Each has one letter in brackets, so that this file does not hold them itself.
_UNFINISHED = re.compile("PLACEHOLDE[R]|TOD[O]|TB[D]|FIXM[E]")


@dataclass(frozen=True)
class Block:
    """A block of commands; `how` and `why` are those of the comment before it."""

    page: str
    language: str
    text: str
    how: str | None
    why: str | None


def blocks_of(page: str) -> Iterator[Block]:
    for found in _BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        if found["language"] not in _NO_COMMANDS:
            yield Block(page, found["language"], found["text"], found["how"], found["why"])


def as_script(text: str) -> str:
    """The block for a shell that stops at the first failure; a line that says its status has to end with that one."""
    lines = []
    for line in text.splitlines():
        said = _STATUS.match(line)
        lines.append(f"status=0; {said['line']} || status=$?; [ $status = {said['status']} ]" if said else line)
    return "\n".join(lines)


@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("curl") is None, reason="needs bash and curl")
@pytest.mark.timeout(300)
@pytest.mark.slow
async def test_every_command_works_as_it_is_printed(tmp_path: Path) -> None:
    data = tmp_path / ".data"
    # Pages name files of the project by their paths.
    (tmp_path / "app").symlink_to(ROOT / "app")
    with developing(data, free_port()) as (_, log):
        owner = EmbeddedPostgres(data).url(NAME)
        connection = await asyncpg.connect(owner)
        await connection.execute("CREATE ROLE pos_sync")  # As docs/deploying.md says.
        await connection.close()
        printed = log.read_text().partition("second terminal")[2].partition("The service is at")[0].splitlines()[2:]
        assert len(printed) > 5
        for line in [*printed, *(block for page in PAGES for block in blocks_of(page))]:
            block = Block("make run", "sh", line, None, None) if isinstance(line, str) else line
            if block.how == "not run":
                continue
            if block.language == "sql":
                connection = await asyncpg.connect(owner)
                await connection.execute(block.text)
                await connection.close()
                continue
            done = run_script(as_script(block.text), tmp_path, **({"DATABASE_URL": owner} if block.why == "owner" else {}))
            assert done.returncode == 0, f"{block.page}:\n{block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
def test_nothing_is_left_to_be_written(page: str) -> None:
    assert not _UNFINISHED.search((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
def test_a_block_is_run_or_says_why_not(page: str) -> None:
    for block in blocks_of(page):
        assert block.language in {"sh", "sql"}, f"{page}: a block that is neither run nor known to be no command:\n{block.text}"
        if block.how == "not run":
            assert block.why, block
        elif page in OTHERS:
            raise AssertionError(f"{page} is not among the pages that are run:\n{block.text}")
