"""Events a second through HTTP, against the same server answering without doing anything, in one run.

One process serves (`uvicorn` as `camp run --web` starts it, a SQLite file with synchronous=FULL), another sends over k connections that
are kept open, each with one request under way. Two routes of the same server are the measure: `/nothing` reads no body, `/read` reads it and
parses the JSON; both answer like the others. CPU is the server's, user and system, threads included: it says more where a machine is shared.
Rows with the engine have `camp run`'s loop beside the server: a rule that adds a point for each event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.measure import ROOT, child, figure, table

SECONDS, ROUNDS, BATCH = 4.0, 3, 100
CONNECTIONS = (1, 16, 64)
PATHS = ("/nothing", "/read", "/v1/events")
CAMPAIGN = "EVENT order.placed WITH order_id: text, total: number\n\nRULE count\n  WHEN order.placed\n    THEN points.add 1\nEND\n"


# ---------------------------------------------------------------- the server


def serve(folder: Path, engine: bool) -> None:
    """Serves until it is told to end; prints the port."""
    import orjson
    from starlette.routing import Route

    from rules_engine import project
    from rules_engine.clock import SystemClock
    from rules_engine.service.loop import run_forever
    from rules_engine.service.web import server, start
    from rules_engine.service.web.problems import json_response
    from rules_engine.service.web.settings import read_settings
    from rules_engine.store.sqlite import SqliteStore

    (folder / "all.camp").write_text(CAMPAIGN)
    (folder / "camp.toml").write_text("")
    loaded = project.load_program([folder])
    path = folder / "camp.db"
    store = SqliteStore(path)
    web = start.assemble(read_settings({"max_backlog": 50_000_000}), loaded.program.model, "UTC", folder,
                         lambda readonly: SqliteStore(path, create=False, readonly=readonly))  # fmt: skip

    async def nothing(request: object) -> object:
        return json_response({"status": "accepted", "id": "00000000"}, 202)

    async def read(request: object) -> object:
        orjson.loads(await request.body())  # type: ignore[attr-defined]
        return await nothing(request)

    listening = server.bind("127.0.0.1", 0)
    print(listening.getsockname()[1], flush=True)
    served = server.WebServer(web, listening, (Route("/nothing", nothing, methods=["POST"]), Route("/read", read, methods=["POST"])))
    if engine:
        run_forever(store, loaded.program, loaded.host, SystemClock(), beside=lambda stop: served)
    else:
        with served:
            sys.stdin.read()


# ---------------------------------------------------------------- the sender


def request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one has come."""

    def __init__(self, sender: Sender) -> None:
        self._sender, self._left, self._head = sender, 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._sender.next())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._sender.check(head)
            self._left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(rest)
            self._head = b""
        else:
            self._left -= len(data)
        if self._left == 0:
            if self._sender.one():
                self._transport.write(self._sender.next())  # type: ignore[attr-defined]
            else:
                self._transport.close()


class Sender:
    def __init__(self, path: str, batch: int, run: str) -> None:
        self._path, self._batch, self._run = path, batch, run
        self._number, self.done, self._end = 0, 0, 0.0

    def next(self) -> bytes:
        events = []
        for _ in range(self._batch):
            self._number += 1
            events.append({"id": f"{self._run}-{self._number}", "event": "order.placed", "contact": f"c{self._number % 1000}",
                           "at": "2026-03-02T08:00:00Z", "data": {"order_id": f"A{self._number}", "total": 40.5}})  # fmt: skip
        return request(self._path, json.dumps(events if self._batch > 1 else events[0]).encode())

    def check(self, head: bytes) -> None:
        if head[9:12] not in (b"202", b"200"):
            raise SystemExit(f"an answer was {head[:60]!r}")

    def one(self) -> bool:
        self.done += 1
        return time.perf_counter() < self._end

    async def go(self, port: int, connections: int, seconds: float) -> float:
        """Requests a second."""
        began = time.perf_counter()
        self._end = began + seconds
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(lambda: Connection(self), "127.0.0.1", port) for _ in range(connections)]
        while not all(transport.is_closing() for transport, _ in made):
            await asyncio.sleep(0.01)
        return self.done / (time.perf_counter() - began)


def send(port: int, path: str, batch: int, connections: int, seconds: float, run: str) -> dict:
    """In the sender's process: what was reached."""
    sender = Sender(path, batch, run)
    return {"rate": asyncio.run(sender.go(port, connections, seconds)) * batch, "count": sender.done * batch}


def cpu(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- the run


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> list[dict]:
    """Rates of each case, the best of the rounds, interleaved."""
    found: list[dict] = []
    for engine in (False, True):
        with tempfile.TemporaryDirectory(prefix="camp-http-") as folder:
            process = subprocess.Popen([sys.executable, "-m", "benchmarks.http_intake", "--serve", folder, str(int(engine))], cwd=ROOT,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
            try:
                port = int(process.stdout.readline())  # type: ignore[union-attr]
                time.sleep(1.5)
                cases = [(1, connections) for connections in CONNECTIONS] + [(BATCH, 4)]
                for case in cases:
                    rates: dict[str, float] = {}
                    for number in range(rounds):
                        for path in PATHS:
                            run, before = f"{engine}{case}{number}", cpu(process.pid)
                            got = child("benchmarks.http_intake", port, path, case[0], case[1], seconds, run)
                            rates[path] = max(rates.get(path, 0.0), got["rate"])
                            used = (cpu(process.pid) - before) / got["count"] * 1e6
                            rates[path + " cpu"] = min(rates.get(path + " cpu", 1e9), used)
                    found.append({"engine": engine, "batch": case[0], "connections": case[1], **rates})
            finally:
                process.terminate()
                process.wait(30)
    return found


def report(rows: list[dict]) -> str:
    """As a table."""
    return table(
        ("what is sent", "connections", "engine", "events/s, durable", "÷ body read", "÷ nothing done", "CPU µs an event",
         "body read", "nothing done"),
        [("one event a request" if row["batch"] == 1 else f"batches of {row['batch']}", row["connections"], "yes" if row["engine"] else "no",
          figure(row["/v1/events"]), *(f"{row['/v1/events'] / row[path]:.2f}" for path in ("/read", "/nothing")),
          *(figure(row[path + " cpu"]) for path in ("/v1/events", "/read", "/nothing"))) for row in rows],
    )  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "ENGINE"), help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), options.serve[1] == "1")
    elif options.child:
        port, path, batch, connections, seconds, run = options.child
        print(json.dumps(send(int(port), path, int(batch), int(connections), float(seconds), run)))
    else:
        print(report(measure(options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
