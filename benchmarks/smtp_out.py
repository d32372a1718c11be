"""Messages out: effects a second through the real dispatcher to a local SMTP server, against smtplib alone.

The server is a process of its own that answers each command at once, keeps nothing, and offers PIPELINING as Postfix does.
`smtplib` sends the same messages, built beforehand, over one connection with `sendmail`: the floor, which promises nothing.
Camp takes effects from an outbox on disk (SQLite, WAL, FULL), commits the claim, renders, builds and checks the message, hands
it over, commits the outcome: twice on the disk for each handful of messages, because a message that can't be recognised again is
claimed one for each worker.

Between the two stand the parts of the way, so that one sees where the time goes: building the message, handing it over by
Camp's own transport over a kept and over a new connection, and the dispatcher with an action that does nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socketserver
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import child, figure, table, timed

COUNT = 3_000
ROUNDS = 3
START = 1_767_225_600_000

TEXT = "Subject: Hello {{ contact.first_name }}\n\nHello {{ contact.first_name }},\n\nthank you for your order.\n\n{{ unsubscribe_url }}\n"
HTML = (
    "<html><body><p>Hello {{ contact.first_name }},</p><p>thank you for <a href='https://shop.example/orders'>your order</a>.</p>"
    "<p><a href='{{ unsubscribe_url }}'>No more of this</a></p></body></html>\n"
)


# ---------------------------------------------------------------- the server, in its own process


class _Session(socketserver.StreamRequestHandler):
    """Answers at once, forgets everything."""

    wbufsize = -1
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self._say(b"220 ready\r\n")
        for line in self.rfile:
            command = line[:4].upper()
            if command == b"DATA":
                self._say(b"354 go\r\n")
                for text in self.rfile:
                    if text == b".\r\n":
                        break
                self._say(b"250 2.0.0 Ok: queued as Q1\r\n")
            elif command == b"QUIT":
                return
            elif command == b"EHLO":
                self._say(b"250-bench.test\r\n250 PIPELINING\r\n")
            else:
                self._say(b"250 ok\r\n")

    def _say(self, answer: bytes) -> None:
        self.wfile.write(answer)
        self.wfile.flush()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def serve() -> None:
    """Prints its port and serves until its standard input ends."""
    server = _Server(("127.0.0.1", 0), _Session)
    print(server.server_address[1], flush=True)
    import threading

    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    sys.stdin.read()


@contextmanager
def serving() -> Iterator[int]:
    """The port of a server process."""
    command = [sys.executable, "-m", "benchmarks.smtp_out", "--serve"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parent.parent)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.communicate(timeout=10)


# ---------------------------------------------------------------- the sides


def settings(port: int) -> dict:
    """The table [email]."""
    return {
        "transport": "smtp", "from": "Shop <shop@example.com>", "host": "127.0.0.1", "port": port, "tls": "none", "helo": "bench.test",
        "max_messages": 1_000, "links": {"url": "https://news.example", "key": "a secret of the benchmark"},
    }  # fmt: skip


def make_project(folder: Path) -> Path:
    """Templates of an ordinary message, text and HTML."""
    (folder / "templates").mkdir()
    (folder / "templates/order.txt").write_text(TEXT)
    (folder / "templates/order.html").write_text(HTML)
    return folder


def calls(folder: Path, port: int, count: int) -> list:
    """The same hand-overs as the dispatcher makes."""
    from datetime import UTC, datetime

    from rules_engine.actions import Call

    at, table_ = datetime.fromtimestamp(START / 1000, UTC), settings(port)
    return [
        Call(f"shop/s1/c{n}/1", "email.send", "order", {}, {"id": f"c{n}", "email": f"c{n}@example.com", "first_name": "Ana"}, "shop",
             table_, folder, at, 1, "marketing")
        for n in range(count)
    ]  # fmt: skip


def by_smtplib(folder: Path, port: int, count: int) -> Callable[[], object]:
    """Built before, one connection, `sendmail` for each."""
    import smtplib

    from rules_engine_plugins import _mail

    messages = [_mail.compose(call) for call in calls(folder, port, count)]
    server = smtplib.SMTP("127.0.0.1", port, "bench.test")

    def run() -> None:
        for built in messages:
            server.sendmail(built.sender, [built.to], built.data)

    return run


def by_transport(folder: Path, port: int, count: int) -> Callable[[], object]:
    """Built before, over Camp's kept connection."""
    from rules_engine_plugins import _mail, _smtp

    table_ = settings(port)
    messages = [_mail.compose(call) for call in calls(folder, port, count)]
    return lambda: [_smtp.hand_over(table_, built.sender, built.to, built.data) for built in messages]


def by_new_connections(folder: Path, port: int, count: int) -> Callable[[], object]:
    """Built before, a connection for each."""
    from rules_engine_plugins import _mail, _smtp

    table_ = {**settings(port), "max_messages": 1}
    messages = [_mail.compose(call) for call in calls(folder, port, count)]
    return lambda: [_smtp.hand_over(table_, built.sender, built.to, built.data) for built in messages]


