"""Places of words that have no span of their own. A word is found by reckoning: it is where it would be if single blanks stand
between the words, and the length of the whole must agree; otherwise the whole statement is the place, and no suggestion is
given for it."""

from __future__ import annotations

from rules_engine.diagnostics import Span


def after(start: int, lead: str, word: str, end: int, tail: str, path: str, whole: Span) -> Span:
    """The place of `word` where the text from `start` to `end` must read lead + word + tail."""
    if end - start == len(lead) + len(word) + len(tail):
        place = start + len(lead)
        return Span(path, place, place + len(word))
    return whole


def exact(span: Span, word: str) -> bool:
    """Whether a place is that of the word alone, so that a suggestion may replace it."""
    return span.end - span.start == len(word)
