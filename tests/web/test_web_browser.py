"""The web part as people meet it: a real `camp run --web`, a site on another origin that embeds camp.js, and Chromium.

It runs where Chromium (`apt-get install chromium`) and its driver (`pip install playwright`) are, and is skipped aloud elsewhere.
CAMP_TEST_CHROMIUM names another browser; CAMP_TEST_BROWSER_SHOTS a folder for pictures of the pages.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from rules_engine.store.sqlite import SqliteStore

CHROMIUM = os.environ.get("CAMP_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

MISSING = "no Chromium here (apt-get install chromium)" if not CHROMIUM else "no driver (pip install playwright)" if sync_playwright is None else ""
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"THE BROWSER IS NOT TESTED: {MISSING}")

KEY, TOKEN = "the-key-of-links-0123456789", "token-0123456789abcdef"
DESKTOP = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
PHONE = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36"
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip
CAMPAIGN = """
ATTRIBUTE first_name: text
ATTRIBUTE news: boolean
EVENT order.placed WITH total: number

RULE thanks
  WHEN order.placed
    THEN email.send "thanks"
END
"""
TEMPLATE = """Subject: Thank you

<html><body><h1>Thank you, {{ contact.first_name | default("friend") }}</h1><p><a href="SITE/offer">Our offer</a></p>
<p><a href="{{ view_url }}">In the browser</a> <a href="{{ unsubscribe_url }}">No more</a> <a href="{{ preferences_url }}">Choose</a></p></body></html>
"""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>TITLE</title><link rel="icon" href="data:,">
<script src="CAMP/camp.js" defer></script></head><body><h1>TITLE</h1><a id="next" href="/pricing">Prices</a>
<form id="form" action="CAMP/f/newsletter" method="post"><input name="email" type="email" required><input name="company">
<input name="letters" type="checkbox"><input name="website" hidden><button>Send</button></form></body></html>"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def site_on(port: int, camp: str):
    """Pages whose path is their title, under a strict policy: what docs/http.md asks for and nothing else."""
    csp = f"default-src 'none'; script-src {camp}; connect-src {camp}; form-action {camp} 'self'; img-src data:"

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = PAGE.replace("CAMP", camp).replace("TITLE", self.path.partition("?")[0].strip("/") or "home").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", csp)
            if self.path.startswith("/quiet"):
                self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """camp: its address; site: an allowed one; foreign: one that is not; rows(contact): its log as (name, subject, data)."""
    folder, ports = tmp_path_factory.mktemp("browser"), [free_port() for _ in range(3)]
    camp, site, foreign = f"http://127.0.0.1:{ports[0]}", f"http://localhost:{ports[1]}", f"http://localhost:{ports[2]}"
    (folder / "camp.toml").write_text(f"""name = "test"
database = "camp.db"
[web]
url = "{camp}"
sites = ["{site}"]
[web.forms.newsletter]
fields = ["email", "company"]
consent = {{ letters = "consent.email" }}
honeypot = "website"
redirect = "{site}/thanks"
[web.preferences]
"consent.email" = "Our letters"
news = "News about boats"
[email]
from = "Shop <shop@shop.example>"
""")
    (folder / "all.camp").write_text(CAMPAIGN)
    (folder / "templates").mkdir()
    (folder / "templates" / "thanks.html").write_text(TEMPLATE.replace("SITE", site))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CAMP_")}
    environment |= {"CAMP_WEB_SECRET": KEY, "CAMP_WEB_TOKEN": TOKEN}
    process = subprocess.Popen([sys.executable, "-m", "rules_engine", "run", "--web", f"127.0.0.1:{ports[0]}"], cwd=folder, env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip

    def ask(question):
        store = SqliteStore(folder / "camp.db", create=False, readonly=True)
        try:
            return question(store)
        finally:
            store.close()

    def rows(contact, *names):
        found = [row.cause for row in ask(lambda store: store.events_of(contact))]
        return [(event.name, event.subject, event.data) for event in found if getattr(event, "name", "") in names]

    def state(contact):
        row = ask(lambda store: store.contacts([contact])).get(contact)
        return orjson.loads(row.state) if row else {}

    def post(path, body):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(camp + path, orjson.dumps(body), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status

    try:
        until(lambda: reachable(ports[0]) or process.poll() is not None, 30)
        assert process.poll() is None, process.communicate()
        with site_on(ports[1], camp), site_on(ports[2], camp):
            yield SimpleNamespace(camp=camp, site=site, foreign=foreign, folder=folder, rows=rows, state=state, post=post)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert "Traceback" not in said, said
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def reachable(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2):
            return True
    except OSError:
        return False


def until(question, seconds: float = 8):
    """The first answer that is true; the last one when time is up."""
    end = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.05)
    return answer


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """`visit(**options)`: a page of a person's own browser, with what its console said in `page.said`."""
    contexts = []

    def build(**options):
        context = chromium.new_context(**{"user_agent": DESKTOP, "viewport": {"width": 1000, "height": 700}, **options})
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        return page

    yield build
    for context in contexts:
        context.close()


