"""A slice of the power cuts. The whole: `python -m tests.crash cuts --count 100000`."""

from __future__ import annotations

import os
from pathlib import Path

from rules_engine_plugins import _handover
from tests.crash import cuts
from tests.crash.cuts import _replay, _Surface
from tests.crash.disk import Op


def test_after_a_power_cut_nothing_is_lost_and_nothing_leaves_twice():
    report = cuts.campaign(8, every=53)
    assert report.lost == []
    assert report.points > 25 and report.images > 80 and report.continued > 15


def test_with_synchronous_normal_the_harness_finds_losses():
    report = cuts.campaign(3, every=47, instead=cuts.NORMAL)
    assert any("was acknowledged and is gone" in text for text in report.lost)
    assert any("was handed over and is ready" in text for text in report.lost)


def test_the_model_of_the_disk():
    surface = _Surface()
    for op in (Op("open", "a", 1), Op("open", "a-wal", 1), Op("write", "a-wal", 0, b"x" * 600)):
        surface.apply(op)
    assert surface.image(0) == {} and surface.image(1) == {"a": b"", "a-wal": b"x" * 600}
    assert {len(surface.image(seed).get("a-wal", b"")) for seed in range(2, 60)} == {0, 512, 600}
    surface.apply(Op("sync", "a-wal"))
    assert surface.settled and surface.image(0) == surface.image(7) == {"a": b"", "a-wal": b"x" * 600}
    surface.apply(Op("truncate", "a-wal", 0))
    surface.apply(Op("delete", "a", 0))
    assert surface.image(0) == {"a": b"", "a-wal": b"x" * 600} and surface.image(1) == {"a-wal": b""}


def test_a_write_is_torn_at_its_sectors_only():
    torn = _replay(b"", [Op("write", "f", 500, b"ab" * 300)], lambda op, sector: sector == 1)
    assert torn == bytes(512) + (b"ab" * 300)[12:524]


def test_what_the_first_party_transports_accept_is_synced_with_its_names(tmp_path, monkeypatch):
    """The file, the folder that holds its name, and once the folder that holds that one's."""
    opened, synced = {}, []

    class Watching:
        def __getattr__(self, name):
            return getattr(os, name)

        @staticmethod
        def open(path, *given):
            descriptor = os.open(path, *given)
            opened[descriptor] = Path(path)
            return descriptor

        @staticmethod
        def fsync(descriptor):
            synced.append(opened[descriptor].name.removeprefix("."))
            os.fsync(descriptor)

    monkeypatch.setattr(_handover, "os", Watching())
    outbox = tmp_path / "project" / "outbox"
    outbox.parent.mkdir()
    _handover.append_once(outbox / "sms.jsonl", "k1", {})
    assert synced == ["project", "sms.jsonl", "outbox"]
    synced.clear()
    _handover.append_once(outbox / "sms.jsonl", "k2", {})
    assert synced == ["sms.jsonl"]
    synced.clear()
    _handover.write_once(outbox, "1.eml", b"x")
    assert synced == [f"1.eml.{os.getpid()}.tmp", "outbox"]
