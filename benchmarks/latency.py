"""From event to hand-over: 1,000 events a second over HTTP into `camp run --web`, one in twenty of them sends a message.

Three processes: the service (a real `camp run`, SQLite with FULL, messages to files that are synced), and a sender that keeps the rate over
kept connections whatever the answers take. What is measured stands in the database afterwards: for each message the time from the event's
arrival in the log to the claim of its hand-over, and on the sender's side the time of each answer (which comes after the commit).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import ROOT, camp_command, child, table
from rules_engine.store.sqlite import SqliteStore

RATE, SECONDS, CONNECTIONS, PEOPLE = 1_000, 20, 64, 2_000
EVERY = 20  # one event in so many sends a message
CAMPAIGN = """
EVENT page.read WITH number: number
RULE count
  WHEN page.read
    THEN points.add 1
END
RULE letter
  WHEN page.read WHERE event.number = 0
    THEN email.send "letter"
END
"""


class Rate:
    """Sends events at their own times; a late answer delays nobody's time but its connection's next."""

    def __init__(self, port: int, rate: int, seconds: float) -> None:
        self._port, self._rate, self._count = port, rate, int(rate * seconds)
        self._next, self.waits = 0, []

    async def go(self) -> None:
        self._begun = time.perf_counter()
        await asyncio.gather(*(self._line() for _ in range(CONNECTIONS)))

    async def _line(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while self._next < self._count:
            number, self._next = self._next, self._next + 1
            due = self._begun + number / self._rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            event = {"id": f"e{number}", "event": "page.read", "contact": f"c{number % PEOPLE}", "data": {"number": number % EVERY}}
            body = json.dumps(event).encode()
            head = f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if answer[9:12] != b"202":
                raise SystemExit(f"an answer was {answer[:80]!r}")
            self.waits.append(time.perf_counter() - due)
        writer.close()


def project(folder: Path) -> None:
    """A project whose people are known before the clock starts."""
    (folder / "camp.toml").write_text('[email]\nfrom = "shop@example.com"\n')
    (folder / "all.camp").write_text(CAMPAIGN)
    (folder / "templates").mkdir()
    (folder / "templates" / "letter.txt").write_text("Subject: A letter\n\nHello {{ contact.id }}.\n")
    with (folder / "people.jsonl").open("w") as file:
        for n in range(PEOPLE):
            file.write(json.dumps({"id": f"c{n}", "email": f"c{n}@example.com", "consent.email": True}) + "\n")
    for command in (["contact", "import", "people.jsonl"], ["run", "--once"]):
        subprocess.run([*camp_command(), *command], cwd=folder, check=True, capture_output=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure_one(seconds: float) -> dict:
    """In the child, in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="camp-bench-"))
    try:
        project(folder)
        port = free_port()
        service = subprocess.Popen([*camp_command(), "run", "--web", f"127.0.0.1:{port}"], cwd=folder, stderr=subprocess.PIPE)
        try:
            await_port(port)
            # The sender has a process of its own, so that its work is not the service's.
            sender = subprocess.run(
                [sys.executable, "-m", "benchmarks.latency", "--send", str(port), str(seconds)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            settle(folder, int(RATE * seconds))
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
        return {**json.loads(sender.stdout), **from_the_store(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def await_port(port: int) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the service did not come up")


def settle(folder: Path, events: int) -> None:
    """Until the log is read and everything has left."""
    store = SqliteStore(folder / "camp.db", create=False, readonly=True)
    for _ in range(600):
        counts = store.counts()
        if not counts.events.get("new") and counts.effects.get("accepted", 0) >= events // EVERY:
            break
        time.sleep(0.1)
    store.close()


def from_the_store(folder: Path) -> dict:
    store = SqliteStore(folder / "camp.db", create=False, readonly=True)
    waits = [
        claimed - received
        for claimed, received in store._db.rows(
            "SELECT effect.first_claimed_at, event.received FROM effect JOIN event ON event.event_id = effect.instance ORDER BY 1"
        )
    ]
    store.close()
    return {"messages": len(waits), **{f"hand_{name}": share(sorted(waits), part) for name, part in SHARES.items()}}


SHARES = {"50": 0.5, "95": 0.95, "99": 0.99, "max": 1.0}


def share(ordered: list, part: float) -> float:
    """The value below which a part of them lies."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def send(port: int, seconds: float) -> dict:
    rate = Rate(port, RATE, seconds)
    begun = time.perf_counter()
    asyncio.run(rate.go())
    waits = sorted(wait * 1000 for wait in rate.waits)
    return {"sent": len(waits) / (time.perf_counter() - begun), **{f"answer_{name}": share(waits, part) for name, part in SHARES.items()}}


def measure(seconds: float = SECONDS) -> dict:
    """One run."""
    print("  from event to hand-over", file=sys.stderr, flush=True)
    return child("benchmarks.latency", seconds)


def report(found: dict) -> str:
    """One table."""
    if "missing" in found:
        return str(found["missing"])
    rows = [
        ["the answer, after the commit", *(f"{found[f'answer_{name}']:,.0f}" for name in SHARES)],
        ["the event's hand-over begins", *(f"{found[f'hand_{name}']:,.0f}" for name in SHARES)],
    ]
    text = table([f"ms at {found['sent']:,.0f} events/s, {os.cpu_count()} cores", "median", "p95", "p99", "longest"], rows)
    return f"{text}\n\n{found['messages']:,} messages."


def main() -> None:
    """Print the table, or one measurement as JSON for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=1, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    if options.send:
        print(json.dumps(send(int(options.send[0]), float(options.send[1]))))
    elif options.child:
        print(json.dumps(measure_one(options.child[0])))
    else:
        print(report(measure(options.seconds)))


if __name__ == "__main__":
    main()
