"""Checks everything that must be right for the promise to hold, and says what is wrong and what to do."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx2
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.doctor.check import Check, Verdict, not_looked_at
from app.doctor.problems import examine_problems
from app.doctor.schema import examine_encryption, examine_guards, examine_owner, examine_rights, examine_schema
from app.doctor.standby import examine_standby
from app.doctor.stock import examine_dates, examine_indexes, examine_invariants
from app.errors.requests import NotSigned
from app.failure import reason_of_call
from app.mipos.answers import NeedsHuman, Transient, attributed
from app.mipos.client import MiposClient, beginning_of
from app.mipos.wiring import account_of, tokens_of, why_not_registering
from app.operations.clock import MAX_SKEW, skew_of
from app.receiving.ping import doctor_ping_body
from app.receiving.signature import HEADER
from app.scope import WEBHOOK_PATH
from app.settings import Settings
from app.stock.text import DATE_FORMAT
from app.storage.durability import Standbys, read_standbys
from app.storage.engine import POOL_SIZE, unreachable
from app.storage.levels import Server, describe_server, last_clocks
from app.storage.mipos_account import STOCK_WEBHOOK, RegistrationState, read_registration
from app.storage.transactions import LOCK_SECONDS, NOT_LET_IN, NOT_LET_IN_REMEDY, sqlstate

MIN_POSTGRES, MAX_POSTGRES = 14, 18
UNUSABLE_SKEW = timedelta(seconds=30)
MAX_SENDER_SKEW = timedelta(hours=26)
"""mipOS's `now` has no zone: within a day's worth of zones nothing can be told from it."""
PROBE_SECONDS = 10
PROXY_SECONDS = 10
"""proxy_read_timeout of deploy/nginx/pos-sync.conf"""
MARGIN_SECONDS = 1

__all__ = ["Check", "Verdict", "examine"]


async def examine(settings: Settings, engine: AsyncEngine, *, workers: int) -> AsyncIterator[Check]:
    """Every check, as each is done; the slow ones come last. Changes nothing but, where needed, the stored token."""
    yield Check("settings", Verdict.OK, "can be used")
    is_set_up, skew = False, timedelta()
    try:
        async with engine.connect() as connection:
            asked = datetime.now(UTC)
            server = await describe_server(connection)
            skew = skew_of(server.now, asked=asked, answered=datetime.now(UTC))
            yield _examine_version(server)
            schema = await examine_schema(connection)
            yield schema
            is_set_up = schema.verdict is Verdict.OK
            yield _examine_durability(server, await read_standbys(connection))
            yield await examine_encryption(connection, settings)
            yield _examine_connections(server, settings, workers=workers)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        code = sqlstate(error)
        cause = getattr(error, "orig", None) or error
        reason = f"refuses this service ({code})" if code else unreachable(settings.database_address, cause)
        way_in = "Check DATABASE_URL, that Postgres runs, and that it lets this machine and role in."
        remedy = NOT_LET_IN_REMEDY if code == NOT_LET_IN else way_in
        yield Check("database", Verdict.FAILED, reason, remedy)
        for name in ("schema", "durability", "encryption", "connections"):
            yield Check(name, Verdict.SKIPPED, "needs the database")
    yield _examine_timeouts(settings)
    if is_set_up:
        yield await _guarded("rights", engine, examine_rights)
        yield await _guarded("owner", engine, examine_owner)
        yield await _guarded("guards", engine, examine_guards)
        yield await _guarded("invariants", engine, examine_invariants)
        yield await _guarded("indexes", engine, examine_indexes)
        yield await _guarded("dates", engine, examine_dates)
        yield await _guarded("clock", engine, partial(_examine_clock, skew=skew))
        yield await _guarded("registration", engine, partial(_examine_registration, settings=settings))
        yield await _examine_token(settings, engine)
        async for check in examine_problems(settings, engine):
            yield check
    else:
        for name in ("rights", "owner", "guards", "invariants", "indexes", "dates", "clock", "registration", "token", "problems"):
            yield Check(name, Verdict.SKIPPED, "needs a database with the schema")
    if settings.standby_address is not None:
        yield await examine_standby(settings, settings.standby_address, engine)
    yield await _examine_mipos(settings)
    yield await _examine_public_url(settings)


async def _guarded(name: str, engine: AsyncEngine, examine_it: Callable[[AsyncConnection], Awaitable[Check]]) -> Check:
    """One check on a connection of its own: what it cannot look at is a finding, and no end of the others."""
    try:
        async with engine.connect() as connection:
            return await examine_it(connection)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        return not_looked_at(name, error)


def _examine_version(server: Server) -> Check:
    if MIN_POSTGRES <= server.version_number // 10000 <= MAX_POSTGRES:
        return Check("database", Verdict.OK, f"Postgres {server.version}")
    wanted = f"Use Postgres {MIN_POSTGRES} to {MAX_POSTGRES}."
    return Check("database", Verdict.WARNING, f"Postgres {server.version} was never tried", wanted)


def _examine_durability(server: Server, standbys: Standbys) -> Check:
    durable = {"fsync": server.fsync, "full_page_writes": server.full_page_writes}
    off = [name for name, value in durable.items() if value == "off"]
    if off:
        reason = f"{', '.join(off)} off: what was answered 204 can be lost with the machine"
        return Check("durability", Verdict.FAILED, reason, "Switch it on in postgresql.conf.")
    if server.is_in_recovery:
        return Check("durability", Verdict.FAILED, "this server is a standby", "Point DATABASE_URL to the primary.")
    if standbys.fault is not None:
        remedy = "Replicate synchronously (docs/deploying.md), or accept it."
        return Check("durability", Verdict.WARNING, standbys.fault, remedy)
    if server.synchronous_commit in ("off", "local"):
        reason = f"synchronous_commit is {server.synchronous_commit}; the service raises it to on for itself"
        remedy = "Set it to on in postgresql.conf, for what else writes here, such as a POS that calls record_movement."
        return Check("durability", Verdict.WARNING, reason, remedy)
    if standbys.number and standbys.are_waited_for:
        return Check("durability", Verdict.OK, "a commit survives a crash, and waits for a standby")
    return Check("durability", Verdict.OK, "a commit survives a crash")


WRITERS_AND_LISTENERS = 3
"""Connections of a worker outside its pools: to write, to be told of messages, to look whether the server answers."""


PAGE_POOLS = 2
"""Of the page: one for what is shown, one for jobs"""


def _examine_connections(server: Server, settings: Settings, *, workers: int) -> Check:
    # Readiness and the background tasks, and the comparing of drift.
    pools = 2 + bool(settings.pos_keys) + (settings.sync_every is not None) + PAGE_POOLS * settings.has_page
    standbys = bool(settings.pos_keys) + settings.has_page if settings.database_read_url is not None else 0
    lookers = WRITERS_AND_LISTENERS + standbys
    wanted = workers * (lookers + pools * POOL_SIZE)
    users = "1 worker uses" if workers == 1 else f"{workers} workers use"
    reason = f"{users} up to {wanted} of {server.max_connections}; more replicas, more of them"
    if settings.database_pooler == "none" and wanted > server.max_connections // 2:
        return Check("connections", Verdict.WARNING, reason, "Use fewer workers, or PgBouncer (docs/deploying.md).")
    return Check("connections", Verdict.OK, reason)


def _examine_timeouts(settings: Settings) -> Check:
    """Each has to end before the one around it does, or what is around it answers first, in its own words."""
    deadline = settings.response_deadline
    reason = f"a lock is waited for {LOCK_SECONDS:g} s, a delivery answered within {deadline:g} s"
    if deadline <= 2 * LOCK_SECONDS:
        return Check("timeouts", Verdict.WARNING, reason, "Raise RESPONSE_DEADLINE: one held row would use it up.")
    if deadline + MARGIN_SECONDS > PROXY_SECONDS:
        remedy = f"Lower RESPONSE_DEADLINE, or raise the proxy's read timeout (the shipped one's is {PROXY_SECONDS} s)."
        return Check("timeouts", Verdict.WARNING, reason, remedy)
    return Check("timeouts", Verdict.OK, reason)


async def _examine_clock(connection: AsyncConnection, *, skew: timedelta) -> Check:
    if abs(skew) > MAX_SKEW:
        verdict = Verdict.FAILED if abs(skew) > UNUSABLE_SKEW else Verdict.WARNING
        reason = f"this machine and Postgres differ by {abs(skew).total_seconds():.0f} s"
        return Check("clock", verdict, reason, "Synchronise both clocks (NTP).")
    clocks = await last_clocks(connection)
    if clocks is not None:
        sent_at_text, received_at = clocks
        try:
            sent_at = datetime.strptime(sent_at_text, DATE_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            return Check("clock", Verdict.OK, "as Postgres's; mipOS's is in a form that we do not know")
        if abs(received_at - sent_at) > MAX_SENDER_SKEW:
            reason = f"the latest delivery was sent at {sent_at_text}, and received at {received_at:{DATE_FORMAT}} UTC"
            return Check("clock", Verdict.WARNING, reason, "An old movement sent again, or a clock of mipOS that is wrong.")
    return Check("clock", Verdict.OK, "as Postgres's")


async def _examine_mipos(settings: Settings) -> Check:
    """Any answer will do: what it says is the next checks' business."""
    try:
        async with (
            asyncio.timeout(PROBE_SECONDS),
            httpx2.AsyncClient(timeout=PROBE_SECONDS) as client,
            client.stream("GET", settings.mipos_base_url),
        ):
            pass
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        remedy = "Check MIPOS_BASE_URL, and the way out of this machine. The service tries again by itself."
        reason = f"{settings.mipos_base_url} cannot be reached ({reason_of_call(error)})"
        return Check("mipOS", Verdict.FAILED, reason, remedy)
    return Check("mipOS", Verdict.OK, f"{settings.mipos_base_url} answers")


