"""The grammar has no conflict, its table is up to date, and our driver reads it as lark does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import reference

import rules_engine_grammar
from rules_engine.syntax.builder import Builder
from rules_engine.syntax.parser import Unexpected, parser
from rules_engine_grammar.build import render
from tests import derive
from tests.mutations import sources


def test_the_table_is_what_a_strict_build_gives() -> None:
    """Strict: lark raises on any conflict and on any two terminals that could match the same text."""
    assert rules_engine_grammar.TABLE.read_text(encoding="utf-8") == render(), "run: python -m rules_engine_grammar.build"


def test_every_rule_has_its_builder() -> None:
    table = json.loads(rules_engine_grammar.TABLE.read_bytes())
    methods = {method for _symbol, _size, method, _children in table["rules"] if method}
    assert sorted(method for method in methods if not hasattr(Builder, method)) == []


@pytest.mark.parametrize("path", sources(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_campaigns_read_as_lark_reads_them(path) -> None:
    text = path.read_text(encoding="utf-8")
    ours, theirs = parser().parse(text, "x"), reference.parse(text, "x")
    assert ours == theirs
    assert reference.places(ours) == reference.places(theirs)


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_derived_texts_read_as_lark_reads_them(start: int) -> None:
    for seed in range(start, start + 20):
        text = derive.text(seed, 11)
        ours, theirs = parser().parse(text, "x"), reference.parse(text, "x")
        assert ours == theirs, text
        assert reference.places(ours) == reference.places(theirs), text


def test_refused_texts_are_refused_by_lark() -> None:
    for text in ("RULE\n", "CAMPAIGN a\nWHEN b\n", "END\n", "SEGMENT a IS\n", "CONST a = 1 2\n"):
        with pytest.raises(Unexpected):
            parser().parse(text, "x")
        with pytest.raises(Exception, match=r".*") as error:
            reference.parse(text, "x")
        assert type(error.value).__module__ == "lark.exceptions"


def test_reading_needs_no_lark() -> None:
    """Importing lark would cost a cold start 70 ms."""
    code = "import sys; from rules_engine.syntax.read import read; read('CONST a = 1', 'x'); sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_places_are_shifted_by_the_offset() -> None:
    plain, moved = parser().parse("CONST a = 1\n", "x"), parser().parse("CONST a = 1\n", "x", 100)
    assert moved == plain
    assert moved.items[0].name_span.start == plain.items[0].name_span.start + 100
