"""One-letter typos in the keywords and names of every campaign, and how well `camp check` speaks of them.

    python -m tests.mutations [--every N] [--misses N] [FILES]

prints, for each class of mutants, how many were caught, on the right line, with exactly one message, with the right suggestion.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rules_engine.diagnostics import Diagnostic, Source
from rules_engine.syntax.parser import parser
from rules_engine.syntax.read import read

ROOT = Path(__file__).parent.parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Check = Callable[[str], list[Diagnostic]]


class Mutant(NamedTuple):
    """A text with one typo: the word, what became of it, where (offset and line), and what the word is."""

    text: str
    word: str
    wrong: str
    start: int
    line: int
    kind: str      # keyword | name
    edit: str      # deletion | insertion | substitution | transposition


class Verdict(NamedTuple):
    """What the check said."""

    caught: bool
    line: bool
    one: bool
    suggestion: bool


def sources() -> list[Path]:
    """The campaigns that are mutated: all of campaigns/, and the language's own sample."""
    found = sorted((ROOT / "campaigns").rglob("*.camp"))
    return [*found, ROOT / "tests" / "golden" / "syntax" / "sample.camp"]


def typos(word: str, choose: random.Random) -> Iterator[tuple[str, str]]:
    """(kind of edit, misspelt word): each deletion and transposition; one insertion and one substitution at each place."""
    upper = word.isupper()
    for place in range(len(word)):
        letter = choose.choice(LETTERS)
        letter = letter.upper() if upper else letter
        if word[place].isalpha():
            yield "deletion", word[:place] + word[place + 1:]
            yield "substitution", word[:place] + letter + word[place + 1:]
        yield "insertion", word[:place] + letter + word[place:]
        if place + 1 < len(word) and word[place:place + 2].isalpha():
            yield "transposition", word[:place] + word[place + 1] + word[place] + word[place + 2:]


def words(text: str) -> list[tuple[str, int, str]]:
    """(word, place, keyword | name) of a valid text; comments and texts are left out. A dotted name is one word."""
    reader = parser()
    taken: list[tuple[str, tuple]] = []
    stack = [reader.start]
    assert reader.follow(stack, reader.lexer.lex(text), taken) is None
    found = []
    for kind, (_kinds, value, start, _end) in taken:
        if kind == "KEY":
            found.append((value.rstrip(": \t"), start, "name"))
        elif kind == "NAME":
            found.append((value, start, "name"))
        elif kind in ("AT_LEAST", "AT_MOST"):
            found += [(match[0], start + match.start(), "keyword") for match in re.finditer(r"\w+", value)]
        elif re.fullmatch(r"\w+", value) and not value[0].isdigit():
            found.append((value, start, "keyword"))
    return found


def mutants(text: str, choose: random.Random, kinds: Iterable[str] = ("keyword", "name")) -> Iterator[Mutant]:
    """Every typo of every word. Those that mean the same as the original are left out."""
    original, found = read(text, "x")
    assert not found, found
    source = Source("x", text)
    for word, start, kind in words(text):
        if kind not in kinds:
            continue
        for edit, wrong in typos(word, choose):
            if wrong.lower() == word.lower() or wrong == word or not wrong:
                continue
            mutated = text[:start] + wrong + text[start + len(word):]
            if kind == "keyword" and wrong.lower() + "s" == word.lower() or word.lower() + "s" == wrong.lower():
                again, problems = read(mutated, "x")
                if not problems and again == original:
                    continue
            yield Mutant(mutated, word, wrong, start, source.place(start)[0], kind, edit)


def judge(mutant: Mutant, check: Check, lines: Callable[[Mutant], set[int]] | None = None) -> Verdict:
    """What the check says of a mutant. `lines`: the lines that count as right (a name's declaration or its uses)."""
    found = [item for item in check(mutant.text) if item.severity == "error"] or check(mutant.text)
    source = Source("x", mutant.text)
    right = lines(mutant) if lines else {mutant.line}
    on_line = [item for item in found if source.place(item.span.start)[0] in right]
    return Verdict(bool(found), bool(on_line), len(found) == 1, any(_suggests(item, mutant) for item in on_line))


def _suggests(item: Diagnostic, mutant: Mutant) -> bool:
    said = (item.suggestion or "").lower()
    return mutant.word.lower() in (said, *said.split(), *said.split("."))


class Tally:
    """Percentages by class."""

    def __init__(self) -> None:
        self.count: dict[str, int] = defaultdict(int)
        self.good: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        for name in ("all", mutant.kind, f"{mutant.kind} {mutant.edit}"):
            self.count[name] += 1
            values = (verdict.caught, verdict.line, verdict.caught and verdict.line and verdict.one, verdict.suggestion)
            self.good[name] = [old + new for old, new in zip(self.good[name], values, strict=True)]

    def share(self, name: str = "all") -> list[float]:
        """Caught, on the right line, that with exactly one message, right suggestion: in per cent."""
        return [100 * value / max(self.count[name], 1) for value in self.good[name]]

    def __str__(self) -> str:
        rows = [f"{'class':26}{'mutants':>8}{'caught':>9}{'line':>9}{'exact':>9}{'suggested':>11}"]
        for name in sorted(self.count):
            caught, line, one, suggestion = self.share(name)
            rows.append(f"{name:26}{self.count[name]:8}{caught:8.1f}%{line:8.1f}%{one:8.1f}%{suggestion:10.1f}%")
        return "\n".join(rows)


def syntax_only(text: str) -> list[Diagnostic]:
    """The check of what the grammar knows: keywords."""
    return read(text, "x")[1]


def study(paths: list[Path], every: int = 1, misses: int = 0, kinds: Iterable[str] = ("keyword",), check: Check = syntax_only) -> Tally:
    """All mutants of the files, or each `every`-th."""
    tally = Tally()
    for path in paths:
        choose = random.Random(path.name)
        for number, mutant in enumerate(mutants(path.read_text(encoding="utf-8"), choose, kinds)):
            if number % every:
                continue
            verdict = judge(mutant, check)
            tally.add(mutant, verdict)
            if misses and not all(verdict):
                misses -= 1
                print(f"{path.name}:{mutant.line} {mutant.word} -> {mutant.wrong} {verdict}")
                for item in check(mutant.text):
                    print("     ", Source("x", mutant.text).place(item.span.start), item.name, item.message, item.help)
    return tally


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("files", nargs="*", type=Path)
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--misses", type=int, default=0)
    chosen = options.parse_args()
    print(study(chosen.files or sources(), chosen.every, chosen.misses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
