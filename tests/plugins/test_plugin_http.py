"""Webhooks: which addresses may be called, what is sent, and what each answer means. Loopback only."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules_engine.testing.plugins import make_call
from rules_engine_plugins import _http, crm, sms, webhook

REFUSED = (
    """
    127.0.0.1 127.9.9.9 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1
    239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:a9fe:a9fe ::7f00:1
    64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2001:20::1
    2002:7f00:1:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 4000::1 8000::1
    2130706433
""".split()
    + ["not an address", ""]
)
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450:4014:80e::200e"]


@pytest.mark.parametrize("address", REFUSED)
def test_private_and_special_addresses_are_refused(address):
    assert _http.refused(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address):
    assert _http.refused(address) == ""


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_passes(address):
    if not address.is_global or address.is_multicast:
        assert _http.refused(str(address))


HTTP = {"transport": "http", "timeout": 2}


def post(tmp_path, url, params=None, **settings):
    return webhook.post(make_call("webhook.post", tmp_path, url, params, settings={**HTTP, **settings}))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://0/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://10.1.2.3:8080/",
        "https://192.168.0.1/",
        "http://[fe80::1]/",
        "http://127.0.0.1:80/",
    ],
)
def test_no_way_to_write_a_private_address_is_called(tmp_path, url):
    outcome = post(tmp_path, url)
    # A form that this system can't resolve is no address at all: refused by the judge, or nothing to connect to.
    assert outcome.state in ("failed", "retry") and ("range" in outcome.detail or "before anything was sent" in outcome.detail), (
        outcome
    )
    if "::" not in url:
        assert outcome.state == "failed"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://user:pw@example.com/",
        "https://",
        "https:///x",
        "example.com",
        "",
        None,
        5,
        "https://exa mple.com/",
        "https://example.com/\r\nX: y",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://bücher.example/",
        "gopher://127.0.0.1:25/",
        "https://example.com/" + "x" * 9_000,
        "javascript:alert(1)",
        "https://ex%61mple.com/",
    ],
)
def test_urls_that_are_none(tmp_path, url):
    assert post(tmp_path, url).state == "failed"
    assert webhook.post(make_call("webhook.post", tmp_path, url)).state == "failed"  # into a file as well


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nY: b"},
        {"X\r\nY": "a"},
        {"X Y": "a"},
        {"": "a"},
        {"X": "ü"},
        {"X": "a\0"},
        {"X": "a" * 5_000},
        {"Host": "x"},
        {"content-length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"Webhook-Signature": "v1,x"},
        {"Idempotency-Key": "x"},
        {"Connection": "keep-alive"},
        ["X"],
        5,
        {5: "x"},
    ],
)
def test_headers_that_are_none(tmp_path, headers):
    assert post(tmp_path, "https://example.com/", {"headers": headers}).state == "failed"


def exchange(address, port, limit=2.0, name="hooks.example.com", secure=False):
    """One request with the DNS played by `address` (one or several)."""
    asked = []

    def resolve(host, _):
        asked.append(host)
        return [address] if isinstance(address, str) else address

    target = _http.target_of(f"http{'s' if secure else ''}://{name}:{port}/x?y=1")
    call_settings = ()
    answer = _http.exchange(target, "POST", {"Host": target.header, "Content-Length": "2"}, b"{}", limit, call_settings, resolve)
    return answer, asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "169.254.169.254",
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
    ],
)
def test_a_name_that_resolves_to_a_private_address_is_not_called(address):
    answer, asked = exchange(address, 80)
    assert answer.refused and not answer.sent and asked == ["hooks.example.com"]
    assert _http.outcome_of(answer).state == "failed"


def test_the_judged_address_is_the_one_that_is_called(monkeypatch, server):
    """Resolved once: the connection goes to the address itself, so that a second answer of the DNS can't move it."""
    called, real = [], socket.create_connection

    def connect(address, timeout):
        called.append(address)
        return real(("127.0.0.1", server.port), timeout)

    monkeypatch.setattr(socket, "create_connection", connect)
    answer, asked = exchange("8.8.8.8", server.port)
    assert answer.status == 200 and called == [("8.8.8.8", server.port)] and asked == ["hooks.example.com"]
    assert server.requests[0][1]["Host"] == f"hooks.example.com:{server.port}"


def test_no_name_no_connection_is_a_retry():
    def nobody(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    target = _http.target_of("https://nobody.example/")
    assert _http.outcome_of(_http.exchange(target, "POST", {}, b"", 1, (), nobody)).state == "retry"
    assert _http.outcome_of(_http.exchange(target, "POST", {}, b"", 1, (), lambda *_: [])).state == "retry"


# ---------------------------------------------------------------- a receiver


class Receiver(ThreadingHTTPServer):
    daemon_threads = True
    answer = (200, {}, b"{}")

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []

    port = property(lambda self: self.server_address[1])
    url = property(lambda self: f"http://127.0.0.1:{self.port}/hook?a=1")
    private = property(lambda self: [f"127.0.0.1:{self.port}"])


class Handler(BaseHTTPRequestHandler):
    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, dict(self.headers), body, self.path))
        answer = self.server.answer
        if callable(answer):
            answer(self)
        else:
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer[2])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    receiver = Receiver()
    threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield receiver
    receiver.shutdown()
    receiver.server_close()