async def _examine_token(settings: Settings, engine: AsyncEngine) -> Check:
    if not settings.has_mipos_account:
        remedy = "Set MIPOS_CLIENT_ID, MIPOS_EMAIL and MIPOS_PASSWORD, or MIPOS_ACCESS_TOKEN."
        return Check("token", Verdict.WARNING, "no mipOS account is set: only receiving works", remedy)
    if settings.mipos_access_token is not None:
        return Check("token", Verdict.OK, "given by MIPOS_ACCESS_TOKEN; only a call can tell whether mipOS takes it")
    try:
        async with MiposClient(settings.mipos_base_url) as client:
            token = await tokens_of(settings, engine, client).get()
    except (OSError, SQLAlchemyError) as error:
        return not_looked_at("token", error)
    match token:
        case SecretStr():
            return Check("token", Verdict.OK, "mipOS has given one, or it is still good")
        case Transient(words):
            return Check("token", Verdict.FAILED, words, "The service tries again by itself; if it lasts, ask mipOS.")
        case NeedsHuman(words):
            remedy = "Check MIPOS_CLIENT_ID, MIPOS_CLIENT_SECRET, MIPOS_EMAIL and MIPOS_PASSWORD."
            return Check("token", Verdict.FAILED, attributed(words), remedy)


