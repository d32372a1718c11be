"""Random valid texts, derived from the grammar itself: every rule and every optional comes up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import lark

import rules_engine_grammar
from rules_engine.syntax.newlines import Newlines

_WORDS = {
    "KEY": ("total:", "end:", "to :", "cart_id:"),
    "NAME": ("vip", "order.placed", "contact.plan", "event.total", "x1", "contact.end", "näme"),
    "NUMBER": ("1", "3", "1_000", "2.5"),
    "PERCENT": ("45%", "2.5%"),
    "DATE": ("2026-03-02",),
    "DATETIME": ("2026-03-02 10:00", "2026-03-02T9:05"),
    "TIME": ("09:00", "9:30", "23:59:59"),
    "DURATION": ("36h", "1d12h", "90m"),
    "UNIT": ("day", "weeks", "Hour", "months"),
    "WEEKDAY": ("mon", "friday", "weekdays", "Sun"),
    "TIMES": ("TIMES", "time"),
    "COMPARE": ("<", ">=", "!=", ">"),
    "STRING": (
        '"a"',
        '"Hi {contact.first_name|there}, it\'s # {event.total}"',
        '"""long\n  text"""',
        "\u201ccurly\u201d",
        '""',
        '"q\\"q"',
    ),
    "AT_LEAST": ("AT LEAST", "at  least"),
    "AT_MOST": ("AT MOST",),
}
_SIGNS = {
    "EQ": "=",
    "PLUS": "+",
    "MINUS": "-",
    "STAR": "*",
    "SLASH": "/",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "LBRACE": "{",
    "RBRACE": "}",
    "_COMMA": ",",
    "_COLON": ":",
}


@lru_cache(1)
def grammar() -> dict[str, list[list[Any]]]:
    """Rule → its right-hand sides."""
    text = rules_engine_grammar.GRAMMAR.read_text(encoding="utf-8")
    rules: dict[str, list[list[Any]]] = {}
    for rule in lark.Lark(text, postlex=Newlines(), **rules_engine_grammar.OPTIONS).rules:
        rules.setdefault(rule.origin.name, []).append(list(rule.expansion))
    return rules


@lru_cache(1)
def heights() -> dict[str, int]:
    """The least depth of a derivation of each rule."""
    found: dict[str, int] = {}
    while True:
        changed = False
        for name, sides in grammar().items():
            height = min(_height(side, found) for side in sides)
            if height < found.get(name, 999):
                found[name], changed = height, True
        if not changed:
            return found


@lru_cache(1)
def shortest() -> dict[str, list[list[Any]]]:
    """Rule → the right-hand sides that end soonest."""
    known = heights()
    return {name: [side for side in sides if _height(side, known) == known[name]] for name, sides in grammar().items()}


def _height(side: list[Any], found: dict[str, int]) -> int:
    return 1 + max((0 if symbol.is_term else found.get(symbol.name, 999) for symbol in side), default=0)


def terminals(choose: random.Random, depth: int = 14, start: str = "start") -> Iterator[str]:
    """The terminals of a random derivation: beyond `depth` the shortest way out."""
    pending: list[tuple[Any, bool, int]] = [(start, False, 0)]
    while pending:
        name, terminal, level = pending.pop()
        if terminal:
            yield name
            continue
        sides = shortest()[name] if level >= depth else grammar()[name]
        pending.extend((symbol.name, symbol.is_term, level + 1) for symbol in reversed(choose.choice(sides)))


def text(seed: int, depth: int = 14) -> str:
    """A valid text; the same for the same seed."""
    choose = random.Random(seed)
    parts: list[str] = []
    for name in ("item", "item", choose.choice(("item", "campaign", "test"))):
        for terminal in terminals(choose, depth, name):
            parts.append(_written(terminal, choose))
    return "".join(parts)


def _written(terminal: str, choose: random.Random) -> str:
    """A terminal with what may stand around it."""
    if terminal == "_NL":
        return choose.choice(
            ("\n", "\n", "  # a comment\n", "\n\n\n", "\n  # on its own\n  ", " \t\r\n\n# one\n\n# two\n", "\n      ")
        )
    word = _SIGNS.get(terminal) or (choose.choice(_WORDS[terminal]) if terminal in _WORDS else _cased(terminal, choose))
    after = choose.choice((" ", " ", " ", "  ", "\t", "\u00a0"))
    if terminal in ("AND", "OR", "_COMMA") and not choose.randrange(6):
        after = choose.choice(("\n  ", "  # why\n   ", "\n# own\n  "))
    return word + after


def _cased(word: str, choose: random.Random) -> str:
    return choose.choice((word, word, word.lower(), word.capitalize()))
