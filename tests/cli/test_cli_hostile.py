"""Whatever is typed and whatever stands in a file: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import random

import pytest

FILES = {
    "binary.jsonl": bytes(range(256)) * 10,
    "deep.jsonl": b'{"id":' + b"[" * 5_000 + b"\n",
    "long.jsonl": b'{"id":"' + b"x" * 200_000 + b'"}\n',
    "nul.csv": b"id,email\n\0,\0\n",
    "numbers.jsonl": b'{"id":1e400}\n{"id":NaN}\n[1]\nnull\n{"id":"a","created_at":12}\n'
    b'{"id":"a","created_at":"9999-99-99"}\n{"id":"b","tags":{"x":1}}\n',
    "events.jsonl": b'{"event":null}\n{"event":"order.placed","contact":"a","at":"0001-01-01"}\n'
    b'{"event":"order.placed","contact":"a","at":"2026-01-01T00:00:00Z","data":[1]}\n'
    b'{"event":"order.placed","contact":["a"],"at":"2026-01-01T00:00:00Z"}\n'
    b'{"event":"order.placed","contact":"a","at":"2026-01-01T00:00:00Z","data":{"total":"NaN"},"subject":{"a":1}}\n'
    b'{"id":{"a":1},"event":"order.placed","contact":"a","at":"2026-01-01T00:00:00Z"}\n',
    "quote.csv": b'id,event,contact,at\n"unclosed,order.placed,a,2026-01-01\n',
    "letter.jsonl.gz": b"not gzip",
    "broken.camp": b'TEST "a"\n AT 1\nEND',
    "nul.camp": b"\0\0",
    "latin.camp": b"# \xe4\n",
}

COMMANDS = [
    ("simulate", "--until", "2026-04-01", "--contacts"),
    ("simulate", "--until", "2026-04-01", "--events"),
    ("contact", "import"),
    ("contact", "import", "--dry-run"),
    ("event", "import"),
    ("event", "import", "--dry-run"),
    ("fmt", "--check"),
    ("check",),
    ("test",),
]


@pytest.mark.parametrize("name", sorted(FILES))
def test_hostile_files(shop, name):
    (shop.folder / "odd").mkdir()
    (shop.folder / "odd" / name).write_bytes(FILES[name])
    for command in COMMANDS:
        answer = shop(*command, f"odd/{name}")
        assert answer.code in (0, 1, 2, 5, 6), (command, answer)
        assert "Traceback" not in answer.err
        if answer.code:
            assert answer.out or answer.err


WORDS = [
    *(
        "ana",
        "bo",
        "",
        "-",
        "--db",
        "x.db",
        "--json",
        "--limit",
        "0",
        "-1",
        "99999999999999999999",
        "--until",
        "2026-04-01",
        "9999-12-31",
    ),
    *(
        "2026-13-01",
        "--contacts",
        "--events",
        "--from",
        "samples/contacts.jsonl",
        "samples/events.jsonl",
        "--campaign",
        "welcome",
        "--not",
    ),
    *(
        "first_order",
        "--as-of",
        "now",
        "accepted",
        "--yes",
        "newsletter",
        "a=b",
        "=",
        "email=x",
        "--contact",
        "order.placed",
        "--at",
        "--id",
    ),
    *(
        "--once",
        "--dry-run",
        "--format",
        "json",
        "sarif",
        "--summary",
        "-k",
        "\u2028",
        "é",
        "--cov",
        "..",
        "/dev/null",
        "campaigns",
    ),
]
NAMES = [
    *(
        "contact list",
        "contact show",
        "contact set",
        "event send",
        "event import",
        "contact import",
        "why",
        "timeline",
        "audit",
        "outbox list",
    ),
    *(
        "outbox show",
        "outbox retry",
        "segment list",
        "segment members",
        "db status",
        "db check",
        "simulate",
        "run --once",
        "run --until",
    ),
    *("status", "test", "plugin show", "check", "rule", "config show"),
]


def test_random_command_lines(shop):
    chance = random.Random(7)
    for _ in range(300):
        arguments = [*chance.choice(NAMES).split(), *(chance.choice(WORDS) for _ in range(chance.randint(0, 3)))]
        answer = shop(*arguments)
        assert answer.code in (0, 1, 2, 4, 5, 6), (arguments, answer)
