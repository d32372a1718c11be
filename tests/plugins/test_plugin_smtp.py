"""SMTP against servers that work, refuse, hang and hang up: what is proven is said, the rest is `unknown`. Loopback only."""

import asyncio
import email
import socket
import threading

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from rules_engine.testing.plugins import CONTACT, make_call
from rules_engine_plugins import _smtp
from rules_engine_plugins import email as plugin
from tests.plugins.smtp_kit import settings


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Provider:
    """A mail provider: `refuse` maps a command to its answer, `hang` and `drop` name the command that it treats so."""

    def __init__(self, refuse=None, hang=None, drop=None):
        self.refuse, self.hang, self.drop = refuse or {}, hang, drop
        self.received, self.envelopes = [], []

    async def _treat(self, command, server):
        if self.hang == command:
            await asyncio.sleep(5)
        if self.drop == command:
            server.transport.abort()
        return self.refuse.get(command)

    async def handle_MAIL(self, server, session, envelope, address, options):
        answer = await self._treat("MAIL", server)
        envelope.mail_from = address
        return answer or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = await self._treat("RCPT", server)
        if not answer:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.received.append(envelope.content)
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        return await self._treat("TEXT", server) or "250 2.0.0 Ok: queued as 4F1A2B"


class Server(SMTP):
    async def smtp_DATA(self, arg):
        answer = await self.event_handler._treat("DATA", self)
        if answer:
            await self.push(answer)
        elif self.transport is not None and not self.transport.is_closing():
            await super().smtp_DATA(arg)


@pytest.fixture
def serve():
    controllers = []

    def run(provider, **options):
        class Local(Controller):
            def factory(self):
                return Server(self.handler, **self.SMTP_kwargs)

        controller = Local(provider, hostname="127.0.0.1", port=free_port(), **options)
        controller.start()
        controllers.append(controller)
        return controller.port

    yield run
    for controller in controllers:
        controller.stop()


def send(tmp_path, port, body="Hello {{ contact.first_name }}", **more):
    (tmp_path / "templates").mkdir(exist_ok=True)
    (tmp_path / "templates/a.txt").write_text("Subject: Hi\n\n" + body)
    return plugin.send(make_call("email.send", tmp_path, "a", settings=settings(port, **more)))


def test_accepted_names_the_message_at_the_provider(serve, tmp_path):
    provider = Provider()
    outcome = send(tmp_path, serve(provider), body=".\n..dots\n.\nÄ\n")
    assert outcome.state == "accepted" and outcome.provider_id == "4F1A2B"
    assert provider.envelopes == [("shop@example.com", ["ana@example.com"])]
    message = email.message_from_bytes(provider.received[0])
    assert message.get_payload(decode=True).decode().replace("\r\n", "\n") == ".\n..dots\n.\nÄ\n"


def test_the_text_arrives_byte_by_byte(serve):
    provider = Provider()
    data = b"Subject: x\r\n\r\n.\r\n..a\r\n.b\r\nend without line break"
    assert _smtp.hand_over(settings(serve(provider)), "a@example.com", "b@example.com", data).state == "accepted"
    assert provider.received == [data + b"\r\n"]


def test_accepted_without_a_queue_name_is_known_by_the_message_id(serve, tmp_path):
    outcome = send(tmp_path, serve(Provider(refuse={"TEXT": "250 fine"})))
    assert (
        outcome.state == "accepted" and outcome.provider_id.startswith("<msg_") and outcome.provider_id.endswith("@example.com>")
    )


@pytest.mark.parametrize(
    "provider, state, received",
    [
        (Provider(refuse={"MAIL": "550 no"}), "failed", 0),
        (Provider(refuse={"MAIL": "451 later"}), "retry", 0),
        (Provider(refuse={"RCPT": "550 nobody here"}), "failed", 0),
        (Provider(refuse={"RCPT": "450 greylisted"}), "retry", 0),
        (Provider(refuse={"DATA": "554 no"}), "failed", 0),
        (Provider(refuse={"DATA": "451 later"}), "retry", 0),
        (Provider(refuse={"TEXT": "554 spam"}), "failed", 1),
        (Provider(refuse={"TEXT": "452 full"}), "retry", 1),
        (Provider(refuse={"TEXT": "354 what?"}), "unknown", 1),
        (Provider(refuse={"RCPT": "421 closing"}), "retry", 0),
        (Provider(hang="MAIL"), "retry", 0),
        (Provider(hang="RCPT"), "retry", 0),
        (Provider(hang="DATA"), "retry", 0),
        (Provider(hang="TEXT"), "unknown", 1),
        (Provider(drop="MAIL"), "retry", 0),
        (Provider(drop="RCPT"), "retry", 0),
        (Provider(drop="DATA"), "retry", 0),
        (Provider(drop="TEXT"), "unknown", 1),
    ],
    ids=lambda value: f"{value.refuse}{value.hang}{value.drop}" if isinstance(value, Provider) else None,
)
def test_every_way_to_misbehave_has_its_honest_outcome(serve, tmp_path, provider, state, received):
    outcome = send(tmp_path, serve(provider))
    assert outcome.state == state, outcome
    assert len(provider.received) == received and outcome.detail


