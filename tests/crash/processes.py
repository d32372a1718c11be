"""The command itself: `camp run` as a real process, with a real mail server behind it, killed by SIGKILL, ended by SIGTERM, started again.

Mail goes by SMTP, which knows no keys: a message that comes twice is seen by its Message-ID. Imports and other commands work on the same file
meanwhile. In the end the outbox, the log and the mail server must agree as `invariants` says.
"""

from __future__ import annotations

import contextlib
import email
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from aiosmtpd.controller import Controller

from rules_engine.links import handle
from rules_engine.store.sqlite import SqliteStore
from tests.crash import world
from tests.crash.invariants import Handed, Truth, broken, look
from tests.crash.world import chance

PROGRAM = """
EVENT signup WITH plan: text
RULE hello
  WHEN signup
    THEN points.add 5
    THEN email.send "welcome_1"
END
RULE again
  WHEN contact.points BECOMES >= 10
    THEN email.send "welcome_2", class: "transactional"
END
"""
PATIENCE = 60.0  # seconds for anything


class Mailbox:
    """Takes each message, slowly."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.ids: list[str] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        import asyncio

        self.ids.append(email.message_from_bytes(envelope.content)["Message-ID"].strip("<>").partition("@")[0])
        await asyncio.sleep(self._seconds)
        return "250 taken"


@contextlib.contextmanager
def mail_server(seconds: float) -> Iterator[tuple[Mailbox, int]]:
    """A real one, on a free port of this machine."""
    box = Mailbox(seconds)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


@dataclass
class Project:
    """A folder with a project of its own."""

    folder: Path
    port: int
    told: list[dict] = field(default_factory=list)

    def write(self) -> None:
        world.write_templates(self.folder)
        (self.folder / "shop.camp").write_text(PROGRAM)
        (self.folder / "camp.toml").write_text(
            'name = "shop"\ndatabase = "camp.db"\ntemplates = "templates"\n[email]\ntransport = "smtp"\nfrom = "Shop <shop@shop.example>"\n'
            f'host = "127.0.0.1"\nport = {self.port}\ntls = "none"\n')
        (self.folder / "contacts.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in world.contact_records(40)))

    def camp(self, *arguments: str) -> subprocess.CompletedProcess:
        """One command, to its end."""
        return subprocess.run([sys.executable, "-m", "rules_engine", *arguments], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE)

    def start(self, *arguments: str) -> subprocess.Popen:
        """`camp run`, once it runs."""
        process = subprocess.Popen([sys.executable, "-m", "rules_engine", "run", *arguments], cwd=self.folder, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        return process

    def tell(self, count: int) -> subprocess.CompletedProcess:
        """So many sign-ups, by `camp event import`."""
        number = len(self.told)
        now = world.moment(time.time_ns() // 1_000_000 - 1000)
        fresh = [{"id": f"s{n}", "event": "signup", "contact": f"c{n % 40:03}", "at": now, "data": {"plan": "small"}}
                 for n in range(number, number + count)]
        path = self.folder / f"events-{number}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in fresh))
        done = self.camp("event", "import", path.name)
        if done.returncode == 0:
            self.told += fresh
        return done

    def store(self) -> SqliteStore:
        return SqliteStore(self.folder / "camp.db", readonly=True)


def wait_for(what: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Until something is so. Raises AssertionError."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"it did not happen within {seconds:g} s"
        time.sleep(0.02)


def end(process: subprocess.Popen, number: int) -> tuple[int, str, str]:
    """Sends a signal; the exit code, and what was said."""
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def verdict(project: Project, box: Mailbox, deaths: int, workers: int) -> list[str]:
    """What is broken at the end."""
    store = project.store()
    picture = look(store)
    names = {handle(id): id for id in picture.effects}
    facts = [world.Event(item["id"], "signup", item["contact"], 0, None, {}) for item in project.told]
    handed = [Handed(names.get(id, id)) for id in box.ids]
    said = broken(store, Truth(facts, handed, live=True, now=time.time_ns() // 1_000_000, deaths=deaths, workers=workers))
    store.close()
    return said


def campaign(kills: int, seed: int = 1, say: Callable[[str], None] = lambda text: None, enough: Callable[[], bool] = lambda: False) -> tuple[int, int, list[str]]:
    """So many deaths of `camp run`; (kills, effects unknown, what is broken)."""
    folder = Path(tempfile.mkdtemp(prefix="camp-processes-"))
    with mail_server(0.03) as (box, port):
        project = Project(folder, port)
        project.write()
        assert project.camp("contact", "import", "contacts.jsonl").returncode == 0
        killed = 0
        for number in range(kills):
            if enough():
                break
            process = project.start()
            try:
                mail = len(box.ids)
                done = project.tell(20)
                assert done.returncode == 0, done.stderr
                wait_for(lambda mail=mail: len(box.ids) > mail)
                time.sleep(chance(seed, number) * 0.25)
                code, _, err = end(process, signal.SIGKILL)
                assert code == -signal.SIGKILL, err
                killed += 1
            finally:
                if process.poll() is None:
                    process.kill()
            say(f"{killed} kills, {len(box.ids)} messages")
        done = project.camp("run", "--once")
        said = [] if done.returncode in (0, 6) else [f"`camp run --once` ended with {done.returncode}: {done.stderr[-300:]}"]
        said += verdict(project, box, killed, 16)
        store = project.store()
        unknown = store.counts().effects.get("unknown", 0)
        store.close()
    if not said:
        shutil.rmtree(folder, ignore_errors=True)
    return killed, unknown, said
