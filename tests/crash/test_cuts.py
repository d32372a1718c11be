"""A slice of the power cuts. The whole: `python -m tests.crash cuts --count 100000`."""

from __future__ import annotations

from tests.crash import cuts
from tests.crash.cuts import _replay, _Surface
from tests.crash.disk import Op


def test_after_a_power_cut_nothing_is_lost_and_nothing_leaves_twice():
    report = cuts.campaign(12, every=29)
    assert report.lost == []
    assert report.points > 50 and report.images > 200 and report.continued > 30


def test_with_synchronous_normal_the_harness_finds_losses():
    report = cuts.campaign(3, every=23, instead=cuts.NORMAL)
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
