"""Traces by OpenTelemetry, the extra `tracing`: spans for a delivery or call of the POS, its commit, and the stock updates of it.

Off, there is no `Tracing`, and nobody has to do more than see that. A span holds ids and outcomes: never a body, a parameter of a
statement, or baggage. What comes from outside is one trace id and one span id; whether it is sampled is decided here.
"""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

VARIABLES_PREFIX = "OTEL_"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACEPARENT = "traceparent"
_HEADER = TRACEPARENT.encode("ascii")
# Version 00 of W3C's Trace Context; of a later one its first four fields are the same.
_SHAPE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1
CLOSE_SECONDS = 2.0
"""For the last spans to get away when the service stops"""


class Span:
    """What is being done. `traceparent` names it to others; None where it is not sampled."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Any) -> None:  # noqa: ANN401 - of a library that may not be there
        self._span = span
        context = span.get_span_context()
        is_sampled = context.trace_flags & _SAMPLED
        self.traceparent: str | None = f"00-{context.trace_id:032x}-{context.span_id:016x}-01" if is_sampled else None

    def tell(self, **attributes: str | int | None) -> None:
        """Add what is known of it; None is left out."""
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(f"pos_sync.{name}", value)


class Tracing:
    """Makes spans, and gives them to an exporter. `sample` is the share of deliveries and messages that are traced."""

    def __init__(self, sample: float) -> None:
        # Here and not above: an installation without the extra has no such modules.
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

        self._sample = sample
        self._api = trace
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before our own name.
        resource = Resource({"service.name": "pos-sync"}).merge(OTELResourceDetector().detect())
        # What is not to be sampled is never begun.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(span_processor())
        self._tracer = self._provider.get_tracer("pos_sync")

    @contextmanager
    def delivery(self, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Span]:
        """The receipt of a verified delivery, below the span of the sender where `headers` name one."""
        with self._receipt("delivery", headers) as span:
            yield span

    @contextmanager
    def call(self, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Span]:
        """A call of the POS whose key is right, below the span of the caller where `headers` name one."""
        with self._receipt("POS call", headers) as span:
            yield span

    @contextmanager
    def _receipt(self, name: str, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Span]:
        given = [value for header, value in headers if header == _HEADER]
        parent = self._context(str(given[0], "latin-1")) if len(given) == 1 else None
        with self._span(name, self._api.SpanKind.SERVER, is_sampled=self._is_chosen(), parent=parent) as span:
            yield span

    @contextmanager
    def commit(self, receipts: Sequence[str | None]) -> Iterator[None]:
        """The transaction of a batch, with a link to each receipt that is traced; none where none is."""
        traced = [receipt for receipt in receipts if receipt is not None]
        with self._span("commit", self._api.SpanKind.CLIENT, is_sampled=bool(traced), links=traced) as span:
            span.tell(batch_size=len(receipts))
            yield

    @contextmanager
    def send(self, receipt: str | None) -> Iterator[Span]:
        """The sending of one message, with a link to the receipt of what it tells."""
        is_sampled = receipt is not None or self._is_chosen()
        with self._span("stock update", self._api.SpanKind.CLIENT, is_sampled=is_sampled, links=[receipt]) as span:
            yield span

    def close(self) -> None:
        """Let the last spans get away, for a moment."""
        # Of its own, since the exporter may wait for much longer.
        thread = Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)

    def _is_chosen(self) -> bool:
        return random.random() < self._sample  # noqa: S311 - a sample

    @contextmanager
    def _span(
        self,
        name: str,
        kind: Any,  # noqa: ANN401 - of a library that may not be there
        *,
        is_sampled: bool,
        parent: Any = None,  # noqa: ANN401
        links: Sequence[str | None] = (),
    ) -> Iterator[Span]:
        if not is_sampled:
            yield Span(self._api.INVALID_SPAN)
            return
        # A context of its own: whatever is current in this task is none of ours.
        context = self._api.set_span_in_context(self._api.NonRecordingSpan(parent or self._api.INVALID_SPAN_CONTEXT), _empty())
        contexts = [found for link in links if link is not None and (found := self._context(link)) is not None]
        span = self._tracer.start_span(
            name, context=context, kind=kind, links=[self._api.Link(one) for one in contexts], record_exception=False
        )
        try:
            yield Span(span)
        except BaseException as error:
            # Its type alone: the text of an error may hold a parameter.
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(self._api.StatusCode.ERROR)
            raise
        finally:
            span.end()

    def _context(self, traceparent: str) -> Any:  # noqa: ANN401
        found = _SHAPE.fullmatch(traceparent)
        if found is None:
            return None
        trace_id, span_id, _ = found.groups()
        flags = self._api.TraceFlags(_SAMPLED)
        return self._api.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)


def _empty() -> Any:  # noqa: ANN401
    from opentelemetry.context import Context  # noqa: PLC0415

    return Context()


def span_processor() -> "SpanProcessor":
    """Sends spans by OTLP over HTTP, in a thread of its own. The SDK's variables (OTEL_EXPORTER_OTLP_ENDPOINT) say where."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return BatchSpanProcessor(OTLPSpanExporter())
