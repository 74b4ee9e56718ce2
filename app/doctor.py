"""Everything that has to be right for the promise to hold, looked at one by one: what is wrong, and what to do."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import httpx2
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import NotSigned
from app.mipos.answers import NeedsHuman, Transient
from app.mipos.client import MiposClient
from app.mipos.wiring import tokens_of, why_not_registering
from app.receiving.middleware import WEBHOOK_PATH
from app.receiving.sender import DATE_FORMAT, DOCUMENTED_MOVEMENT, php_json
from app.receiving.signature import HEADER
from app.settings import Settings
from app.storage import registrations
from app.storage.engine import POOL_SIZE
from app.storage.levels import broken_invariants
from app.storage.migrating import current_revision, fault_in_revision
from app.storage.registrations import State
from app.storage.summaries import Server, describe_server, last_clocks
from app.storage.writer import session_limits

OLDEST_POSTGRES, NEWEST_POSTGRES = 14, 18
LARGEST_SKEW = timedelta(seconds=30)
LARGEST_SENDER_SKEW = timedelta(hours=26)
"""mipOS's `now` has no zone: within a day's worth of zones nothing can be told from it."""
PROBE_SECONDS = 10


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Could not be looked at, because of something said before."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `remedy` says what to do where `verdict` is not ok."""

    name: str
    verdict: Verdict
    reason: str
    remedy: str = ""


async def examine(settings: Settings, engine: AsyncEngine, *, workers: int) -> AsyncIterator[Check]:
    """Every check, as each is done; the slow ones come last. Changes nothing but, where needed, the stored token."""
    yield Check("settings", Verdict.OK, "can be used")
    try:
        async with engine.connect() as connection:
            async for check in _examine_database(connection, settings, workers=workers):
                yield check
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        remedy = "Check DATABASE_URL, and that Postgres runs and lets this machine and role in."
        yield Check("database", Verdict.FAILED, f"does not answer ({type(error).__name__})", remedy)
        for name in ("schema", "durability", "rights", "connections", "timeouts", "invariants", "clock", "token", "registration"):
            yield Check(name, Verdict.SKIPPED, "needs the database")
    else:
        yield await _examine_token(settings, engine)
        yield await _examine_registration(settings, engine)
    yield await _examine_mipos(settings)
    yield await _examine_public_url(settings)


async def _examine_database(connection: AsyncConnection, settings: Settings, *, workers: int) -> AsyncIterator[Check]:
    server = await describe_server(connection)
    yield _examine_version(server)
    revision = await current_revision(connection)
    fault = fault_in_revision(revision)
    if fault is not None:
        reason, _, remedy = fault.rpartition(". ")
        yield Check("schema", Verdict.FAILED, reason, remedy)
        for name in ("durability", "rights", "connections", "timeouts", "invariants", "clock"):
            yield Check(name, Verdict.SKIPPED, "needs the schema")
        return
    yield Check("schema", Verdict.OK, f"at revision {revision}")
    yield _examine_durability(server)
    yield await _examine_rights(connection)
    yield _examine_connections(server, settings, workers=workers)
    yield await _examine_timeouts(connection, settings)
    yield await _examine_invariants(connection)
    yield await _examine_clock(connection, server.now)


def _examine_version(server: Server) -> Check:
    if OLDEST_POSTGRES <= server.version_number // 10000 <= NEWEST_POSTGRES:
        return Check("database", Verdict.OK, f"Postgres {server.version}")
    wanted = f"Use Postgres {OLDEST_POSTGRES} to {NEWEST_POSTGRES}."
    return Check("database", Verdict.WARNING, f"Postgres {server.version} was never tried", wanted)


