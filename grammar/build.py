"""Writes the prebuilt parse table: `python -m rules_engine_grammar.build`. A test says when it is out of date.

Lark reads the grammar, makes the LALR(1) table and (strict) refuses any conflict and any collision of terminals. What is written
is lark's table in a form that loads fast:

    digest      names the grammar it was built from
    start, end  numbers of the first and the last state
    symbols     names of all terminals and rules; below they are numbers
    keys        distinct lists of symbols
    states      for each state [key list, actions]: one action for each symbol (or a single one for all of them); >= 0: go to that
                state, < 0: reduce by rule -action - 1
    rules       for each rule [symbol, length, builder method or null, children]: children are positions in the right-hand side,
    null
                for an optional that stood empty, [position] where a helper rule's list is spliced in; no method: one child,
                passed on
    words       keyword in lower case → its terminals, and NAME last if it may be a name where no keyword can stand
    shapes      every other terminal → its regular expression
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import lark
from lark.lexer import TerminalDef
from lark.parsers.lalr_analysis import Shift

import rules_engine_grammar
from rules_engine.syntax.newlines import Newlines

_KEYWORD_PRIORITY = 5


def build(strict: bool = True) -> dict[str, Any]:
    """The content of table.json.

    Raises lark.exceptions.GrammarError or LexError where the grammar has a conflict (the second only if `strict`)."""
    text = rules_engine_grammar.GRAMMAR.read_text(encoding="utf-8")
    parser = lark.Lark(text, postlex=Newlines(), strict=strict, **rules_engine_grammar.OPTIONS)
    return {"digest": rules_engine_grammar.digest(), **_table(parser), **_terminals(parser.terminals)}


def render() -> str:
    """The text of table.json."""
    return json.dumps(build(), separators=(",", ":")) + "\n"


def _table(parser: lark.Lark) -> dict[str, Any]:
    """States and rules as numbers. Lark numbers them as its sets happen to be ordered; here they are numbered as they are reached
    from the start, so that the same grammar always gives the same file."""
    table = parser.parser.parser._parse_table
    rules = sorted(parser.rules, key=_rule_key)
    numbers = {rule: number for number, rule in enumerate(rules)}
    order = _reached(table)
    symbols, keys = _Numbers(), _Numbers()
    states = []
    for state in order:
        row = table.states[state]
        names = sorted(row)
        actions = [order[row[name][1]] if row[name][0] is Shift else -numbers[row[name][1]] - 1 for name in names]
        key = keys(tuple(symbols(name) for name in names))
        states.append([key, actions[0] if len(set(actions)) == 1 else actions])
    shapes = [[symbols(rule.origin.name), len(rule.expansion), *_shape(rule)] for rule in rules]
    return {
        "start": order[table.start_states["start"]],
        "end": order[table.end_states["start"]],
        "symbols": list(symbols),
        "keys": list(keys),
        "states": states,
        "rules": shapes,
    }


def _rule_key(rule: Any) -> tuple[Any, ...]:
    return rule.origin.name, rule.order, str(rule.alias), [symbol.name for symbol in rule.expansion], rule.options.empty_indices


def _reached(table: Any) -> dict[int, int]:
    """Lark's number of each state → ours, by breadth from the start, symbols in alphabetical order."""
    order = {table.start_states["start"]: 0}
    pending = list(order)
    for state in pending:
        row = table.states[state]
        for name in sorted(row):
            kind, target = row[name]
            if kind is Shift and target not in order:
                order[target] = len(order)
                pending.append(target)
    return order


class _Numbers(dict[Any, int]):
    """Numbers things in the order of their first call; iterates over the things."""

    def __call__(self, thing: Any) -> int:
        return self.setdefault(thing, len(self))


def _shape(rule: Any) -> tuple[str | None, list[Any]]:
    """(builder method, children) of a rule, as lark's ParseTreeBuilder would shape its node."""
    empty = "".join(str(int(flag)) for flag in rule.options.empty_indices) or "0" * len(rule.expansion)
    gaps = [len(ones) for ones in empty.split("0")]
    children: list[Any] = []
    for position, symbol in enumerate(rule.expansion):
        children += [None] * gaps[position]
        if not symbol.is_term and symbol.name.startswith("_"):
            children.append([position])
        elif not (symbol.is_term and symbol.filter_out and not rule.options.keep_all_tokens):
            children.append(position)
    children += [None] * gaps[len(rule.expansion)]
    passes_on = rule.options.expand1 and not rule.alias and len(children) == 1 and not isinstance(children[0], list)
    if rule.origin.name.startswith("_"):
        return "", children
    return (None if passes_on else rule.alias or rule.origin.name), children


def _terminals(terminals: list[TerminalDef]) -> dict[str, Any]:
    """Keywords as words, all other terminals as regular expressions."""
    words: dict[str, list[str]] = {}
    shapes: dict[str, str] = {}
    for terminal in sorted(terminals, key=lambda item: (-item.priority, item.name)):
        spellings = _spellings(terminal.pattern.to_regexp()) if terminal.priority == _KEYWORD_PRIORITY else None
        for word in spellings or ():
            words.setdefault(word, []).append(terminal.name)
        if not spellings:
            shapes[terminal.name] = terminal.pattern.to_regexp()
    for word, kinds in words.items():
        if re.fullmatch(shapes["NAME"], word):
            kinds.append("NAME")
    return {"words": words, "shapes": shapes}


def _spellings(pattern: str) -> list[str]:
    """All words that a keyword's regular expression matches, in lower case; empty if it isn't of a keyword's form."""
    match = re.fullmatch(r"\(\?i:([a-z?:()|]+)\)\(\?!\[\\w\.\]\)", pattern)
    return sorted(set(_expand(match.group(1)))) if match else []


def _expand(pattern: str) -> list[str]:
    """The language of a pattern of letters, `(?:a|b)`, `x?` and `(?:…)?`."""
    tree = re._parser.parse(pattern)  # type: ignore[attr-defined]
    return _language(tree)


def _language(tree: Any) -> list[str]:
    parts = [_choices(str(operator), argument) for operator, argument in tree]
    return ["".join(choice) for choice in itertools.product(*parts)]


def _choices(operator: str, argument: Any) -> list[str]:
    if operator == "LITERAL":
        return [chr(argument)]
    if operator == "BRANCH":
        return [word for branch in argument[1] for word in _language(branch)]
    if operator == "SUBPATTERN":
        return _language(argument[3])
    if operator == "MAX_REPEAT" and argument[:2] == (0, 1):
        return ["", *_language(argument[2])]
    if operator == "IN":
        return [chr(value) for _literal, value in argument]
    raise ValueError(f"a keyword's expression may not have {operator}")


if __name__ == "__main__":
    rules_engine_grammar.TABLE.write_text(render(), encoding="utf-8")
