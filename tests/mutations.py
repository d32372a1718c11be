"""One-letter typos in the keywords and names of every campaign, and how well `camp check` speaks of them.

    python -m tests.mutations [--every N] [--misses N] [--keywords] [FILES]

prints, for each class of mutants, how many were caught, on the right line, with exactly one message there, with the right
suggestion. Every file is checked as part of its project, as `camp check` does. Not counted, since they are no mistakes that
anyone could see: mutants that mean the same (`1 days`), and names that nothing else in the project says (a rule's name, a label
that is never used).
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine import host as hosts
from rules_engine.diagnostics import Diagnostic, Source
from rules_engine.model.checks import check
from rules_engine.model.project import find_project, project_files
from rules_engine.syntax import nodes as n
from rules_engine.syntax.parser import parser
from rules_engine.syntax.read import read, without_echoes

ROOT = Path(__file__).parent.parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Word(NamedTuple):
    """A word of a text: where, and whether it is a keyword, a name or the name in a declaration."""

    text: str
    start: int
    kind: str  # keyword | name | declaration


class Mutant(NamedTuple):
    """A text with one typo: the word, what became of it, its line, the lines that a message may stand on, and the edit."""

    text: str
    word: Word
    wrong: str
    line: int
    lines: frozenset[int]
    edit: str  # deletion | insertion | substitution | transposition


class Verdict(NamedTuple):
    """What the check said: anything, something on the right line, that and nothing else, with the right suggestion."""

    caught: bool
    line: bool
    one: bool
    suggestion: bool


class Place:
    """A file with the rest of its project: checks a text as if it stood in the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self._project = find_project(path)
        self._host = _host()
        paths = project_files(self._project) if self._project.has_config else [path]
        self._others = [(other, other.read_text(encoding="utf-8")) for other in paths if other.resolve() != path.resolve()]
        self._files = [read(text, str(other))[0] for other, text in self._others]
        self._known = frozenset(_said(item) for item in self._all(self.text))
        self.others = Counter(word.text for _path, text in self._others for word in words(text))

    def check(self, text: str) -> list[Diagnostic]:
        """What `camp check` says of the project with this text, in this file and in the others, and didn't say without the
        typo."""
        return [item for item in self._all(text) if _said(item) not in self._known]

    def _all(self, text: str) -> list[Diagnostic]:
        file, found = read(text, str(self.path))
        checked = check([*self._files, file], self._host, self._project)
        return found + without_echoes(found, checked, {str(self.path): text})


def _said(item: Diagnostic) -> tuple[str, str, str]:
    return item.span.path, item.name, item.message


@lru_cache(1)
def _host() -> Any:
    return hosts.load()


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
            yield "deletion", word[:place] + word[place + 1 :]
            yield "substitution", word[:place] + letter + word[place + 1 :]
        yield "insertion", word[:place] + letter + word[place:]
        if place + 1 < len(word) and word[place : place + 2].isalpha():
            yield "transposition", word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def words(text: str) -> list[Word]:
    """The words of a valid text; comments and texts are left out. A dotted name is one word."""
    reader = parser()
    taken: list[tuple[str, tuple]] = []
    assert reader.follow([reader.start], reader.lexer.lex(text), taken) is None
    declared = _declared(text)
    found = []
    for kind, (_kinds, value, start, _end) in taken:
        if kind in ("KEY", "NAME"):
            found.append(Word(value.rstrip(": \t"), start, "declaration" if start in declared else "name"))
        elif kind in ("AT_LEAST", "AT_MOST"):
            found += [Word(match[0], start + match.start(), "keyword") for match in re.finditer(r"\w+", value)]
        elif re.fullmatch(r"\w+", value) and not value[0].isdigit():
            found.append(Word(value, start, "keyword"))
    return found


def _declared(text: str) -> set[int]:
    """Where names are declared: at the top level, as fields of an event, as people of a TEST, after AS."""
    file, _found = read(text, "x")
    starts = {item.name_span.start for item in file.items}
    starts |= {node.span.start for node in n.walk(file) if isinstance(node, n.Field)}
    starts |= {match.start(1) for match in re.finditer(r"\b(?i:given[ \t]+\w+|as)[ \t]+(\w+)", text)}
    return starts


