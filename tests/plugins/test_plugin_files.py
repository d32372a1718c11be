"""The JSON Lines transports: one line for each key, whatever crashes and whoever else writes."""

import json
import multiprocessing
import os

import pytest

from rules_engine.testing.plugins import CONTACT, make_call
from rules_engine_plugins import _handover, sms

SETTINGS = {"fsync": False}


def keys(file):
    return [json.loads(line)["key"] for line in file.read_text().splitlines()]


def test_the_line_says_what_a_bridge_needs(tmp_path):
    outcome = sms.send(make_call("sms.send", tmp_path, "Hi\r\nthere", {"class": "transactional"}, settings=SETTINGS))
    assert outcome.state == "accepted"
    assert json.loads((tmp_path / "outbox/sms.jsonl").read_text()) == {
        "key": "effect-1",
        "at": "2026-03-02T09:00:00Z",
        "action": "sms.send",
        "to": "+420601234567",
        "from": None,
        "text": "Hi \nthere",
        "class": "transactional",
        "campaign": "welcome",
        "contact": "ana",
    }


@pytest.mark.parametrize("phone", [None, "", "12", "+1 (555) 12x", "0" * 16, 420601234567, "+420601234567\n+1", "٠١٢٣٤٥٦٧"])
def test_no_usable_number_fails(tmp_path, phone):
    assert sms.send(make_call("sms.send", tmp_path, "x", contact={**CONTACT, "phone": phone})).state == "failed"


@pytest.mark.parametrize("text", ["", "  ", None, "x" * 1_601])
def test_a_text_of_no_or_too_many_characters_fails(tmp_path, text):
    assert sms.send(make_call("sms.send", tmp_path, text)).state == "failed"


def test_a_torn_last_line_is_no_hand_over(tmp_path):
    file = tmp_path / "a.jsonl"
    assert _handover.append_once(file, "1", {"x": 1}, False)
    whole = file.read_bytes()
    for cut in range(1, len(whole)):
        file.write_bytes(whole + whole.replace(b'"1"', b'"2"')[:cut])
        _handover._seen.clear()
        fresh = _handover.append_once(file, "2", {"x": 1}, False)
        assert keys(file) == ["1", "2"]
        assert fresh is (cut < len(whole) - 1)  # whole but for its line break: it is there


def test_it_notices_a_file_that_was_removed_shortened_or_grown_by_others(tmp_path):
    file = tmp_path / "a.jsonl"
    assert _handover.append_once(file, "1", {}, False)
    file.unlink()
    assert _handover.append_once(file, "1", {}, False)
    with file.open("a") as stream:
        stream.write('{"key": "2"}\nnot json\n[]\n')
    assert not _handover.append_once(file, "2", {}, False)
    file.write_text("")
    assert _handover.append_once(file, "2", {}, False)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    call = make_call("sms.send", tmp_path, "hello", settings=SETTINGS)
    real = os.pwrite

    def full(descriptor, data, offset):
        real(descriptor, data[:5], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert sms.send(call).state == "retry" and (tmp_path / "outbox/sms.jsonl").read_bytes() == b""
    monkeypatch.undo()
    assert sms.send(call).state == "accepted" and keys(tmp_path / "outbox/sms.jsonl") == ["effect-1"]


def _append(file, start):
    for number in range(start, start + 60):
        _handover.append_once(file, str(number), {"text": "x" * 200}, False)


def test_processes_that_write_the_same_keys_write_each_once(tmp_path):
    file = tmp_path / "a.jsonl"
    workers = [multiprocessing.get_context("fork").Process(target=_append, args=(file, start)) for start in (0, 0, 30, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(keys(file), key=int) == [str(number) for number in range(90)]


def test_json_of_anything():
    from datetime import UTC, date, datetime, time, timedelta

    loop = {}
    loop["loop"] = loop
    text = _handover.to_json(
        {
            "a": datetime(2026, 3, 2, tzinfo=UTC),
            "b": date(2026, 3, 2),
            "c": time(9),
            "d": timedelta(hours=1),
            "e": {2, 1},
            "f": float("nan"),
            "g": "\ud800\u2028",
            "h": b"x",
            5: None,
            "i": 10**5000,
            "j": (1, True),
        }
    )
    assert json.loads(text) == {
        "a": "2026-03-02T00:00:00Z",
        "b": "2026-03-02",
        "c": "09:00:00",
        "d": 3600.0,
        "e": [1, 2],
        "f": None,
        "g": "?\u2028",
        "h": "b'x'",
        "5": None,
        "i": None,
        "j": [1, True],
    }
    assert "\n" not in text and json.loads(_handover.to_json(loop))
