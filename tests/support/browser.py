"""A real browser at the operator page: Debian's Chromium, steered by playwright, watched for all that goes wrong."""

import importlib.util
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")
MISSING = (
    "no browser: apt-get install chromium"
    if CHROMIUM is None
    else "no playwright: make .venv/browser-installed"
    if importlib.util.find_spec("playwright") is None
    else ""
)
_REFUSAL = "Failed to load resource: the server responded with a status of"
_NUMBER = re.compile("[0-9a-f]{32}|[0-9]+")
needs_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@dataclass
class Window:
    """A browser window, and what its console and its policies complained of."""

    page: Any
    base: str
    complaints: list[str] = field(default_factory=list)
    runs_scripts: bool = True
    has_axe: bool = True
    """Whether axe looks at its pages. Whether they are too wide is always looked at."""
    faults: list[str] = field(default_factory=list)
    """What is wrong with the pages that were looked at"""
    _seen: set[tuple[str, str, bool]] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)

    async def open(self, path: str, *, status: int = 200) -> None:
        if status >= HTTPStatus.BAD_REQUEST:
            self._refused.add(f"{self.base}{path}")
        answer = await self.page.goto(f"{self.base}{path}")
        assert answer is not None
        assert status == answer.status, (path, answer.status)

    def hear(self, said: Any) -> None:
        """Of the console; it complains of the status of a page that was to be refused too."""
        was_to_be = said.text.startswith(_REFUSAL) and said.location["url"] in self._refused
        if said.type in {"error", "warning"} and not was_to_be:
            self.complaints.append(said.text)

    async def look(self) -> None:
        """Note what is wrong with this page."""
        self.faults += [f"{self.page.url.removeprefix(self.base)}: {one}" for one in await self.violations()]

    async def shows(self, *words: str) -> None:
        """This page says so; the first page of its kind is looked at."""
        text = await self.text()
        assert not [one for one in words if one not in text], (words, text)
        path = urlsplit(self.page.url).path
        kind = (_NUMBER.sub("N", path), _NUMBER.sub("N", await self.page.title()), await self.page.locator(".done").count() > 0)
        if kind not in self._seen:
            self._seen.add(kind)
            await self.look()

    async def press(self, words: str) -> None:
        """The button, or else the link, with these words."""
        button = self.page.get_by_role("button", name=words, exact=True)
        if await button.count():
            await button.first.click()
        else:
            await self.page.get_by_role("link", name=words, exact=True).first.click()
        await self.page.wait_for_load_state()

    async def fill(self, label: str, text: str) -> None:
        await self.page.get_by_label(re.compile(f"^{re.escape(label)}")).first.fill(text)

    async def reload_until(self, words: str) -> None:
        """The page refreshes itself too, but seldom."""
        while words not in await self.text():
            await self.page.reload()

    async def text(self) -> str:
        return re.sub(r"\s+", " ", await self.page.inner_text("body"))

    async def violations(self) -> list[str]:
        """What axe-core finds, and whether the page is wider than the window."""
        found = []
        if await self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append("wider than the window")
        if self.runs_scripts and self.has_axe:
            await self.page.evaluate(axe())
            violations = await self.page.evaluate("axe.run().then(result => result.violations)")
            found += [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in violations]
        return found


def axe() -> str:
    """axe-core, from the package that brings it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """The browser."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - absent where no browser is wanted

    async with async_playwright() as started:
        # As root, as CI is, Chromium has no sandbox of its own.
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(  # noqa: PLR0913 - how it looks
    browser: Any, base: str, *, width: int, scheme: str = "light", runs_scripts: bool = True, language: str = "en"
) -> AsyncIterator[Window]:
    """A window of this width. What it complains of fails the test in the end."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=runs_scripts,
        locale=language,
        timezone_id="America/Guayaquil",
    )
    page = await context.new_page()
    opened = Window(page, base, runs_scripts=runs_scripts)
    page.on("console", opened.hear)
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    # One that was under way when the person went on is no complaint.
    page.on(
        "requestfailed",
        lambda request: (
            None if "ERR_ABORTED" in str(request.failure) else opened.complaints.append(f"{request.url}: {request.failure}")
        ),
    )
    try:
        yield opened
    finally:
        await context.close()
    assert [] == opened.complaints
    assert [] == opened.faults


async def log_in(opened: Window, *, password: str, name: str = "Ana") -> None:
    """As a person does."""
    await opened.open("/ui/login")
    await opened.page.get_by_label(re.compile("^(Your name|Su nombre)")).fill(name)
    await opened.page.get_by_label(re.compile("^(Password|Contraseña)")).fill(password)
    await opened.page.locator("button.main").click()
    await opened.page.wait_for_load_state()