def mutants(place: Place, choose: random.Random, kinds: Iterable[str], every: int = 1) -> Iterator[Mutant]:
    """Every typo (or each `every`-th) of every word that could be noticed."""
    number = choose.randrange(every)
    text = place.text
    original = read(text, "x")[0]
    source = Source("x", text)
    all_words = words(text)
    lines = defaultdict(set)
    for word in all_words:
        for part in _parts(word.text):
            lines[part].add(source.place(word.start)[0])
    for word in all_words:
        if word.kind not in kinds:
            continue
        line = source.place(word.start)[0]
        uses = sum(any(part in _parts(other.text) for part in _parts(word.text)) for other in all_words if other != word)
        if word.kind == "declaration" and not uses and not any(part in place.others for part in _parts(word.text)):
            continue
        right = (
            frozenset({line}.union(*(lines[part] for part in _parts(word.text))))
            if word.kind == "declaration"
            else frozenset({line})
        )
        for edit, wrong in typos(word.text, choose):
            if not wrong or wrong.lower() == word.text.lower() and (wrong == word.text or word.kind == "keyword"):
                continue
            number += 1
            if number % every:
                continue
            mutated = text[: word.start] + wrong + text[word.start + len(word.text) :]
            if word.kind == "keyword" and read(mutated, "x") == (original, []):
                continue
            yield Mutant(mutated, word, wrong, line, right, edit)


def _parts(word: str) -> tuple[str, ...]:
    """`contact.plan` is used as `plan:` elsewhere."""
    last = word.rpartition(".")[2]
    return (word, last) if word.startswith(("contact.", "event.")) else (word,)


def judge(mutant: Mutant, place: Place) -> Verdict:
    """What the check says of a mutant. A declaration's typo may be blamed on its uses, in whichever file they are."""
    found = place.check(mutant.text)
    source = Source("x", mutant.text)
    here = [item for item in found if item.span.path == str(place.path)]
    right = [item for item in here if source.place(item.span.start)[0] in mutant.lines]
    if mutant.word.kind == "declaration":
        right += [item for item in found if item not in here]
    return Verdict(
        bool(found), bool(right), bool(right) and len(found) == 1, any(_suggests(item, mutant, place.text) for item in right)
    )


def _suggests(item: Diagnostic, mutant: Mutant, original: str) -> bool:
    """Whether the suggestion is the original word, or puts the original text in place."""
    if item.suggestion is None:
        return False
    mended = mutant.text[: item.span.start] + item.suggestion + mutant.text[item.span.end :]
    return item.suggestion.lower() == mutant.word.text.lower() or mended.lower().split() == original.lower().split()


class Tally:
    """Percentages by class."""

    def __init__(self) -> None:
        self.count: dict[str, int] = defaultdict(int)
        self.good: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        for name in ("all", mutant.word.kind, f"{mutant.word.kind}, {mutant.edit}"):
            self.count[name] += 1
            self.good[name] = [old + new for old, new in zip(self.good[name], verdict, strict=True)]

    def share(self, name: str = "all") -> list[float]:
        """Caught, on the right line, that and nothing else, right suggestion: in per cent."""
        return [100 * value / max(self.count[name], 1) for value in self.good[name]]

    def __str__(self) -> str:
        rows = [f"{'class':28}{'mutants':>8}{'caught':>9}{'line':>9}{'exact':>9}{'suggested':>11}"]
        for name in sorted(self.count):
            caught, line, one, suggestion = self.share(name)
            rows.append(f"{name:28}{self.count[name]:8}{caught:8.1f}%{line:8.1f}%{one:8.1f}%{suggestion:10.1f}%")
        return "\n".join(rows)


def study(paths: list[Path], every: int = 1, misses: int = 0, kinds: Iterable[str] = ("keyword", "name", "declaration")) -> Tally:
    """All mutants of the files, or each `every`-th. Prints the first `misses` that didn't do well."""
    tally = Tally()
    for path in paths:
        place = Place(path)
        choose = random.Random(path.name)
        for mutant in mutants(place, choose, kinds, every):
            verdict = judge(mutant, place)
            tally.add(mutant, verdict)
            if misses and not all(verdict):
                misses -= 1
                _show(mutant, verdict, place)
    return tally


def _show(mutant: Mutant, verdict: Verdict, place: Place) -> None:
    flags = " ".join(name for name, value in zip(Verdict._fields, verdict, strict=True) if not value)
    print(f"{place.path.name}:{mutant.line} {mutant.word.kind} {mutant.word.text} -> {mutant.wrong}: not {flags}")
    for item in place.check(mutant.text)[:4]:
        line = Source("x", mutant.text).place(item.span.start)[0]
        print(f"      {Path(item.span.path).name}:{line} {item.name}: {item.message} | {item.help} | {item.suggestion}")


def whole_check() -> Callable[[str], object]:
    """The check of one text as a project of its own."""
    place = Place(ROOT / "tests" / "golden" / "syntax" / "sample.camp")
    return place.check


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("files", nargs="*", type=Path)
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--misses", type=int, default=0)
    options.add_argument("--keywords", action="store_true")
    chosen = options.parse_args()
    kinds = ("keyword",) if chosen.keywords else ("keyword", "name", "declaration")
    print(study(chosen.files or sources(), chosen.every, chosen.misses, kinds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
