"""Getting into the operator page, and out; and what keeps others out."""

import json
from http.cookies import SimpleCookie

import httpx2
import pytest
from structlog.testing import capture_logs

from app.operations import access_log
from app.page.login import MAX_WAIT
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.page import ORIGIN, PASSWORD, VIEWER_PASSWORD, Person, browsing, person_at
from tests.support.sender import SECRET
from tests.support.service import serving
from tests.support.world import World

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "script-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
}
"""What a browser may load, run and show of an answer: files of the page itself, and nothing that stands in the text"""
BOTH = {"operator_password": PASSWORD, "viewer_password": VIEWER_PASSWORD, "operator_plain_http": True}


async def test_without_a_password_there_is_no_page(client: httpx2.AsyncClient) -> None:
    assert 404 == (await client.get("/ui/")).status_code


async def test_who_is_not_logged_in_is_led_to_the_login_and_back(world: World) -> None:
    async with browsing(settings_for(world, **BOTH)) as client:
        person = Person(client)
        await person.open("/ui/?x=1&y=2")
        assert "/ui/login" in person.url
        await person.send("/ui/login", name="Ana", password=PASSWORD)
        assert (200, "http://pos/ui/?x=1&y=2") == (person.status, person.url)
        assert "Ana (operator)" in person.text
        await person.send("/ui/logout")
        assert "/ui/login" in person.url
        await person.open("/ui/")
        assert "/ui/login" in person.url


async def test_a_session_ends_with_the_logout_for_its_cookie_too(world: World) -> None:
    async with person_at(world) as person:
        cookie = person.client.cookies["pos_sync_page"]
        await person.send("/ui/logout")
        person.client.cookies.set("pos_sync_page", cookie, domain="pos", path="/ui")
        await person.open("/ui/")
        assert "/ui/login" in person.url


async def test_a_new_password_ends_the_sessions_of_the_old_one(world: World) -> None:
    async with person_at(world) as person:
        cookie = person.client.cookies["pos_sync_page"]
    async with browsing(settings_for(world, operator_password="quite-another-one", operator_plain_http=True)) as client:
        client.cookies.set("pos_sync_page", cookie)
        assert 303 == (await client.get("/ui/")).status_code


async def test_a_cookie_is_kept_from_scripts_and_other_sites(world: World) -> None:
    async with browsing(settings_for(world, **BOTH)) as client:
        # As the proxy with TLS says it.
        headers = {"Origin": "https://pos", "X-Forwarded-Proto": "https"}
        answer = await client.post("/ui/login", data={"name": "Ana", "password": PASSWORD}, headers=headers)
        cookie = SimpleCookie(answer.headers["set-cookie"])["pos_sync_page"]
        assert cookie["httponly"]
        assert cookie["secure"]
        assert ("lax", "/ui") == (cookie["samesite"].lower(), cookie["path"])


@pytest.mark.parametrize("path", ["/ui/", "/ui/login", "/ui/nothing", "/ui/static/page.css", "/ui/link/x"])
async def test_each_answer_says_what_a_browser_may_do(world: World, path: str) -> None:
    async with browsing(settings_for(world, **BOTH)) as client:
        answer = await client.get(path)
        assert POLICY == {part.strip() for part in answer.headers["content-security-policy"].split(";")}
        assert ("nosniff", "same-origin") == tuple(answer.headers[name] for name in ("x-content-type-options", "referrer-policy"))
        assert answer.headers["cache-control"] == ("public, max-age=300" if "static" in path else "no-store")