def test_connection_refused_and_no_such_host(tmp_path):
    assert send(tmp_path, free_port()).state == "retry"
    assert send(tmp_path, 25, host="").state == "retry"


def test_no_starttls_on_offer_sends_nothing(serve, tmp_path):
    provider = Provider()
    outcome = send(tmp_path, serve(provider), tls="starttls")
    assert outcome.state == "retry" and "STARTTLS" in outcome.detail and provider.received == []


def test_tls_against_a_server_without_it_sends_nothing(serve, tmp_path):
    provider = Provider()
    assert send(tmp_path, serve(provider), tls="tls").state == "retry" and provider.received == []
    assert send(tmp_path, 1, tls="weak").state == "retry"


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_login_refused_is_a_retry_and_no_secret_is_told(serve, tmp_path):
    provider = Provider()
    port = serve(
        provider, authenticator=lambda *_: AuthResult(success=False, handled=False), auth_require_tls=False, auth_required=True
    )
    outcome = send(tmp_path, port, user="shop", password="hunter2")
    assert outcome.state == "retry" and "535" in outcome.detail and "hunter2" not in outcome.detail and provider.received == []


def test_login_accepted(serve, tmp_path):
    seen = []

    def check(server, session, envelope, mechanism, data):
        seen.append((data.login, data.password))
        return AuthResult(success=True)

    assert (
        send(tmp_path, serve(Provider(), authenticator=check, auth_require_tls=False), user="shop", password="hunter2").state
        == "accepted"
    )
    assert seen[-1] == (b"shop", b"hunter2")


def raw_server(*answers):
    """A server that says its lines and then hangs up; no SMTP library would talk so."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        with listener, listener.accept()[0] as line:
            line.settimeout(2)
            for answer in answers:
                try:
                    line.sendall(answer)
                    if not line.recv(65536):
                        return
                except OSError:
                    return

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


@pytest.mark.parametrize(
    "answers, state",
    [
        ((b"554 go away\r\n",), "retry"),
        ((b"",), "retry"),
        ((b"HTTP/1.1 200 OK\r\n\r\n",), "retry"),
        ((b"220 hi\r\n", b"\xff\xff\r\n"), "retry"),
        ((b"220 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 what\r\n"), "retry"),
        ((b"220 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"nonsense\r\n"), "unknown"),
        ((b"220 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 " + b"x" * 100_000), "unknown"),
        ((b"220 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 \x1b[31mred\r\n"), "accepted"),
    ],
)
def test_servers_that_talk_nonsense(tmp_path, answers, state):
    outcome = send(tmp_path, raw_server(*answers))
    assert outcome.state == state and outcome.detail.isprintable()


@pytest.mark.parametrize("sender, to", [("a@b\r\nRCPT TO:<x@y>", "b@c"), ("a@b", "b@c>\r\nDATA"), ("ü@b", "b@c")])
def test_no_command_can_be_injected(serve, sender, to):
    provider = Provider()
    assert _smtp.hand_over(settings(serve(provider)), sender, to, b"x\r\n").state == "failed" and provider.received == []


def test_a_hostile_address_never_reaches_the_server(serve, tmp_path):
    provider = Provider()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/a.txt").write_text("Subject: Hi\n\nb")
    call = make_call(
        "email.send",
        tmp_path,
        "a",
        settings=settings(serve(provider)),
        contact={**CONTACT, "email": "a@b.example>\r\nRCPT TO:<x@y.example"},
    )
    assert plugin.send(call).state == "failed" and provider.received == []


def test_idempotency_is_said_as_it_is():
    assert plugin.idempotency({}) == "key" and plugin.idempotency({"transport": "smtp"}) == "none"