def said(page) -> list[str]:
    """What the page's console said; the driver hears it only while it is waited for."""
    page.wait_for_timeout(50)
    return page.said


def visitor(page) -> str:
    return page.evaluate("camp.visitor")


def picture(page, name: str) -> None:
    folder = os.environ.get("CAMP_TEST_BROWSER_SHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


# ---------------------------------------------------------------- visits


def test_visits_and_the_time_on_a_page(world, visit):
    page = visit()
    page.goto(world.site + "/?utm_source=fair#part")
    who = visitor(page)
    time.sleep(0.4)
    page.click("#next")
    page.wait_for_url("**/pricing")
    assert visitor(page) == who
    page.evaluate("history.pushState({}, '', '/pricing/big'); document.title = 'big'; camp.page()")
    assert until(lambda: len(world.rows(who, "page.viewed")) >= 3 and len(world.rows(who, "page.left")) >= 2)
    assert said(page) == []
    page.close()
    assert until(lambda: len(world.rows(who, "page.left")) == 3), world.rows(who, "page.left")
    views = world.rows(who, "page.viewed")
    assert [(subject, data["title"]) for _, subject, data in views] == [("/", "home"), ("/pricing", "pricing"), ("/pricing/big", "big")]
    first, second, third = (data for _, _, data in views)
    assert first["url"] == world.site + "/?utm_source=fair" and not first.get("referrer") and first["device"] == "desktop" and first["machine"] is False
    assert second["referrer"] == world.site + "/?utm_source=fair"
    assert third["referrer"] == world.site + "/pricing", "a page that loads nothing comes from the one before"
    left = world.rows(who, "page.left")
    assert [subject for _, subject, _ in left] == ["/", "/pricing", "/pricing/big"] and 0.4 <= left[0][2]["seconds"] < 20
    assert left[1][2]["url"] == world.site + "/pricing", "the page that was left, not the one that came"


def test_only_the_time_that_is_looked_at_counts(world, visit):
    """A tab that opens in the background has not been looked at; one that is hidden and shown again is left twice, with the seconds of both."""
    hidden = "(on) => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => on })"
    hide = hidden + "; document.dispatchEvent(new Event('visibilitychange')) }"
    page = visit()
    page.add_init_script(f"({hidden} }})(true)")
    page.goto(world.site + "/background")
    who = visitor(page)
    time.sleep(1.5)
    page.evaluate(hide, False)
    time.sleep(0.3)
    page.evaluate(hide, True)
    assert until(lambda: len(world.rows(who, "page.left")) == 1)
    page.evaluate(hide, False)
    page.evaluate(hide, True)
    assert until(lambda: len(world.rows(who, "page.left")) == 2)
    page.close()
    time.sleep(0.5)
    seconds = [data["seconds"] for _, _, data in world.rows(who, "page.left")]
    assert len(seconds) == 2 and 0.2 <= seconds[0] < 1.5 and seconds[1] >= seconds[0]
    assert len(world.rows(who, "page.viewed")) == 1


def test_coming_back_to_a_page_is_a_visit_whether_the_browser_kept_it_or_not(world, visit):
    page = visit()
    page.goto(world.site + "/one")
    who = visitor(page)
    page.goto(world.site + "/two")
    page.go_back()
    page.wait_for_url("**/one")
    assert until(lambda: [row[1] for row in world.rows(who, "page.viewed")] == ["/one", "/two", "/one"])
    # What a browser says to a page that it kept as it was (playwright's Chromium keeps none).
    page.evaluate("""() => { dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
                             dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })) }""")
    assert until(lambda: len(world.rows(who, "page.viewed")) == 4) and until(lambda: len(world.rows(who, "page.left")) == 3)
    assert said(page) == [] and visitor(page) == who


def test_a_page_that_is_only_prepared_is_no_visit(world, visit):
    page = visit()
    page.add_init_script("Object.defineProperty(document, 'prerendering', { get: () => true })")
    page.goto(world.site + "/ahead")
    time.sleep(0.3)
    assert visitor(page) == "" and page.context.cookies() == []
    page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    assert until(lambda: len(world.rows(visitor(page), "page.viewed")) == 1) and said(page) == []


def test_who_logs_out_takes_the_id_along(world, visit):
    page = visit()
    page.goto(world.site + "/")
    who = visitor(page)
    page.evaluate("camp.reset()")
    page.goto(world.site + "/next")
    assert visitor(page) != who and until(lambda: world.rows(visitor(page), "page.viewed"))
    assert [row[1] for row in world.rows(who, "page.viewed")] == ["/"]


def test_a_phone(world, visit):
    page = visit(user_agent=PHONE, viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True)
    page.goto(world.site + "/")
    who = visitor(page)
    assert until(lambda: world.rows(who, "page.viewed"))[0][2]["device"] == "mobile"


def test_a_site_that_keeps_its_address_to_itself_is_counted_all_the_same(world, visit):
    """With Referrer-Policy: no-referrer, browsers say `Origin: null` in a beacon; only a request by CORS names the origin."""
    page = visit()
    page.goto(world.site + "/quiet")
    who = visitor(page)
    assert until(lambda: world.rows(who, "page.viewed")) and said(page) == []
    page.close()
    assert until(lambda: world.rows(who, "page.left"))


def test_a_foreign_site_can_not_tell_of_visits(world, visit):
    page = visit()
    page.goto(world.foreign + "/")
    page.wait_for_timeout(500)
    assert any("CORS" in text for text in said(page)), "the console says that it is refused"
    assert world.rows(visitor(page), "page.viewed") == []
    page.fill("[name=email]", "hal@example.com")
    page.click("button")
    page.wait_for_url(world.camp + "/**")
    assert world.foreign in page.inner_text("main") and world.rows("hal@example.com", "form.submitted") == []


@pytest.mark.parametrize("sign", ["doNotTrack", "globalPrivacyControl"])
def test_who_asks_not_to_be_followed_is_not_and_the_page_works(world, visit, sign):
    page = visit()
    page.add_init_script(f"Object.defineProperty(Navigator.prototype, '{sign}', {{ get: () => '1' }})")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(world.site + "/")
    page.evaluate("camp.page()")
    assert page.context.cookies() == [] and page.evaluate("localStorage.length") == 0 and said(page) == []
    assert not any("/t/" in url for url in asked)


def test_nothing_but_the_id_is_kept_in_the_browser(world, visit):
    page = visit()
    page.goto(world.site + "/")
    who = visitor(page)
    assert [(cookie["name"], cookie["value"], cookie["domain"], cookie["sameSite"]) for cookie in page.context.cookies()] == [("camp_visitor", who, "localhost", "Lax")]
    assert page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)") == f'{{"camp_visitor":"{who}"}}{{}}'