def _examine_durability(server: Server) -> Check:
    durable = {
        "fsync": server.fsync,
        "full_page_writes": server.full_page_writes,
        "synchronous_commit": server.synchronous_commit,
    }
    off = [name for name, value in durable.items() if value == "off"]
    if off:
        reason = f"{', '.join(off)} off: what was answered 204 can be lost with the machine"
        return Check("durability", Verdict.FAILED, reason, "Switch it on in postgresql.conf.")
    if server.is_in_recovery:
        return Check("durability", Verdict.FAILED, "this server is a standby", "Point DATABASE_URL to the primary.")
    return Check("durability", Verdict.OK, "a commit survives a crash")


def _examine_connections(server: Server, settings: Settings, *, workers: int) -> Check:
    wanted = workers * (1 + POOL_SIZE)
    reason = f"{workers} workers use up to {wanted} of {server.max_connections}; more replicas, more of them"
    if settings.database_pooler == "none" and wanted > server.max_connections // 2:
        return Check("connections", Verdict.WARNING, reason, "Use fewer workers, or PgBouncer (docs/deploying.md).")
    return Check("connections", Verdict.OK, reason)


async def _examine_timeouts(connection: AsyncConnection, settings: Settings) -> Check:
    for statement in session_limits(settings.response_deadline, scope="LOCAL").split(";"):
        await connection.execute(text(statement))
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    shown = [f"{name} {await connection.scalar(text(f'SHOW {name}'))}" for name in names]
    # They were for this transaction only: the sums that follow may take longer than a delivery.
    await connection.rollback()
    return Check("timeouts", Verdict.OK, f"for deliveries: {', '.join(shown)}")


async def _examine_invariants(connection: AsyncConnection) -> Check:
    broken = await broken_invariants(connection)
    if broken:
        reason = "; ".join(f"{name}, in {count} places" for name, count in broken.items())
        return Check("invariants", Verdict.FAILED, reason, "Something wrote to the tables past this service: docs/operating.md.")
    return Check("invariants", Verdict.OK, "every level is the sum of its ledger")


async def _examine_rights(connection: AsyncConnection) -> Check:
    query = (
        "SELECT current_user, has_table_privilege('stock_movement', 'UPDATE') OR has_table_privilege('stock_movement', 'DELETE')"
    )
    role, has_more = (await connection.execute(text(query))).one()
    if has_more:
        remedy = "Let the service use a role of its own: pos-sync migrate --grant-to ROLE."
        return Check("rights", Verdict.WARNING, f"role {role} may do more than the service needs", remedy)
    return Check("rights", Verdict.OK, f"role {role} can add to the ledger and not change it")


