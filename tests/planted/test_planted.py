"""A few planted bugs, another choice for each state of the sources. All: `python -m tests.planted`, or CAMP_PLANTED=all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.planted import runner  # noqa: E402

COUNT = os.environ.get("CAMP_PLANTED", "3")
WANTED = ("mark_before_send", "acknowledge_before_commit", "recover_as_ready", "version_in_the_firing_key", "iterate_months", "naive_local_time",
          "synchronous_normal", "begin_deferred", "batch_then_mark", "checkpoint_at_fetch", "settle_without_the_attempt", "claim_without_expiry",
          "consent_at_decision_only", "retry_on_unknown", "emit_without_id", "late_wake_dropped", "dedupe_key_dropped", "order_of_a_set",
          "jitter_from_random")


def chosen() -> list[runner.Bug]:
    return runner.bugs() if COUNT == "all" else runner.some(int(COUNT))


def test_the_list_of_promises_has_its_bugs():
    assert set(WANTED) <= {bug.name for bug in runner.bugs()}
    for bug in runner.bugs():
        assert all((runner.ROOT / test).exists() for test in bug.tests), bug


@pytest.mark.skipif(COUNT == "0", reason="a run of planted bugs plants none")
def test_planted_bugs_are_caught():
    left = [verdict for verdict in runner.judge_all(chosen()) if verdict.state != "caught"]
    assert not left, "\n".join(f"{verdict.bug.name} {verdict.state}: {verdict.bug.breaks}\n{verdict.by}" for verdict in left)


@pytest.mark.skipif(COUNT == "0", reason="a run of planted bugs plants none")
def test_a_patch_that_does_not_apply_is_no_catch(tmp_path):
    path = tmp_path / "odd.patch"
    path.write_text("breaks: nothing\ntests: tests/service/test_breaker.py\n\n--- a/rules_engine/limits.py\n+++ b/rules_engine/limits.py\n"
                    "@@ -1,1 +1,1 @@\n-no such line\n+another\n")
    verdict = runner.judge(runner.Bug("odd", "nothing", ("tests/service/test_breaker.py",), path))
    assert verdict.state == "stale" and "limits.py" in verdict.by