PUBLIC_URL = "https://shop.example.com"
OWN = [
    {"Origin": "http://pos"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://pos", "Sec-Fetch-Site": "same-origin"},
    {"Origin": PUBLIC_URL, "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://other:8080", "Host": "other:8080"},
    {"Origin": "https://pos", "X-Forwarded-Proto": "https"},
]
OF_OTHERS = [
    {},
    {"Origin": "null"},
    {"Origin": "https://pos"},
    {"Origin": "http://pos:8080"},
    {"Origin": "http://pos", "Host": "other"},
    {"Origin": "http://other", "X-Forwarded-Host": "other"},
    {"Origin": PUBLIC_URL.replace("https", "http")},
    {"Origin": f"{PUBLIC_URL}.elsewhere.example"},
    {"Origin": PUBLIC_URL, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://pos", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
]


async def test_a_form_is_taken_from_the_address_of_the_browser_and_from_public_url_and_from_nowhere_else(world: World) -> None:
    data = {"name": "Ana", "password": PASSWORD}
    async with browsing(settings_for(world, public_url=PUBLIC_URL, ping_every="0", **BOTH)) as client:
        for headers in OWN:
            assert 303 == (await client.post("/ui/login", data=data, headers=headers)).status_code, headers
        client.cookies.clear()
        for headers in OF_OTHERS:
            answer = await client.post("/ui/login", data=data, headers=headers)
            assert (400, False) == (answer.status_code, "set-cookie" in answer.headers), headers
    assert len(OWN) == await world.scalar("SELECT count(*) FROM pos_sync.page_session")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}, {**ORIGIN, "Sec-Fetch-Site": "cross-site"}],
)
async def test_a_form_of_another_site_is_refused(world: World, headers: dict[str, str]) -> None:
    async with person_at(world) as person:
        token = person.html.partition('name="form_token" value="')[2].partition('"')[0]
        answer = await person.client.post("/ui/logout", data={"form_token": token}, headers=headers)
        assert 400 == answer.status_code
        await person.open("/ui/")
        assert "Ana (operator)" in person.text


async def test_a_form_of_another_session_is_refused(world: World) -> None:
    async with person_at(world) as one, person_at(world) as other:
        token = other.html.partition('name="form_token" value="')[2].partition('"')[0]
        assert 400 == (await one.client.post("/ui/logout", data={"form_token": token}, headers=ORIGIN)).status_code


async def test_wrong_passwords_are_slowed_and_never_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("app.page.login.pause", sleep)
    async with browsing(settings_for(world, **BOTH)) as client:
        person = Person(client)
        statuses = []
        for _ in range(6):
            await person.log_in(password="not-the-password")
            statuses.append(person.status)
        # Nobody really waited here, so the places lie in the future, and the last ones are told to come later.
        assert {401, 429} == set(statuses)
        assert sorted(waited) == waited
        assert 0 == waited[0] < waited[-1] <= MAX_WAIT
        # Those who were told so made nobody wait for longer.
        for _ in range(20):
            await person.log_in(password="not-the-password")
        assert await world.scalar("SELECT free_at <= now() + interval '8 seconds' FROM pos_sync.page_failure")
        await world.execute("UPDATE pos_sync.page_failure SET free_at = now()")
        await person.log_in(password=VIEWER_PASSWORD)
        assert 1 == await world.scalar("SELECT count(*) FROM pos_sync.page_failure")
        await world.execute("UPDATE pos_sync.page_failure SET free_at = now()")
        await person.log_in()
        assert "Ana (operator)" in person.text
        assert 0 == await world.scalar("SELECT count(*) FROM pos_sync.page_failure")


async def test_failed_logins_are_counted_and_the_log_names_their_network(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_seconds: float) -> None: ...

    monkeypatch.setattr("app.page.login.pause", sleep)
    async with browsing(settings_for(world, **BOTH)) as client:

        async def counted() -> list[str]:
            lines = (await client.get("/metrics")).text.splitlines()
            return [line for line in lines if line.startswith("pos_sync_page_logins_failed_total")]

        person = Person(client)
        before = await counted()
        with capture_logs() as logged:
            for password in ("not-the-password", "nor-this-one-either", PASSWORD):
                await person.log_in(password=password)
        assert "Ana (operator)" in person.text
        assert ["pos_sync_page_logins_failed_total 0.0"] == before
        assert ["pos_sync_page_logins_failed_total 2.0"] == await counted()
    failed = [line for line in logged if line["event"] == "page login failed"]
    assert ["127.0.0.0/24"] * 2 == [line["network"] for line in failed]
    assert all(word not in str(logged) for word in ("not-the-password", PASSWORD))