def test_what_is_sent(tmp_path, server):
    server.answer = (202, {}, b'{"id": "r-42"}')
    outcome = post(
        tmp_path,
        server.url,
        {"body": {"cart": "A", "at": timedelta(hours=1)}, "headers": {"X-Team": "shop"}, "method": "PUT"},
        allow_private=server.private,
        secret="whsec_" + base64.b64encode(b"k" * 24).decode(),
    )
    assert outcome.state == "accepted" and outcome.provider_id == "r-42"
    ((method, headers, body, path),) = server.requests
    assert (method, path, json.loads(body)) == ("PUT", "/hook?a=1", {"cart": "A", "at": 3600.0})
    assert (
        headers["X-Team"] == "shop"
        and headers["Content-Type"] == "application/json"
        and headers["Idempotency-Key"] == headers["webhook-id"]
    )
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(b"k" * 24, signed, hashlib.sha256).digest()).decode()
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_the_signature_of_the_standard():
    """The example of the Standard Webhooks specification's libraries."""
    assert (
        _http.sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_the_same_effect_has_the_same_ids_and_others_have_others(tmp_path, server):
    for key, attempt in (("1", 1), ("1", 2), ("2", 1)):
        webhook.post(
            make_call(
                "webhook.post", tmp_path, server.url, key=key, attempt=attempt, settings={**HTTP, "allow_private": server.private}
            )
        )
    first, second, third = (request[1]["Idempotency-Key"] for request in server.requests)
    assert first == second != third


def test_get_has_no_body(tmp_path, server):
    assert post(tmp_path, server.url, {"method": "GET"}, allow_private=server.private).state == "accepted"
    method, headers, body, _ = server.requests[0]
    assert method == "GET" and body == b"" and "Content-Type" not in headers


@pytest.mark.parametrize(
    "status, headers, state, wait",
    [
        (200, {}, "accepted", None),
        (201, {}, "accepted", None),
        (204, {}, "accepted", None),
        (301, {"Location": "http://127.0.0.1:1/"}, "failed", None),
        (307, {"Location": "http://127.0.0.1:1/"}, "failed", None),
        (308, {}, "failed", None),
        (302, {"Location": "http://127.0.0.1:1/"}, "unknown", None),
        (303, {}, "unknown", None),
        (400, {}, "failed", None),
        (401, {}, "failed", None),
        (404, {}, "failed", None),
        (410, {}, "failed", None),
        (422, {}, "failed", None),
        (408, {}, "retry", None),
        (425, {}, "retry", None),
        (429, {}, "retry", None),
        (429, {"Retry-After": "120"}, "retry", 120.0),
        (503, {"Retry-After": "7"}, "retry", 7.0),
        (503, {}, "unknown", None),
        (503, {"Retry-After": "soon"}, "unknown", None),
        (500, {}, "unknown", None),
        (502, {}, "unknown", None),
        (504, {}, "unknown", None),
        (599, {}, "unknown", None),
    ],
)
def test_what_each_answer_means(tmp_path, server, status, headers, state, wait):
    server.answer = (status, headers, b"")
    outcome = post(tmp_path, server.url, allow_private=server.private)
    assert (outcome.state, outcome.retry_after) == (state, wait) and len(server.requests) == 1
    if state == "unknown":
        assert post(tmp_path, server.url, allow_private=server.private, deduplicates=["127.0.0.1"]).state == "retry"
        assert post(tmp_path, server.url, allow_private=server.private, deduplicates=["other.example"]).state == "unknown"


def test_retry_after_as_a_date_is_read_against_the_answers_own_date():
    assert _http.retry_after("Mon, 02 Mar 2026 09:02:00 GMT", "Mon, 02 Mar 2026 09:00:00 GMT") == 120.0
    assert _http.retry_after("Mon, 02 Mar 2026 08:00:00 GMT", "Mon, 02 Mar 2026 09:00:00 GMT") == 0.0
    assert (
        _http.retry_after("Mon, 02 Mar 2026 09:02:00 GMT", None) is None
        and _http.retry_after("-5") is None
        and _http.retry_after(None) is None
    )


def hang(handler):
    time.sleep(1.5)


def drop(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def drip(handler):
    try:
        for octet in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100:
            handler.wfile.write(bytes([octet]))
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def nonsense(handler):
    handler.wfile.write(b"220 mail.example ESMTP\r\n")


def endless_headers(handler):
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000)
    except OSError:
        pass


@pytest.mark.parametrize("behaviour", [hang, drop, drip, nonsense, endless_headers])
def test_no_answer_after_the_request_was_sent_is_unknown(tmp_path, server, behaviour):
    server.answer = behaviour
    start = time.monotonic()
    outcome = post(tmp_path, server.url, {"timeout": timedelta(seconds=0.4)}, allow_private=server.private)
    assert outcome.state == "unknown" and time.monotonic() - start < 1.2 and len(server.requests) == 1
    assert post(tmp_path, server.url, {"timeout": 0.3}, allow_private=server.private, deduplicates=True).state == "retry"


def endless_body(handler):
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1_000):
            handler.wfile.write(b"x" * 65_536)
    except OSError:
        pass


