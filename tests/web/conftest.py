"""The real application over a real SQLite file, in process, on a clock that the test moves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parents[2]))

from rules_engine import links, project  # noqa: E402
from rules_engine.clock import VirtualClock  # noqa: E402
from rules_engine.decisions import Effect  # noqa: E402
from rules_engine.facts import ContactChange  # noqa: E402
from rules_engine.service.web import start  # noqa: E402
from rules_engine.service.web.app import build_app  # noqa: E402
from rules_engine.service.web.settings import read_settings  # noqa: E402
from rules_engine.store.port import Arrival, Block, ContactRow  # noqa: E402
from rules_engine.store.sqlite import SqliteStore  # noqa: E402

NOW = 1_772_442_000_000  # 2026-03-02T09:00:00Z
KEY, TOKEN = "the-key-of-links-long", "token-0123456789abcdef"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
VISITOR = "visitor:" + "0123456789abcdef" * 2
SITE = "https://shop.example"

CAMPAIGNS = """
EVENT order.placed WITH order_id: text, total: number, paid_at: datetime, colour: text ONE OF ["red", "blue"]
ATTRIBUTE plan: text ONE OF ["free", "paid"]
ATTRIBUTE first_name: text
ATTRIBUTE news: boolean
ATTRIBUTE visits: number

CAMPAIGN orders
  FOR EACH event.order_id
  WHEN order.placed
    THEN email.send "thanks"
    AFTER 1 day
      THEN email.send "thanks"
END
"""

WEB: dict[str, Any] = {"url": "https://news.example", "secret": KEY, "token": TOKEN, "sites": [SITE]}


class Site:
    """`site.http` sends requests; what they leave is asked from `site.store`."""

    def __init__(self, folder: Path, table: dict[str, Any]) -> None:
        self.folder, self.clock = folder, VirtualClock(NOW)
        (folder / "all.camp").write_text(CAMPAIGNS)
        (folder / "camp.toml").write_text('name = "test"\n')
        (folder / "templates").mkdir(exist_ok=True)
        (folder / "templates" / "thanks.txt").write_text("Subject: Hi\n\nThanks.")
        loaded = project.load_program([folder])
        assert loaded.program is not None, loaded.diagnostics
        self.program, path, clock = loaded.program, folder / "camp.db", self.clock
        self.store = SqliteStore(path, clock)
        self.numbers = iter(range(1, 100_000))
        self.web = start.assemble(
            read_settings(table), loaded.program.model, "UTC", folder, lambda readonly: SqliteStore(path, clock, create=False, readonly=readonly),
            keys=start.keys_of(loaded.program), clock=clock, chance=lambda: f"{next(self.numbers):032x}",
        )  # fmt: skip
        self.web.hold_ms = 20
        self.app = build_app(self.web)
        self.web.writer.start()

    def __enter__(self) -> Site:
        self.http = TestClient(self.app, "http://127.0.0.1:8080", follow_redirects=False, client=("127.0.0.1", 5000), headers={"user-agent": CHROME})
        self.http.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.__exit__(None, None, None)
        self.web.writer.close()
        self.web.reader.close()
        self.store.close()

    # ------------------------------------------------------------ what tests do

    def post(self, path: str, **options: Any) -> Any:
        """With the token."""
        return self.http.post(path, **{**options, "headers": {"authorization": f"Bearer {TOKEN}", **options.get("headers", {})}})

    def token(self, purpose: str, **values: Any) -> str:
        return links.sign(KEY, purpose, {"c": "ana", "s": "thanks", "m": "orders", **values})

    def rows(self) -> list[Any]:
        """The log, after what is in the background."""
        self.http.portal.call(self._drain)
        return self.store.read_log(0, 10_000)

    def events(self) -> list[Any]:
        return [row.cause for row in self.rows()]

    async def _drain(self) -> None:
        import asyncio

        await asyncio.sleep(self.web.hold_ms / 1000 + 0.05)
        await self.web.writer.submit([])

    def effect(self, id: str = "orders/1/ana", key: str | None = "A1", channel: str = "email", **more: Any) -> str:
        """An effect in the outbox that was handed over an hour ago."""
        made = Effect(id, "ana", f"{channel}.send", "thanks", {}, "orders", "1", key=key, channel=channel, message_class="marketing", at=NOW - 3_600_000, expires=None, **more)
        self.store.commit(Block("p", effects=[made]))
        return id

    def contact(self, id: str, **attributes: Any) -> None:
        """A contact that the engine knows."""
        import orjson

        self.store.record_events([Arrival(ContactChange(f"{id}:{len(attributes)}", id, 1, attributes), "contacts")])
        self.store.commit(Block("p", states=[ContactRow(id, orjson.dumps({"a": attributes}), None, "p", 1)], done=[row.seq for row in self.store.read_log(0, 99)]))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """`make(setting=…)`: a site with settings of [web] besides the usual."""
    made: list[Site] = []

    def build(**table: Any) -> Site:
        site = Site(tmp_path, {key: value for key, value in {**WEB, **table}.items() if value is not None})
        made.append(site)
        return site.__enter__()

    yield build
    for site in made:
        site.__exit__()


@pytest.fixture
def site(make: Any) -> Site:
    return make()