async def _examine_clock(connection: AsyncConnection, database_now: datetime) -> Check:
    skew = abs(datetime.now(UTC) - database_now)
    if skew > LARGEST_SKEW:
        reason = f"this machine and Postgres differ by {skew.total_seconds():.0f} s"
        return Check("clock", Verdict.FAILED, reason, "Synchronise both clocks (NTP).")
    clocks = await last_clocks(connection)
    if clocks is not None:
        sent_text, received_at = clocks
        try:
            sent_at = datetime.strptime(sent_text, DATE_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            return Check("clock", Verdict.OK, "as Postgres's; mipOS's is in a form that we do not know")
        if abs(received_at - sent_at) > LARGEST_SENDER_SKEW:
            reason = f"the latest delivery was sent at {sent_text}, and received at {received_at:%Y-%m-%d %H:%M:%S} UTC"
            return Check("clock", Verdict.WARNING, reason, "An old movement sent again, or a clock of mipOS that is wrong.")
    return Check("clock", Verdict.OK, "as Postgres's")


async def _examine_mipos(settings: Settings) -> Check:
    """Any answer will do: what it says is the next checks' business."""
    try:
        async with httpx2.AsyncClient(timeout=PROBE_SECONDS) as client:
            await client.get(settings.mipos_base_url)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        remedy = "Check MIPOS_BASE_URL, and the way out of this machine. The service tries again by itself."
        return Check("mipOS", Verdict.FAILED, f"{settings.mipos_base_url} cannot be reached ({type(error).__name__})", remedy)
    return Check("mipOS", Verdict.OK, f"{settings.mipos_base_url} answers")


async def _examine_token(settings: Settings, engine: AsyncEngine) -> Check:
    if not settings.has_mipos_account:
        remedy = "Set MIPOS_CLIENT_ID, MIPOS_EMAIL and MIPOS_PASSWORD, or MIPOS_ACCESS_TOKEN."
        return Check("token", Verdict.WARNING, "no mipOS account is set: only receiving works", remedy)
    if settings.mipos_access_token is not None:
        return Check("token", Verdict.OK, "given by MIPOS_ACCESS_TOKEN; only a call can tell whether mipOS takes it")
    async with MiposClient(settings.mipos_base_url) as client:
        token = await tokens_of(settings, engine, client).get()
    match token:
        case SecretStr():
            return Check("token", Verdict.OK, "mipOS has given one, or it is still good")
        case Transient(words):
            return Check("token", Verdict.FAILED, words, "The service tries again by itself; if it lasts, ask mipOS.")
        case NeedsHuman(words):
            remedy = "Check MIPOS_CLIENT_ID, MIPOS_CLIENT_SECRET, MIPOS_EMAIL and MIPOS_PASSWORD."
            return Check("token", Verdict.FAILED, f"mipOS says: {words}", remedy)


async def _examine_registration(settings: Settings, engine: AsyncEngine) -> Check:
    async with engine.connect() as connection:
        if fault_in_revision(await current_revision(connection)) is not None:
            return Check("registration", Verdict.SKIPPED, "needs the schema")
        registration = await registrations.read(connection, registrations.STOCK_WEBHOOK)
    why_not = why_not_registering(settings)
    if settings.public_url is None:
        return Check("registration", Verdict.WARNING, "PUBLIC_URL is not set", "Set it to where mipOS reaches this service.")
    ours = f"{settings.public_url}{WEBHOOK_PATH}"
    if registration is None:
        reason = why_not or "not tried yet"
        return Check("registration", Verdict.WARNING, reason, "Start the service, or run: pos-sync register")
    if registration.registered_url != ours:
        reason = f"mipOS has {registration.registered_url or 'none'}, ours is {ours}; it said: {registration.words}"
        return Check("registration", Verdict.FAILED, reason, "Run: pos-sync register")
    if registration.state is not State.REGISTERED:
        return Check("registration", Verdict.FAILED, f"mipOS says: {registration.words}", "Run: pos-sync register")
    if not ours.startswith("https://"):
        return Check("registration", Verdict.WARNING, f"{ours} is not https", "Put a proxy with TLS before it.")
    return Check("registration", Verdict.OK, f"mipOS has {ours}")


async def _examine_public_url(settings: Settings) -> Check:
    """A wrongly signed delivery, sent the way that mipOS comes, has to be refused in our own words."""
    if settings.public_url is None:
        return Check("public URL", Verdict.SKIPPED, "PUBLIC_URL is not set")
    url = f"{settings.public_url}{WEBHOOK_PATH}"
    headers = {"Content-Type": "application/json", HEADER: "0" * 64}
    remedy = "Check DNS, TLS, the proxy and its upstream (docs/deploying.md)."
    try:
        async with httpx2.AsyncClient(timeout=PROBE_SECONDS) as client:
            answer = await client.post(url, content=php_json(DOCUMENTED_MOVEMENT), headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Check("public URL", Verdict.FAILED, f"{url} cannot be reached ({type(error).__name__})", remedy)
    if answer.status_code != NotSigned.status:
        reason = f"{url} answers {answer.status_code} where this service answers {int(NotSigned.status)}"
        return Check("public URL", Verdict.FAILED, reason, remedy)
    if NotSigned().message not in answer.text:
        return Check("public URL", Verdict.FAILED, f"{url} is answered by something else", remedy)
    return Check("public URL", Verdict.OK, f"{url} reaches this service")
