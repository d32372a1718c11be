"""`camp run --web` as its own process: starts, answers, drains; killed at any moment it has kept what it acknowledged."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from rules_engine.cli.main import cli
from rules_engine.store.sqlite import SqliteStore

KILLS = int(os.environ.get("CAMP_TEST_WEB_KILLS", "5"))  # CAMP_TEST_WEB_KILLS=200 is the full run
CAMPAIGN = "EVENT order.placed WITH total: number\n\nRULE count\n  WHEN order.placed\n    THEN points.add 1\nEND\n"
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("CAMP_")}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "camp.toml").write_text('name = "test"\ndatabase = "camp.db"\n[web]\nsites = ["https://shop.example"]\n')
    (tmp_path / "all.camp").write_text(CAMPAIGN)
    return tmp_path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running(folder: Path, port: int, **env: str):
    process = subprocess.Popen([sys.executable, "-m", "rules_engine", "run", "--web", f"127.0.0.1:{port}"], cwd=folder, env={**ENVIRONMENT, **env},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise AssertionError(process.communicate())
            try:
                with socket.create_connection(("127.0.0.1", port), 0.2):
                    break
            except OSError:
                time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: object = None, **headers: str):
    content = json.dumps(body).encode() if body is not None else None
    connection.request(method, path, content, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_it_answers_and_drains_on_sigterm(folder):
    port = free_port()
    with running(folder, port) as process:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        assert ask(connection, "GET", "/healthz")[0] == 200
        status, metrics = ask(connection, "GET", "/metrics")
        assert status == 200 and b"camp_up 1.0" in metrics
        assert ask(connection, "GET", "/metrics", Origin="https://evil.example")[0] == 403
        batch = [{"id": f"e{n}", "event": "order.placed", "contact": f"c{n % 7}"} for n in range(500)]
        assert ask(connection, "POST", "/v1/events", batch)[0] == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and f"listening on http://127.0.0.1:{port}" in err and "Traceback" not in err
    store = SqliteStore(folder / "camp.db")
    assert sum(store.counts().events.values()) == 500 and store.check() == []
    store.close()


def test_killed_while_clients_post_it_has_each_acknowledged_event_once(folder):
    """SIGKILL at a moment of its own in each life; what was not answered is sent again, as a client would."""
    acknowledged: set[str] = set()
    number = 0
    for kill in range(KILLS):
        port, stop = free_port(), threading.Event()
        with running(folder, port) as process:

            def post(client: int, base: int = number, port: int = port, stop: threading.Event = stop) -> None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                own = 0
                while not stop.is_set():
                    id = f"e{base}-{client}-{own}"
                    try:
                        status, _ = ask(connection, "POST", "/v1/events", {"id": id, "event": "order.placed", "contact": f"c{client}"})
                    except (OSError, http.client.HTTPException):
                        return
                    assert status in (200, 202)
                    acknowledged.add(id)
                    own += 1

            clients = [threading.Thread(target=post, args=(client,)) for client in range(4)]
            for client in clients:
                client.start()
            time.sleep(0.15 + 0.13 * (kill % 5))
            process.kill()
            process.wait()
            stop.set()
            for client in clients:
                client.join(15)
        number += 1
    assert len(acknowledged) > 20 * KILLS
    with running(folder, free_port()) as process:
        time.sleep(0.8)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    store = SqliteStore(folder / "camp.db")
    ids = [row.cause.id for client in range(4) for row in store.events_of(f"c{client}", 1_000_000) if row.source == "events"]
    assert acknowledged <= set(ids) and len(ids) == len(set(ids)), "an acknowledged event is lost, or there twice"
    assert store.check() == [] and store.counts().events["new"] == 0
    store.close()


def test_security_no_secret_stands_in_what_it_says(folder):
    port = free_port()
    secrets = {"CAMP_WEB_TOKEN": "token-0123456789abcdef", "CAMP_WEB_SECRET": "key-of-links-0123456789"}
    with running(folder, port, **secrets) as process:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        assert ask(connection, "POST", "/v1/events", {"event": "order.placed", "contact": "ana"})[0] == 401
        assert ask(connection, "POST", "/v1/events", {"event": "order.placed", "contact": "ana"}, Authorization="Bearer wrong-token")[0] == 401
        assert ask(connection, "POST", "/v1/events", {"event": "order.placed", "contact": "ana"}, Authorization=f"Bearer {secrets['CAMP_WEB_TOKEN']}")[0] == 202
        for path in ("/c/some-token-of-a-person", "/u/some-token-of-a-person"):
            ask(connection, "GET", path)
        process.send_signal(signal.SIGTERM)
        said = "".join(process.communicate(timeout=20))
    shown = subprocess.run([sys.executable, "-m", "rules_engine", "config", "show"], cwd=folder, env={**ENVIRONMENT, **secrets, "CAMP_WEB_TOKENS_SHOP": "shop-secret"},
                           capture_output=True, text=True, check=True).stdout  # fmt: skip
    for secret in (*secrets.values(), "wrong-token", "some-token-of-a-person", "shop-secret"):
        assert secret not in said and secret not in shown
    assert "web.secret" in shown and "(hidden)" in shown


def test_slow_clients_and_large_bodies_do_not_hold_it(folder):
    port = free_port()
    with running(folder, port):
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        for one in idle:
            one.sendall(b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        large = socket.create_connection(("127.0.0.1", port))
        large.sendall(b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n")
        large.settimeout(5)
        assert large.recv(100).startswith(b"HTTP/1.1 413"), "before the body was sent"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        assert ask(connection, "POST", "/v1/events", {"id": "e", "event": "order.placed", "contact": "ana"})[0] == 202
        for one in (*idle, large):
            one.close()


# ---------------------------------------------------------------- words of the command


def command(folder, *arguments, **env):
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(cli, ["run", *arguments], env={"XDG_CONFIG_HOME": str(folder / "none"), **env}, prog_name="camp")
    finally:
        os.chdir(before)


def test_what_can_not_be_is_said_in_a_sentence(folder):
    answer = command(folder, "--web", "8080")
    assert answer.exit_code == 2 and "names no port" in answer.stderr and "127.0.0.1:8080" in answer.stderr
    answer = command(folder, "--web", ":0", "--once")
    assert answer.exit_code == 2 and "leave out" in answer.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = command(folder, "--web", f"127.0.0.1:{taken.getsockname()[1]}")
    assert answer.exit_code == 5 and "can't be listened on" in answer.stderr
    answer = command(folder, "--web", ":0", CAMP_WEB_TOKEN="short")
    assert answer.exit_code == 5 and "at least 16" in answer.stderr
    (folder / "camp.toml").write_text('[web.preferences]\nnope = "x"\n')
    answer = command(folder, "--web", ":0")
    assert answer.exit_code == 5 and '"nope" is no attribute' in answer.stderr


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "python_multipart", "httptools"])
def test_a_missing_extra_is_one_sentence(folder, missing):
    program = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['camp', 'run', '--web', ':0']; from rules_engine.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 5 and "pip install 'camp-rules-engine[web]'" in done.stderr and missing in done.stderr and "Traceback" not in done.stderr


def test_plugins_that_write_messages_get_the_key_of_links(folder, monkeypatch):
    seen = {}
    monkeypatch.setattr("rules_engine.service.loop.run_once", lambda *parts, **options: seen.update(options) or _summary())
    (folder / "camp.toml").write_text('[web]\nurl = "https://news.example"\n')
    assert command(folder, "--once", CAMP_WEB_SECRET="key-of-links-0123456789").exit_code == 0
    links = {"url": "https://news.example", "key": "key-of-links-0123456789"}
    assert seen["settings"]["email"]["links"] == seen["settings"]["sms"]["links"] == links and "links" not in seen["settings"]["points"]


def _summary():
    from rules_engine.service.loop import RunSummary

    return RunSummary()


def test_a_server_that_ends_by_itself_ends_the_service_with_an_error(site):
    from rules_engine.service.loop import Stop
    from rules_engine.service.web import server
    from rules_engine.store.port import StoreError

    site.web.writer.close()
    site.web.writer = type(site.web.writer)(site.web.writer._open, site.clock)
    stop = Stop()
    served = server.WebServer(site.web, server.bind("127.0.0.1", 0), on_death=stop)
    with pytest.raises(StoreError, match="ended by itself"), served:
        served._server.should_exit = True
        served._thread.join(10)
        assert stop.wanted