async def test_a_password_over_plain_http_from_elsewhere_is_refused(world: World) -> None:
    async with running(settings_for(world, operator_password=PASSWORD)) as (app, _):
        # From elsewhere; and from here by another's name, to which somebody may have led a browser of this machine.
        for peer, name in (("192.0.2.7", "localhost"), ("127.0.0.1", "evil.example"), ("127.0.0.1", "localhost")):
            transport = httpx2.ASGITransport(app, client=(peer, 1234))
            async with httpx2.AsyncClient(transport=transport) as client:
                answer = await client.get(f"http://{name}:8080/ui/login")
                is_here = (peer, name) == ("127.0.0.1", "localhost")
                assert (200 if is_here else 403) == answer.status_code
                assert is_here or "OPERATOR_PLAIN_HTTP" in answer.text
                assert 200 == (await client.get(f"https://{name}/ui/login")).status_code


async def test_a_viewer_is_told_so(world: World) -> None:
    async with person_at(world, password=VIEWER_PASSWORD) as person:
        assert "Ana (viewer)" in person.text


@pytest.mark.parametrize("cookie", ["operator.AAAA.ñ", "operator..", "x", "operator.%.%", "viewer.AAAA.AAAA"])
async def test_a_cookie_of_nobody_lets_nobody_in(world: World, cookie: str) -> None:
    async with browsing(settings_for(world, **BOTH)) as client:
        answer = await client.get("/ui/", headers=[(b"cookie", f"pos_sync_page={cookie}".encode())])
        assert 303 == answer.status_code


async def test_the_login_leads_back_to_ids_and_filters_as_they_were(world: World) -> None:
    async with browsing(settings_for(world, **BOTH)) as client:
        for path in ("/ui/stock?q=a%26b%25", "/ui/stores/a%2Fb/items/x%3Fy"):
            person = Person(client)
            await person.open(path)
            await person.send("/ui/login", name="Ana", password=PASSWORD)
            assert person.url.endswith(path)
            await client.get("/ui/login")
            client.cookies.clear()


async def test_a_part_of_a_page_is_never_replaced_by_a_page(world: World) -> None:
    async with browsing(settings_for(world, **BOTH)) as client:
        answer = await client.get("/ui/parts/needs", headers={"HX-Request": "true"})
        assert (204, "/ui/login") == (answer.status_code, answer.headers["hx-redirect"])


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\nb"])
async def test_a_name_has_to_be_one(world: World, name: str) -> None:
    async with person_at(world, name=name) as person:
        assert 422 == person.status


@pytest.mark.parametrize(
    "asked_for", ["//elsewhere.example", "https://elsewhere.example/ui/", "/\\elsewhere", "/uix", "javascript:x"]
)
async def test_the_login_leads_nowhere_else(world: World, asked_for: str) -> None:
    async with browsing(settings_for(world, **BOTH)) as client:
        data = {"name": "Ana", "password": PASSWORD, "asked_for": asked_for}
        answer = await client.post("/ui/login", data=data, headers=ORIGIN)
        assert "/ui/" == answer.headers["location"]


