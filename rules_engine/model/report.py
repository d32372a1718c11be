"""Gathers what the checks find. One cause is one message: an unknown name is kept until the end, when all its places are known,
and then reported once, at the place that is wrong: where it is used, or where a name like it is declared and never used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rules_engine.diagnostics import Diagnostic, Related, Span, sort_key
from rules_engine.limits import MAX_DIAGNOSTICS_PER_FILE
from rules_engine.model.suggest import Speller, distance, fold

MAX_RELATED = 8  # further places of one unknown name that are listed


class Slot(NamedTuple):
    """A name that this project declares, with the place where it may be mistyped. `written`: as it stands there, where that
    differs."""

    kind: str
    name: str
    span: Span
    written: str = ""


class Candidate(NamedTuple):
    """A name that could be meant: `write` is what to put in its place, `note` says why where that is another kind of thing."""

    name: str
    write: str
    slot: Slot | None = None
    note: str = ""


Tiers = Sequence[Iterable[Candidate]]
"""Candidates, the likeliest kinds first."""


class _Use(NamedTuple):
    """One place of an unknown name, as it is written there: `event.total` in an expression is `total` in a TEST."""

    span: Span
    name: str
    tiers: Callable[[], Tiers]


class _Unknown:
    """One unknown name with all its places. `sentence` and `help` speak about it where nothing like it is known."""

    __slots__ = ("rule", "sentence", "help", "severity", "uses")

    def __init__(self, rule: str, sentence: str, help: str, severity: str) -> None:
        self.rule, self.sentence, self.help, self.severity = rule, sentence, help, severity
        self.uses: list[_Use] = []

    @property
    def first(self) -> _Use:
        return self.uses[0]

    @property
    def name(self) -> str:
        return self.uses[0].name

    @property
    def spans(self) -> list[Span]:
        return [use.span for use in self.uses]


class Report:
    """The diagnostics of one check. `used` holds (kind, name) of every declared name that something uses."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._unknown: dict[tuple, _Unknown] = {}
        self._last: list[Callable[[], None]] = []
        self.used: set[tuple[str, str]] = set()
        self.blamed: set[Span] = set()  # declarations that a message already calls mistyped
        self.speller = Speller()

    def add(
        self,
        name: str,
        span: Span,
        message: str,
        help: str = "",
        severity: str = "error",
        suggestion: str | None = None,
        related: Iterable[Related] = (),
    ) -> None:
        """One problem (see Diagnostic)."""
        self.found.append(Diagnostic(name, span, message, help, severity, suggestion, tuple(related)))

    def warn(
        self, name: str, span: Span, message: str, help: str = "", suggestion: str | None = None, related: Iterable[Related] = ()
    ) -> None:
        """One problem that does not stop the project from running."""
        self.add(name, span, message, help, "warning", suggestion, related)

    def unknown(
        self,
        rule: str,
        name: str,
        span: Span,
        tag: object,
        sentence: str,
        help: str,
        tiers: Callable[[], Tiers],
        severity: str = "error",
    ) -> None:
        """A name that means nothing. `tag` parts names that are looked up in different places, such as the fields of two
        events; a tag with the bare name in it joins what is written in different ways."""
        key = (rule, tag) if isinstance(tag, tuple) else (rule, name, tag)
        entry = self._unknown.get(key)
        if entry is None:
            entry = self._unknown[key] = _Unknown(rule, sentence, help, severity)
        entry.uses.append(_Use(span, name, tiers))

    def has_unknown(self) -> bool:
        """Whether some name means nothing."""
        return bool(self._unknown)

    def at_end(self, finish: Callable[[], None]) -> None:
        """Work for when all uses of all names are known (after the unknown names have been reported)."""
        self._last.append(finish)

    def diagnostics(self) -> list[Diagnostic]:
        """Everything found, sorted, at most MAX_DIAGNOSTICS_PER_FILE for one file."""
        # The name with the most places goes first: it decides whether a declaration is the mistyped one.
        for entry in sorted(self._unknown.values(), key=lambda item: (-len(item.uses), min(item.spans))):
            self._resolve(entry)
        for finish in self._last:
            finish()
        return _capped(sorted({item for item in self.found if not self._said(item)}, key=sort_key))

    def _said(self, diagnostic: Diagnostic) -> bool:
        """A mistyped declaration has had its message: how the slip is spelt, and that nothing uses it, follow from it."""
        if diagnostic.span in self.blamed:
            return diagnostic.name in ("bad-name", "reserved-name", "unused-constant")
        return diagnostic.name == "unused-constant" and any(
            item.span == diagnostic.span and item.severity == "error" for item in self.found
        )

    # ── unknown names ──

    def _resolve(self, entry: _Unknown) -> None:
        entry.uses.sort(key=lambda use: use.span)
        meant = self._meant(entry)
        slot = meant.slot if meant else None
        if meant and slot and (slot.kind, slot.name) not in self.used:
            self.used.add((slot.kind, slot.name))
            odd = meant.name != meant.name.lower()  # names are lower_snake, so this one is the slip
            if odd or len(entry.uses) > 1 or self.speller.likeliness(entry.name) > self.speller.likeliness(meant.name):
                self._blame_declaration(entry, meant, slot)
                return
        self._blame_use(entry, meant)

    def _meant(self, entry: _Unknown) -> Candidate | None:
        tiers = [list(tier) for tier in entry.first.tiers()]
        wanted = fold(entry.name)
        for tier in tiers:
            for candidate in tier:
                if fold(candidate.name) == wanted:
                    return candidate
        for tier in tiers:
            name = self.speller.nearest(entry.name, (candidate.name for candidate in tier))
            if name is not None:
                unused = self._nearest_unused(entry.name, name, tier)
                return next(candidate for candidate in tier if candidate.name == (unused or name))
        return None

    def _nearest_unused(self, wanted: str, found: str, tier: list[Candidate]) -> str | None:
        """A declared name that nothing uses, if it is as near as the nearest: such a one is missing its use."""
        idle = [item.name for item in tier if item.slot is not None and (item.slot.kind, item.slot.name) not in self.used]
        near = self.speller.nearest(wanted, idle)
        return (
            near if near is not None and distance(fold(wanted), fold(near), 2) <= distance(fold(wanted), fold(found), 2) else None
        )

    def _blame_declaration(self, entry: _Unknown, meant: Candidate, slot: Slot) -> None:
        written = slot.written or slot.name
        wanted = (
            entry.name.partition(".")[0] if slot.kind == "alias" else _without_owner(entry.name, meant.name, written).strip('"')
        )
        times = "once" if len(entry.spans) == 1 else f"{len(entry.spans)} times"
        self.blamed.add(slot.span)
        self.add(
            entry.rule,
            slot.span,
            f"`{written}` is declared here and never used, while `{wanted}` is used {times} and declared nowhere",
            f"did you mean `{wanted}` here?",
            "error",
            wanted,
            _places(entry.spans, "used here"),
        )

    def _blame_use(self, entry: _Unknown, meant: Candidate | None) -> None:
        related = list(_places(entry.spans[1:], "and here"))
        place = entry.spans[0]
        if meant is None:
            self.add(entry.rule, entry.spans[0], entry.sentence, entry.help, entry.severity, None, related)
            return
        if meant.slot:
            related.insert(0, Related(meant.slot.span, f"`{meant.slot.written or meant.slot.name}` is declared here"))
        if meant.note and fold(meant.name) == fold(entry.name):
            self.add("wrong-kind", place, f"`{entry.name}` {meant.note}", f"write `{meant.write}`", "error", meant.write, related)
            return
        # Where the place is that of a whole statement (see places), putting the name there would destroy it.
        suggestion = meant.write if place.end - place.start == len(entry.name) else None
        shown = meant.write if meant.write.startswith('"') else f"`{meant.write}`"
        help = f"did you mean {shown}?" + (f" `{meant.name}` {meant.note}" if meant.note else "")
        self.add(entry.rule, place, entry.sentence, help, entry.severity, suggestion, related)


def _without_owner(used: str, candidate: str, declared: str) -> str:
    """What the declaration should say: `event.cart_id` was used, `cart_id` is what an EVENT declares."""
    owner = candidate[: len(candidate) - len(declared)] if candidate.endswith(declared) else ""
    return used[len(owner) :] if owner and used.startswith(owner) else used


def _places(spans: Sequence[Span], message: str) -> Iterable[Related]:
    shown = [Related(span, message) for span in spans[:MAX_RELATED]]
    if len(spans) > MAX_RELATED:
        shown[-1] = Related(spans[MAX_RELATED - 1], f"{message}, and in {len(spans) - MAX_RELATED} more places")
    return shown


def _capped(found: list[Diagnostic]) -> list[Diagnostic]:
    """The first of each file: more than the bound is one cause repeated, and nobody reads on."""
    counts: dict[str, int] = {}
    kept = []
    for diagnostic in found:
        count = counts[diagnostic.span.path] = counts.get(diagnostic.span.path, 0) + 1
        if count <= MAX_DIAGNOSTICS_PER_FILE:
            kept.append(diagnostic)
    return kept