def half_body(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nxx")


@pytest.mark.parametrize("behaviour", [endless_body, half_body])
def test_a_good_status_is_enough(tmp_path, server, behaviour):
    server.answer = behaviour
    assert post(tmp_path, server.url, allow_private=server.private).state == "accepted"


def test_allow_private_is_exact(tmp_path, server):
    assert (
        post(tmp_path, server.url, allow_private=[f"localhost:{server.port}", "127.0.0.1:1"]).state == "failed"
        and server.requests == []
    )
    assert post(tmp_path, f"http://localhost:{server.port}/", allow_private=[f"localhost:{server.port}"]).state == "accepted"


def test_connection_refused_is_a_retry(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert post(tmp_path, f"http://127.0.0.1:{port}/", allow_private=[f"127.0.0.1:{port}"]).state == "retry"


def test_tls_that_can_not_be_trusted_sends_nothing(tmp_path, server):
    outcome = post(tmp_path, server.url.replace("http:", "https:"), allow_private=server.private)
    assert outcome.state == "retry" and "before anything was sent" in outcome.detail and server.requests == []


def test_tls_asks_for_the_name_and_connects_to_the_address(monkeypatch, server):
    import ssl

    asked = []

    class Context:
        def wrap_socket(self, raw, server_hostname):
            asked.append(server_hostname)
            return raw

    monkeypatch.setattr(ssl, "create_default_context", Context)
    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: real(("127.0.0.1", server.port), timeout))
    answer, _ = exchange("8.8.8.8", server.port, secure=True)
    assert answer.status == 200 and asked == ["hooks.example.com"]


def test_a_body_of_megabytes_is_not_sent(tmp_path, server):
    assert (
        post(tmp_path, server.url, {"body": {"x": "y" * 2_000_000}}, allow_private=server.private).state == "failed"
        and server.requests == []
    )


# ---------------------------------------------------------------- sms and crm over it


def test_sms_and_crm_by_webhook(tmp_path, server):
    server.answer = (200, {}, b'{"id": 7}')
    common = {"transport": "webhook", "url": server.url, "allow_private": server.private, "token": "t0ken", "from": "Shop"}
    assert sms.send(make_call("sms.send", tmp_path, "Hi", settings=common))[0::2] == ("accepted", "7")
    assert (
        crm.push(make_call("crm.push", tmp_path, "lead", {"owner": "round-robin", "score": 85}, settings=common)).state
        == "accepted"
    )
    (_, headers, text, _), (_, _, lead, _) = server.requests
    text, lead = json.loads(text), json.loads(lead)
    assert (
        headers["Authorization"] == "Bearer t0ken"
        and text["id"] == headers["webhook-id"]
        and text["timestamp"] == "2026-03-02T09:00:00Z"
    )
    assert text["type"] == "sms.send" and text["data"] == {
        "to": "+420601234567",
        "from": "Shop",
        "text": "Hi",
        "class": "marketing",
        "campaign": "welcome",
        "contact": "ana",
    }
    assert lead["data"] == {
        "object": "lead",
        "owner": "round-robin",
        "fields": {"score": 85},
        "contact": {"id": "ana", "email": "ana@example.com"},
        "campaign": "welcome",
    }


@pytest.mark.parametrize(
    "settings, state",
    [
        ({"transport": "webhook"}, "retry"),
        ({"transport": "webhook", "url": "nonsense"}, "retry"),
        ({"transport": "pigeon"}, "failed"),
        ({"transport": "webhook", "url": "http://10.0.0.1/"}, "failed"),
        ({"transport": "webhook", "url": "https://example.com", "token": "a\r\nb"}, "failed"),
    ],
)
def test_settings_that_do_not_work(tmp_path, settings, state):
    assert sms.send(make_call("sms.send", tmp_path, "Hi", settings=settings)).state == state


def test_idempotency_is_said_as_it_is():
    assert webhook.idempotency({}) == "key" and webhook.idempotency({"transport": "http"}) == "none"
    assert sms.idempotency({"transport": "webhook", "deduplicates": True}) == "key"
