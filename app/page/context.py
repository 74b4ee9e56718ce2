"""What every part of the page works with: one object instead of seven parameters."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import time
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.page.access import Access
from app.page.jobs import Jobs
from app.page.reader import PageReader
from app.page.rendering import Renderer
from app.page.visitor import Visitor
from app.settings import Settings
from app.storage.engine import Database


@dataclass(frozen=True, slots=True)
class PageContext:
    """Shared by the routers of the page."""

    settings: Settings
    engine: AsyncEngine
    access: Access
    reader: PageReader
    renderer: Renderer
    jobs: Jobs
    on_recorded: Callable[[], None]
    """Called when something was recorded that other systems have to be told of"""
    database: Database
    """For a use case that needs a connection of its own"""

    @property
    def day_starts(self) -> time:
        """When a day of business begins, in each store's own time."""
        return time.fromisoformat(self.settings.business_day_starts)

    async def show(
        self,
        request: Request,
        visitor: Visitor,
        template: str,
        work: Callable[[AsyncConnection], Awaitable[dict[str, Any]]],
        **more: Any,  # noqa: ANN401 - what a template shows
    ) -> HTMLResponse:
        """A page of what `work` reads."""
        found, age = await self.reader.read(request, work)
        return self.render(request, visitor, template, age=age, **{**more, **found})

    def render(self, request: Request, visitor: Visitor, template: str, **context: Any) -> HTMLResponse:  # noqa: ANN401
        """A page of this template for this visitor."""
        return self.renderer.page(request, template, visitor=visitor, may_act=self.access.may_act(visitor), **context)