# ---------------------------------------------------------------- who it is


def test_a_form_says_who_it_is(world, visit):
    page = visit()
    page.goto(world.site + "/")
    who = visitor(page)
    page.evaluate("form.insertAdjacentHTML('beforeend', '<input name=action value=x>')")  # hides the form's own property `action`
    page.fill("[name=email]", "Eva@Example.com")
    page.check("[name=letters]")
    page.click("button")
    page.wait_for_url(world.site + "/thanks")
    assert until(lambda: world.state(who).get("into")), "merged"
    page.goto(world.site + "/later")
    assert until(lambda: ("page.viewed", "/later") in [row[:2] for row in world.rows("eva@example.com", "page.viewed")])
    (form,) = world.rows("eva@example.com", "form.submitted")
    assert form[1] == "newsletter" and form[2]["page"] == world.site + "/"
    assert world.state("eva@example.com")["a"]["consent.email"] is True and said(page) == []


def test_a_form_sent_by_the_sites_own_script(world, visit):
    page = visit()
    page.goto(world.site + "/")
    answered = page.evaluate("""async (camp) => {
        const body = new URLSearchParams({ email: 'fay@example.com', camp_visitor: window.camp.visitor });
        const answer = await fetch(camp + '/f/newsletter', { method: 'POST', body });
        return [answer.status, (await answer.json()).status]; }""", world.camp)
    assert answered == [202, "accepted"]
    who = visitor(page)
    assert until(lambda: world.state(who).get("into", {}).get("contact") == "fay@example.com") and said(page) == []


def letter(world, contact: str) -> dict[str, str]:
    """A message to the contact, sent by a campaign into the folder: its links by their first letter."""
    world.post("/v1/contacts", {"id": contact, "email": f"{contact}@example.com", "first_name": contact.title(), "consent": {"email": True}})
    world.post("/v1/events", {"id": f"order-{contact}", "event": "order.placed", "contact": contact, "data": {"total": 5}})

    def find():
        for file in (world.folder / "outbox").glob("*.eml"):
            message = message_from_bytes(file.read_bytes(), policy=policy.default)
            if f"{contact}@example.com" in message["To"]:
                return message
        return None

    message = until(find, 15)
    urls = re.findall(rf'href="({world.camp}/\w/[^"]+)"', message.get_body(("html",)).get_content())
    return {url[len(world.camp) + 1]: url for url in urls}