_REGISTER = "Correct what is said there, if it is ours to correct. Then run: pos-sync register"


async def _examine_registration(connection: AsyncConnection, *, settings: Settings) -> Check:
    registration = await read_registration(connection, STOCK_WEBHOOK)
    why_not = why_not_registering(settings)
    if settings.public_url is None:
        return Check("registration", Verdict.WARNING, "PUBLIC_URL is not set", "Set it to where mipOS reaches this service.")
    ours = f"{settings.public_url}{WEBHOOK_PATH}"
    if registration is None:
        reason = why_not or "not tried yet"
        return Check("registration", Verdict.WARNING, reason, "Start the service, or run: pos-sync register")
    if registration.registered_url != ours or registration.account != account_of(settings):
        known = f"mipOS has taken {registration.registered_url}" if registration.registered_url else "mipOS has taken none yet"
        reason = f"{known}, ours is {ours}. {attributed(registration.words)}"
        return Check("registration", Verdict.FAILED, reason, _REGISTER)
    if registration.state is not RegistrationState.REGISTERED:
        return Check("registration", Verdict.FAILED, attributed(registration.words), _REGISTER)
    if not ours.startswith("https://"):
        return Check("registration", Verdict.WARNING, f"{ours} is not https", "Put a proxy with TLS before it.")
    return Check("registration", Verdict.OK, f"mipOS has {ours}")


async def _examine_public_url(settings: Settings) -> Check:
    """A wrongly signed ping, sent the way that mipOS comes, has to be refused in our own words."""
    if settings.public_url is None:
        return Check("public URL", Verdict.SKIPPED, "PUBLIC_URL is not set")
    url = f"{settings.public_url}{WEBHOOK_PATH}"
    headers = {"Content-Type": "application/json", HEADER: "0" * 64}
    body = doctor_ping_body(settings.mipos_client_secret.get_secret_value().encode("ascii"), now=time.time())
    remedy = "Check DNS, TLS, the proxy and its upstream (docs/deploying.md)."
    try:
        async with (
            asyncio.timeout(PROBE_SECONDS),
            httpx2.AsyncClient(timeout=PROBE_SECONDS) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            beginning = await beginning_of(answer)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        return Check("public URL", Verdict.FAILED, f"{url} cannot be reached ({reason_of_call(error)})", remedy)
    if answer.status_code != NotSigned.status:
        reason = f"{url} answers {answer.status_code} where this service answers {int(NotSigned.status)}"
        return Check("public URL", Verdict.FAILED, reason, remedy)
    if NotSigned().message.encode() not in beginning:
        return Check("public URL", Verdict.FAILED, f"{url} is answered by something else", remedy)
    return Check("public URL", Verdict.OK, f"{url} reaches this service")
