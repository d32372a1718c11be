"""A slice of the kills at statements. The whole: `python -m tests.crash statements`."""

from __future__ import annotations

import pytest

from rules_engine.store.sqlite import SqliteStore
from tests.crash import cuts, statements, world
from tests.crash.invariants import look
from tests.crash.statements import Camera, die_at, watching


def test_a_kill_at_a_statement_loses_nothing_and_nothing_leaves_twice():
    report = statements.campaign(every=79)
    assert report.lost == []
    assert report.points > 25 and report.continued > 20


@pytest.mark.parametrize("moment", [5, 333, 1301, 2602])
def test_a_copy_of_the_files_is_what_a_real_death_leaves(tmp_path, moment):
    steps, found, count = cuts.script(), [], [0]

    def hook(what):
        count[0] += 1
        if count[0] == moment:
            found.append(Camera(tmp_path / "copied").image())

    for name in ("copied", "died"):
        world.write_templates(tmp_path / name)
    with watching(hook):
        cuts.play(tmp_path / "copied", steps, 0, lambda what, whom: None, False).close()
    assert die_at(moment, tmp_path / "died", steps), "the run has fewer moments than that"
    world.write_templates(tmp_path / "opened")
    (tmp_path / "opened" / "outbox").mkdir()
    for name, data in found[0].items():
        (tmp_path / "opened" / name).write_bytes(data)
    pictures = []
    for folder in ("opened", "died"):
        store = SqliteStore(tmp_path / folder / "camp.db")
        pictures.append((look(store), sorted(path.name for path in (tmp_path / folder).glob("outbox/*.eml"))))
        store.close()
    assert pictures[0] == pictures[1]


def test_acknowledging_before_the_commit_is_found(monkeypatch):
    def play(folder, steps, begin, tell, remote=True, whole=cuts.play):
        def early(what, whom):
            tell(what, whom)
            if what == "step":
                tell("acknowledged", steps[whom].facts)

        return whole(folder, steps, begin, early, remote)

    monkeypatch.setattr(statements, "play", play)
    report = statements.campaign(every=97)
    assert any("was acknowledged and is gone" in text for text in report.lost)