def test_a_link_of_a_message_says_who_it_is_and_another_person_is_not_merged(world, visit):
    ana, ben = letter(world, "ana"), letter(world, "ben")
    time.sleep(2.1)  # sooner after the hand-over it would be a machine's click
    page = visit()
    page.goto(world.site + "/before")
    who = visitor(page)
    assert until(lambda: world.rows(who, "page.viewed"))
    page.goto(ana["c"])
    page.wait_for_url("**/offer*")
    assert "#" not in page.url, "the word is taken out of the address"
    assert until(lambda: world.state(who).get("into", {}).get("contact") == "ana")
    assert until(lambda: world.rows("ana", "email.clicked"))[0][2]["machine"] is False
    page.goto(world.site + "/ana-again")
    assert until(lambda: "/ana-again" in [row[1] for row in world.rows("ana", "page.viewed")])
    # Ben reads his own mail on the same browser.
    page.goto(ben["c"])
    page.wait_for_url("**/offer*")
    assert until(lambda: "/offer" in [row[1] for row in world.rows("ben", "page.viewed")]), "his visit is his"
    page.goto(world.site + "/bens-page")
    assert until(lambda: "/bens-page" in [row[1] for row in world.rows("ben", "page.viewed")])
    assert "/bens-page" not in [row[1] for row in world.rows("ana", "page.viewed")] and "into" not in world.state("ana") and "into" not in world.state("ben")
    assert visitor(page) != who and said(page) == []


# ---------------------------------------------------------------- pages of Camp


@pytest.mark.parametrize("phone", [False, True])
def test_the_pages_work_without_scripts(world, visit, phone):
    name = "dora" if phone else "carl"
    mail = letter(world, name)
    kind = "phone" if phone else "desktop"
    options = {"user_agent": PHONE, "viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2} if phone else {}
    page = visit(java_script_enabled=False, **options)

    def fits():
        box = page.locator("main, body").first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= page.viewport_size["width"]

    page.goto(mail["p"])
    picture(page, f"preferences-{kind}")
    fits()
    assert page.is_checked("text=Our letters") and not page.is_checked("text=News about boats")
    page.check("text=News about boats")
    with page.expect_navigation():
        page.click("button")
    picture(page, f"preferences-saved-{kind}")
    assert page.inner_text("main").count("saved") == 1 and page.is_checked("text=News about boats")
    page.goto(mail["u"])
    picture(page, f"unsubscribe-{kind}")
    fits()
    assert world.rows(name, "email.unsubscribed") == []
    size = page.locator("button").bounding_box()
    assert size["height"] >= 44, "large enough for a thumb"
    with page.expect_navigation():
        page.click("button")
    picture(page, f"unsubscribed-{kind}")
    assert "unsubscribed" in page.inner_text("h1") and len(world.rows(name, "email.unsubscribed")) == 1
    page.goto(mail["p"])
    assert until(lambda: page.reload() and not page.is_checked("text=Our letters"))
    page.goto(mail["v"])
    picture(page, f"view-{kind}")
    assert name.title() in page.inner_text("h1")
    page.click("text=No more")
    page.wait_for_url(world.camp + "/u/*")
    page.go_back()
    page.click("text=Our offer")
    page.wait_for_url(world.site + "/offer*")
    page.goto(mail["u"][:-3] + "xyz")
    picture(page, f"link-cut-{kind}")
    fits()
    page.goto(world.camp + "/no/such/page")
    picture(page, f"404-{kind}")
    assert page.locator("h1").count() == 1, "a person gets a page"
    assert [text for text in said(page) if "404" not in text] == []


def test_a_form_that_is_wrong_is_told_kindly(world, visit):
    page = visit()
    page.goto(world.site + "/")
    page.fill("[name=email]", "eva@nowhere")
    page.click("button")
    page.wait_for_url(world.camp + "/**")
    picture(page, "form-wrong")
    assert "e-mail address" in page.inner_text("main")


def test_a_form_of_a_page_that_hides_its_address_is_told_why(world, visit):
    page = visit()
    page.goto(world.site + "/quiet")
    page.fill("[name=email]", "gus@example.com")
    page.click("button")
    page.wait_for_url(world.camp + "/**")
    picture(page, "form-origin-null")
    assert "Referrer-Policy" in page.inner_text("body")
