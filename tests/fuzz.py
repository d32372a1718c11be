"""Random and mutated inputs through `read` and `fmt`: no traceback, no hang.

    python -m tests.fuzz --inputs 100000 [--seed 1] [--check]

prints the number of inputs, the tracebacks (must be 0) and the slowest input in milliseconds (each must stay under 2 s).
`--check` runs the whole check instead of the reader alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator

from rules_engine.syntax.parser import parser
from rules_engine.syntax.printer import format_text
from rules_engine.syntax.read import read
from tests import derive
from tests.mutations import sources

LIMIT_MS = 2_000
_JUNK = "\x00\t\r\n \"'#{}[]()=<>!&|;:,.+-*/%$@\\`~^?_\u201c\u201d\u2019\u2013\u00a0\ufeff\u2028\U0001f600aZ09é中"
_SIGNS = (
    '"',
    '"""',
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "==",
    "!=",
    "&&",
    "!",
    ";",
    "//",
    "/*",
    "*/",
    "#",
    "'",
    "+",
    "-",
    "%",
    "…",
)


def inputs(count: int, seed: int = 1) -> Iterator[str]:
    """The same inputs for the same seed."""
    choose = random.Random(seed)
    texts = [path.read_text(encoding="utf-8") for path in sources()]
    makers = (
        _bytes,
        _letters,
        _words,
        _deleted,
        _doubled,
        _shuffled,
        _swapped,
        _inserted,
        _joined,
        _cut,
        _unindented,
        _derived,
        _deep,
    )
    for number in range(count):
        maker = makers[number % len(makers)]
        text = _piece(choose, choose.choice(texts)) if maker not in (_bytes, _letters, _words, _derived, _deep) else ""
        text = maker(choose, text)
        if choose.random() < 0.2:
            text = choose.choice((_deleted, _doubled, _shuffled, _swapped, _inserted, _cut))(choose, text)
        yield text


def _piece(choose: random.Random, text: str) -> str:
    """A run of whole blocks of a text, so that inputs stay small."""
    blocks = text.split("\n\n")
    start = choose.randrange(len(blocks))
    return "\n\n".join(blocks[start : start + choose.randint(1, 4)]) + "\n"


def _bytes(choose: random.Random, _text: str) -> str:
    return choose.randbytes(choose.randrange(300)).decode(choose.choice(("latin-1", "utf-8", "utf-16-le")), "replace")


def _letters(choose: random.Random, _text: str) -> str:
    return "".join(choose.choices(_JUNK, k=choose.randrange(400)))


def _words(choose: random.Random, _text: str) -> str:
    """Keywords, names and signs in any order."""
    vocabulary = [
        *(word.upper() for word in parser().lexer.words),
        "vip",
        "order.placed",
        "3",
        "10:00",
        '"a"',
        "to:",
        "45%",
        "36h",
        *_SIGNS,
    ]
    return "".join(choose.choice(vocabulary) + choose.choice((" ", " ", " ", "\n")) for _ in range(choose.randrange(120)))


def _deleted(choose: random.Random, text: str) -> str:
    for _ in range(choose.randint(1, 4)):
        start = choose.randrange(len(text) + 1)
        text = text[:start] + text[start + choose.choice((1, 1, 2, 5, 40)) :]
    return text


def _doubled(choose: random.Random, text: str) -> str:
    start = choose.randrange(len(text) + 1)
    end = start + choose.choice((1, 5, 40, 200))
    return text[:end] + text[start:end] * choose.randint(1, 3) + text[end:]


def _shuffled(choose: random.Random, text: str) -> str:
    lines = text.split("\n")
    if choose.random() < 0.5:
        choose.shuffle(lines)
    else:
        a, b = choose.randrange(len(lines)), choose.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
    return "\n".join(lines)


def _swapped(choose: random.Random, text: str) -> str:
    tokens = text.split(" ")
    for _ in range(choose.randint(1, 5)):
        a, b = choose.randrange(len(tokens)), choose.randrange(len(tokens))
        tokens[a], tokens[b] = tokens[b], tokens[a]
    return " ".join(tokens)


def _inserted(choose: random.Random, text: str) -> str:
    for _ in range(choose.randint(1, 6)):
        start = choose.randrange(len(text) + 1)
        text = text[:start] + choose.choice((choose.choice(_JUNK), choose.choice(_SIGNS), " END\n", "\n")) + text[start:]
    return text


def _joined(choose: random.Random, text: str) -> str:
    lines = text.split("\n")
    place = choose.randrange(len(lines))
    return "\n".join(lines[:place]) + choose.choice(("", " ")) + "\n".join(lines[place:])


def _cut(choose: random.Random, text: str) -> str:
    return text[: choose.randrange(len(text) + 1)]


def _unindented(choose: random.Random, text: str) -> str:
    return _deleted(choose, "\n".join(line.strip() for line in text.split("\n")))


def _derived(choose: random.Random, _text: str) -> str:
    return _deleted(choose, derive.text(choose.randrange(10**9), choose.randint(6, 14)))


def _deep(choose: random.Random, _text: str) -> str:
    """Nesting, far beyond the limit now and then."""
    depth = choose.choice((5, 59, 60, 61, 200, 2_000))
    shape = choose.randrange(6)
    if shape == 0:
        return f"SEGMENT a IS {'(' * depth}x = 1{')' * choose.choice((depth, depth - 1, 0))}\n"
    if shape == 1:
        return "CAMPAIGN a\nWHEN b\n" + "IF x = 1\n" * depth + "END\n" * choose.choice((depth + 1, depth, 1)) + "\n"
    if shape == 2:
        return f"SEGMENT a IS {'NOT ' * depth}x = 1\n"
    if shape == 3:
        return f"CONST a = {'[' * depth}{']' * depth}\n"
    if shape == 4:
        return f"CONST a = 1{' + 1' * depth}\n"
    return "CAMPAIGN a\nWHEN b\n" + "SPLIT\n50% a\n" * depth + "WAIT UNTIL c\nOTHERWISE\n" * depth


def run(count: int, seed: int = 1, target: Callable[[str], object] | None = None) -> tuple[int, float, list[str]]:
    """(inputs, slowest in ms, tracebacks) of `target`, the reader and the formatter if not given."""
    slowest = 0.0
    failures: list[str] = []
    for text in inputs(count, seed):
        start = time.process_time()
        try:
            if target is not None:
                target(text)
            else:
                _read_and_format(text)
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            failures.append(f"{traceback.format_exc(limit=-4)}\n{text!r}")
        slowest = max(slowest, (time.process_time() - start) * 1000)
    return count, slowest, failures


def _read_and_format(text: str) -> None:
    """The reader must place every message inside the text; the formatter must not change what it says."""
    file, found = read(text, "x")
    assert all(0 <= item.span.start <= item.span.end <= len(text) + 1 and item.message for item in found), found
    if found:
        assert format_text(text, "x")[0] == text
    else:
        formatted, _none = format_text(text, "x")
        assert read(formatted, "x") == (file, [])


def _whole_check() -> Callable[[str], object]:
    """The check of the project, with the plugins."""
    from tests.mutations import whole_check

    return whole_check()


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--check", action="store_true")
    chosen = options.parse_args()
    start = time.time()
    count, slowest, failures = run(chosen.inputs, chosen.seed, _whole_check() if chosen.check else None)
    for failure in failures[:3]:
        print(failure)
    print(f"{count} inputs, {len(failures)} tracebacks, slowest {slowest:.0f} ms, {time.time() - start:.0f} s in all")
    return 1 if failures or slowest > LIMIT_MS else 0


if __name__ == "__main__":
    sys.exit(main())