async def make_link(run: Run, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPERATOR_PASSWORD", PASSWORD)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    made = json.loads((await run("page", "link", "--name", "Bea", "--json")).output)
    return str(made["url"]).partition("8080")[2]


async def test_a_link_logs_in_once_and_a_preview_does_not_spend_it(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await make_link(run, monkeypatch)
    assert 0 == await world.scalar(f"SELECT count(*) FROM pos_sync.page_link WHERE link_hash = '{path[9:]}'::bytea")
    async with browsing(settings_for(world, **BOTH)) as client:
        person = Person(client)
        for _ in range(2):
            await person.open(path)
        of_another_site = await client.post(path, headers={"Origin": "https://elsewhere.example"})
        assert (400, None) == (of_another_site.status_code, await world.scalar("SELECT spent_at FROM pos_sync.page_link"))
        await person.send(path)
        assert "Bea (operator)" in person.text
        assert await world.scalar("SELECT spent_at IS NOT NULL FROM pos_sync.page_link")
        await person.send("/ui/logout")
        await person.open(path)
        await person.send(path)
        assert (401, True) == (person.status, "was used, or is too old" in person.text)


@pytest.mark.parametrize(("minutes", "status"), [(14, 200), (15, 401)])
async def test_a_link_lasts_15_minutes(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, minutes: int, status: int
) -> None:
    path = await make_link(run, monkeypatch)
    await world.execute(f"UPDATE pos_sync.page_link SET expires_at = expires_at - interval '{minutes} minutes'")
    async with browsing(settings_for(world, **BOTH)) as client:
        person = Person(client)
        await person.open(path)
        await person.send(path)
        assert (status, status == 200) == (person.status, "Bea (operator)" in person.text)
        assert (status == 401) == ("was used, or is too old" in person.text)


async def test_a_session_lasts_12_hours_and_a_form_of_one_that_is_over_does_nothing(world: World) -> None:
    async with person_at(world) as person:
        data = {"name": "Ana", "password": PASSWORD}
        cookie = SimpleCookie((await person.post("/ui/login", data)).headers["set-cookie"])["pos_sync_page"]
        await person.open("/ui/stores/1/items/avcc123/count?to=3")
        action, fields = person.fields("/ui/stores/1/items/avcc123/stock")
        await world.execute("UPDATE pos_sync.page_session SET expires_at = expires_at - interval '11 hours 59 minutes'")
        await person.open("/ui/stock")
        assert "Ana (operator)" in person.text
        await world.execute("UPDATE pos_sync.page_session SET expires_at = expires_at - interval '1 minute'")
        late = await person.post(action, {**fields, "note": "counted"})
        await person.open("/ui/stock")
    assert str(12 * 60 * 60) == cookie["max-age"]
    assert (401, True) == (late.status_code, "Log in first." in late.text)
    assert person.url.endswith("/ui/login?asked_for=/ui/stock")
    assert [] == await world.ledger()


async def test_a_link_is_in_no_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[object] = []
    monkeypatch.setattr(access_log, "write_line", lambda _level, _event, fields: paths.append(fields["path"]))
    async with browsing(settings_for(world, **BOTH)) as client:
        await client.get("/ui/link/a-secret-of-somebody")
        await client.post("/ui/link/a-secret-of-somebody", headers=ORIGIN)
    assert ["/ui/link/..."] * 2 == paths


async def test_a_link_for_a_page_that_is_off_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    assert "OPERATOR_PASSWORD is not set" in (await run("page", "link", "--name", "Bea")).output


async def test_spanish_is_spoken_to_who_asks_for_it_or_chooses_it(world: World) -> None:
    async with person_at(world) as person:
        person.client.headers["Accept-Language"] = "es-EC,es;q=0.9"
        await person.open("/ui/")
        assert "Requiere atención" in person.text
        await person.send("/ui/language", language="en")
        assert "Needs a person" in person.text


async def test_while_the_database_is_away_only_who_was_logged_in_is_told_so(world: World) -> None:
    async with person_at(world) as person, browsing(settings_for(world, database_url=NOWHERE, **BOTH)) as client:
        assert 303 == (await client.get("/ui/")).status_code
        client.cookies.set("pos_sync_page", person.client.cookies["pos_sync_page"])
        answer = await client.get("/ui/")
        assert (503, "5") == (answer.status_code, answer.headers["retry-after"])
        assert "cannot ask the database" in answer.text


@pytest.mark.parametrize("trusted", ["127.0.0.1", "192.0.2.1"])
async def test_a_header_names_somebody_only_where_the_one_that_is_connected_is_trusted(world: World, trusted: str) -> None:
    named = {"operator_user_header": "X-Forwarded-User", "operator_users": "ana", "forwarded_allow_ips": trusted}
    with serving(world.service_url, **named) as service:
        async with httpx2.AsyncClient(base_url=service.url) as client:
            # What the caller says of itself is not who is connected.
            said = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"}
            for name, role in (("ana", "operator"), ("bea", "viewer")):
                answer = await client.get("/ui/", headers={**said, "X-Forwarded-User": name})
                if trusted == "127.0.0.1":
                    assert f"{name} ({role}" in answer.text
                else:
                    assert 303 == answer.status_code
            twice = [("X-Forwarded-User", "ana"), ("X-Forwarded-User", "bea")]
            assert 303 == (await client.get("/ui/", headers=twice)).status_code