def by_building(folder: Path, port: int, count: int) -> Callable[[], object]:
    """Only rendering, building and checking."""
    from rules_engine_plugins import _mail

    made = calls(folder, port, count)
    return lambda: [_mail.compose(call) for call in made]


def through_dispatcher(folder: Path, port: int, count: int, workers: int = 4, nothing: bool = False) -> Callable[[], object]:
    """From the outbox to the server and back."""
    import dataclasses

    import orjson

    from rules_engine import host
    from rules_engine.actions import Outcome
    from rules_engine.clock import VirtualClock
    from rules_engine.decisions import Effect
    from rules_engine.service.dispatch import Dispatcher
    from rules_engine.service.runner import ThreadRunner
    from rules_engine.store.port import Block, ContactRow
    from rules_engine.store.sqlite import SqliteStore

    clock = VirtualClock(START)
    store = SqliteStore(folder / "camp.db", clock)
    for first in range(0, count, 500):
        numbers = range(first, min(first + 500, count))
        states = [(f"c{n}", orjson.dumps({"a": {"email": f"c{n}@example.com", "first_name": "Ana", "consent.email": True}})) for n in numbers]
        effects = [
            Effect(f"shop/s1/c{n}/1", f"c{n}", "email.send", "order", {}, "shop", "s1", None, "email", "marketing", START, None) for n in numbers
        ]
        store.commit(Block("p", [ContactRow(name, state, None, "p", 0) for name, state in states], effects=effects))
    loaded = host.load()
    if nothing:
        loaded.actions["email.send"] = dataclasses.replace(loaded.actions["email.send"], perform=lambda call: Outcome("accepted"))
    dispatcher = Dispatcher(
        store, loaded, clock, settings={"email": settings(port)}, project=folder, attributes=lambda state: state["a"], runner=ThreadRunner(workers)
    )

    def run() -> None:
        while dispatcher.turn() is not None:
            pass
        accepted = store.counts().effects.get("accepted", 0)
        assert accepted == count, f"only {accepted} of {count} were accepted"

    return run


SIDES: dict[str, tuple[str, Callable[[Path, int, int], Callable[[], object]]]] = {
    "smtplib": ("smtplib alone, prebuilt, one connection (the floor)", by_smtplib),
    "transport": ("Camp's transport, prebuilt, kept connection", by_transport),
    "new": ("the same, a new connection for each", by_new_connections),
    "build": ("rendering, building, checking the message only", by_building),
    "nothing": ("the dispatcher, an action that does nothing, 4 workers", lambda *a: through_dispatcher(*a, nothing=True)),
    "camp1": ("Camp, outbox to server, 1 worker", lambda *a: through_dispatcher(*a, workers=1)),
    "camp": ("Camp, outbox to server, 4 workers", through_dispatcher),
    "camp16": ("Camp, outbox to server, 16 workers", lambda *a: through_dispatcher(*a, workers=16)),
}


def measure_one(side: str, count: int, profile: bool = False) -> dict:
    """In the child."""
    folder = Path(tempfile.mkdtemp(prefix="camp-bench-"))
    try:
        with serving() as port:
            run = SIDES[side][1](make_project(folder), port, count)
            if profile:
                _profile(run)
                return {}
            _, timing = timed(run)
            from rules_engine_plugins import _smtp

            _smtp.forget()
        return {"per_s": count / timing.wall, "us": timing.wall / count * 1e6, "cpu": timing.cpu / count * 1e6}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _profile(run: Callable[[], object]) -> None:
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    profiler.runcall(run)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def measure(count: int = COUNT, rounds: int = ROUNDS) -> dict:
    """Side -> its best round; the sides take turns."""
    best: dict[str, dict] = {}
    for number in range(rounds):
        for side in SIDES:
            print(f"  messages out, round {number + 1}, {side}", file=sys.stderr, flush=True)
            found = child("benchmarks.smtp_out", side, count)
            if side not in best or found.get("us", 1e12) < best[side].get("us", 1e12):
                best[side] = found
    return best


def report(results: dict) -> str:
    """One table; ratios to the floor."""
    floor = results["smtplib"]
    rows = []
    for side, (title, _) in SIDES.items():
        found = results[side]
        if "missing" in found:
            rows.append([title, found["missing"], "–", "–", "–"])
            continue
        rows.append([title, f"{found['per_s']:,.0f}", figure(found["us"]), figure(found["cpu"]), f"{figure(found['us'] / floor['us'])}×"])
    return table(["Messages out, local SMTP server", "messages/s", "µs each", "CPU µs each", "÷ smtplib"], rows)


def main() -> None:
    """The table, or one side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--profile", metavar="SIDE", choices=list(SIDES), help="print where one side's time goes")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.child:
        print(json.dumps(measure_one(options.child[0], int(options.child[1]))))
    elif options.profile:
        measure_one(options.profile, options.count, profile=True)
    else:
        print(report(measure(options.count, options.rounds)))


if __name__ == "__main__":
    main()
