"""Files into the log."""

from __future__ import annotations

import gzip
import json
import os

import pytest

from rules_engine.facts import ContactChange, Event
from rules_engine.service import ingest
from rules_engine.store.port import SOURCE_CONTACTS


def read_event(record):
    """Stands in for the engine's reader: no types."""
    if "event" not in record:
        raise ValueError("`event` is missing")
    return Event(
        str(record["id"]),
        record["event"],
        record.get("contact"),
        ingest.moment(record["at"], "at"),
        record.get("subject"),
        record.get("data") or {},
    )


def read_contact(record, at):
    record = dict(record)
    if "id" not in record:
        raise ValueError("`id` is missing")
    return ContactChange("", record.pop("id"), at, record)


def line(id="e1", **more):
    return json.dumps(
        {
            k: v
            for k, v in {"id": id, "event": "order.placed", "contact": "ana", "at": "2026-03-02T09:00:00Z", **more}.items()
            if v is not None
        }
    )


@pytest.fixture
def write(tmp_path):
    def write(content, name="events.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rejected(path):
    return [json.loads(text) for text in path.with_name(path.name + ".rejected.jsonl").read_text().splitlines()]


def test_events_come_in_and_a_repeat_is_recognised(store, write):
    path = write(
        line("e1", data={"total": 4.5}, subject="x") + "\n" + line("e2") + "\n\n" + line("e1", data={"total": 4.5}, subject="x")
    )
    done = ingest.import_events(store, path, read_event)
    assert done == ingest.Ingested(3, 2, 1, 0, 0, 0, None)
    assert store.read_log(0, 1)[0].cause[:6] == ("e1", "order.placed", "ana", 1_772_442_000_000, "x", {"total": 4.5})
    assert ingest.import_events(store, path, read_event)[:4] == (3, 0, 3, 0)


def test_a_bad_line_costs_only_itself(store, write):
    lines = [
        line("e1").encode(),
        b"{no json",
        b"[1, 2]",
        line("e2", event=None).encode(),
        line("e3", at=None).encode(),
        line("e4", at="yesterday").encode(),
        b'{"id": "\xff"}',
        line("x" * 501).encode(),
        line("e5", contact=7).encode(),
        line("e6", data={"text": "y" * 100_001}).encode(),
        line("e7", at="9999-12-31T23:00:00-23:00").encode(),
        line("e9").encode(),
    ]
    path = write(b"\r\n".join(lines))
    done = ingest.import_events(store, path, read_event)
    assert (done.lines, done.accepted, done.rejected) == (12, 2, 10)
    kept = rejected(path)
    assert [item["line"] for item in kept] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    for item, words in zip(
        kept,
        (
            "no JSON",
            "no JSON object",
            "`event` is missing",
            "`at` is missing",
            "no moment",
            "not UTF-8: byte 9",
            "`id` must",
            "`contact` must",
            "longer than",
            "",
        ),
        strict=True,
    ):
        assert words in item["reason"], item
    assert kept[0]["text"] == "{no json" and len(kept[8]["text"]) < 3_000
    path.write_bytes(b"\n".join(lines[:1]))
    assert ingest.import_events(store, path, read_event).rejected_file is None
    assert not path.with_name("events.jsonl.rejected.jsonl").exists(), "what an earlier run kept aside is judged anew"


@pytest.mark.parametrize("depth", [300, 900, 1_000, 100_000])
def test_a_line_that_is_nested_too_deeply_costs_only_itself(store, write, depth):
    """orjson reads more levels than it writes, and Python's own writer raises RecursionError."""
    deep = line("deep", data={"a": "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)
    fits = line("fits", data={"a": "HERE"}).replace('"HERE"', "[" * 98 + "]" * 98)
    path = write("\n".join([deep, fits, line("e2"), '{"id": 1, "plan": ' + "[" * depth + "]" * depth + "}"]))
    assert ingest.import_events(store, path, read_event)[:5] == (4, 2, 0, 0, 2)
    assert all(("nested more than 100 levels" if depth < 1_024 else "longer" if depth > 90_000 else "") in item["reason"] for item in rejected(path))
    assert ingest.import_contacts(store, path, read_contact).rejected == 2


def test_a_conflict_is_kept_aside_and_the_first_stands(store, write):
    path = write(line("e1", data={"total": 1}) + "\n" + line("e1", data={"total": 2}))
    done = ingest.import_events(store, path, read_event)
    assert (done.accepted, done.conflicts, done.rejected) == (1, 1, 0)
    assert rejected(path)[0]["reason"] == "another event with the id e1 is known; the first stands"
    assert store.read_log(0, 1)[0].cause.data == {"total": 1}


def test_events_without_an_id_are_told_apart_by_content_and_occurrence(store, write):
    path = write("\n".join([line(None), line(None), line(None, contact="ben"), line("e1")]))
    done = ingest.import_events(store, path, read_event)
    assert (done.accepted, done.without_id) == (4, 3)
    assert ingest.import_events(store, path, read_event)[:4] == (4, 0, 4, 0)
    assert ingest.import_events(store, write(line(None), "other.jsonl"), read_event).duplicates == 1


def test_a_default_moment_may_be_given(store, write):
    ingest.import_events(store, write(line("e1", at=None)), read_event, default_at="2026-01-01T00:00:00Z")
    assert store.read_log(0, 1)[0].cause.at == 1_767_225_600_000


def test_a_killed_import_goes_on_where_it_was(store, write):
    path = write("\n".join(line(f"e{n}") for n in range(1_000)))
    batches = []

    def die(point):
        if point == "ingest.batch_read":
            batches.append(point)
            if len(batches) == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest.import_events(store, path, read_event, batch=100, faults=die)
    assert store.counts().events["new"] == 300
    done = ingest.import_events(store, path, read_event, batch=100)
    assert (done.accepted, done.duplicates) == (700, 300)


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv(store, write, head, end):
    rows = [
        "id,event,contact,at,subject,total,note",
        'e1,order.placed,ana,2026-03-02T09:00:00Z,,4.5,"a, ""b""',
        'c"',
        "e2,order.placed,ben,2026-03-02T09:00:00Z,x,,ä",
    ]
    path = write(head + end.join(rows).encode(), "events.csv")
    done = ingest.import_events(store, path, read_event)
    assert (done.lines, done.accepted, done.rejected) == (2, 2, 0)
    one, two = (row.cause for row in store.read_log(0, 5))
    assert one[:6] == ("e1", "order.placed", "ana", 1_772_442_000_000, None, {"total": "4.5", "note": 'a, "b"\nc'})
    assert (two.subject, two.data) == ("x", {"note": "ä"})


def test_csv_with_bad_lines(store, write):
    good = "{},order.placed,ana,2026-03-02T09:00:00Z"
    lines = ["id,event,contact,at", good.format("e1"), "too,few", good.format('"e2'), good.format("e3"), good.format("e4")]
    path = write(
        "\n".join(lines).encode() + b"\ne5,order.placed,\xff,2026-03-02T09:00:00Z\n" + good.format("e6").encode(), "events.csv"
    )
    done = ingest.import_events(store, path, read_event)
    assert [row.cause.id for row in store.read_log(0, 9)] == ["e1", "e3", "e4", "e6"], (
        "a quote that is not closed swallows nothing"
    )
    assert (done.accepted, done.rejected) == (4, 3)
    assert [(item["line"], item["reason"].split(":")[0]) for item in rejected(path)] == [
        (3, "the line has 2 columns and the header 4"),
        (4, "the line is no CSV"),
        (7, "the line is not UTF-8"),
    ]


@pytest.mark.parametrize("header", ["a,b,a", "total,at", "id,,event"])
def test_a_csv_header_that_says_nothing_useful_is_refused(store, write, header):
    path = write(header + "\n1,2,3\n", "events.csv")
    assert ingest.import_events(store, path, read_event)[:5] == (1, 0, 0, 0, 1)
    assert "nothing was read" in rejected(path)[0]["reason"]


def test_gzip_and_a_torn_one(store, write):
    packed = gzip.compress("\n".join(line(f"e{n}", data={"n": os.urandom(50).hex()}) for n in range(2_000)).encode())
    assert ingest.import_events(store, write(packed, "a.jsonl.gz"), read_event).accepted == 2_000
    done = ingest.import_events(store, write(packed[: len(packed) // 2], "b.jsonl.gz"), read_event)
    assert done.duplicates > 100 and "can't be read behind line" in done.incomplete


def test_progress_tells_lines_and_bytes(store, write):
    told = []
    path = write("\n".join(line(f"e{n}") for n in range(1_200)))
    ingest.import_events(store, path, read_event, progress=lambda lines, size: told.append((lines, size)))
    assert [lines for lines, _ in told] == [500, 1_000, 1_200] and told[-1][1] == path.stat().st_size


def test_progress_is_told_of_what_is_committed(store, write):
    """Whoever hears of lines may forget them (promise P1)."""
    path = write("\n".join(line(f"e{n}") for n in range(1_200)))
    told = []
    ingest.import_events(store, path, read_event, progress=lambda lines, size: told.append((lines, sum(store.counts().events.values()))))
    assert told == [(500, 500), (1_000, 1_000), (1_200, 1_200)]


# ---------------------------------------------------------------- contacts


def contact_file(write, *contacts, name="contacts.jsonl", at=1_700_000_000):
    path = write("\n".join(json.dumps(contact) for contact in contacts), name)
    os.utime(path, (at, at))
    return path


def test_contacts_are_changes_with_a_moment(store, write):
    path = contact_file(
        write,
        {"id": "ana", "email": "a@x"},
        {"id": "ben", "created_at": "2020-01-01T00:00:00Z"},
        {"id": "cyn", "at": "2021-01-01T00:00:00Z"},
        {"id": "dan", "created_at": "2999-01-01T00:00:00Z"},
    )
    assert ingest.import_contacts(store, path, read_contact)[:5] == (4, 4, 0, 0, 0)
    rows = store.read_log(0, 9)
    assert [(row.cause.contact, row.cause.at) for row in rows] == [
        ("ana", 1_700_000_000_000),
        ("ben", 1_577_836_800_000),
        ("cyn", 1_609_459_200_000),
        ("dan", 1_700_000_000_000),
    ]
    assert rows[0].source == SOURCE_CONTACTS and rows[0].cause.attributes == {"email": "a@x"}


def test_the_same_file_is_a_repeat_and_a_file_written_anew_is_told_again(store, write):
    ana, ben = {"id": "ana", "points": 1}, {"id": "ben"}
    assert ingest.import_contacts(store, contact_file(write, ana, ben), read_contact).accepted == 2
    assert ingest.import_contacts(store, contact_file(write, ana, ben), read_contact)[:4] == (2, 0, 2, 0)
    assert ingest.import_contacts(store, contact_file(write, {**ana, "points": 2}, at=1_700_000_001), read_contact).accepted == 1
    assert ingest.import_contacts(store, contact_file(write, ana, at=1_700_000_002), read_contact).accepted == 1, (
        "an older value is put back"
    )


def test_contacts_from_csv(store, write):
    path = write("id,email,points\nana,a@x,\nben,,5\n", "contacts.csv")
    ingest.import_contacts(store, path, read_contact, default_at=77)
    assert [(row.cause.contact, row.cause.at, row.cause.attributes) for row in store.read_log(0, 5)] == [
        ("ana", 77, {"email": "a@x"}),
        ("ben", 77, {"points": "5"}),
    ]


def test_lines_that_are_kept_aside_are_for_the_service_alone(store, write):
    path = write("no json")
    ingest.import_events(store, path, read_event)
    assert path.with_name(path.name + ".rejected.jsonl").stat().st_mode & 0o777 == 0o600
