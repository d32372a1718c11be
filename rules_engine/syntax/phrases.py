"""What people say in other words than Camp's: each phrase has its pattern, what Camp says for it, and the advice. Tried as repairs
like all others, and only where a text can't be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rules_engine.syntax.candidates import Candidate
from rules_engine.syntax.lexer import Lexer, Raw

_COST = 0.7  # less than any single misspelt letter: a phrase is more than that
_LONGEST = 1_000  # characters in which phrases are looked for

_WORD = r"[^\W\d]\w*"
_NAME = rf"{_WORD}(?:\.{_WORD})*"
_UNIT = r"(?:second|minute|hour|day|week|month|year)s?\b"
_ASKS = r"(?:\b(?:IF|AND|OR|WHERE|WHILE|IS)|(?<!WHEN )(?<!UNTIL )\bNOT|\()[ \t]*"
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
_VERBS = frozenset("add emit enter leave notify post remove send set subtract write".split())
_NAMED = r"^[ \t]*(?:EVENT|CAMPAIGN|RULE|SEGMENT|CONST|ATTRIBUTE|FACT)[ \t]+"
_CLAUSES = (
    r"(?:OWNER|STARTS|UNTIL|AUDIENCE|FOR[ \t]+EACH|MODE|REENTRY|GOAL|DELIVER|LIMIT|PRIORITY|HOLDOUT|THROTTLE|ON[ \t]+LATE"
    r"|AT[ \t]+MOST|TIMEZONE|EXIT(?=[ \t]+(?:WHEN|ON|\"[^\"\n]*\"[ \t]+WHEN)\b))"
)


class _Phrase(NamedTuple):
    """`new` stands for the group `wrong` of `pattern`: a text, or what makes one of the match (None: it isn't that phrase).
    `message` and `help` may name {new} and the groups. Not `sure`: what to write is for the author to choose."""

    pattern: re.Pattern[str]
    new: str | Callable[[re.Match[str]], str | None]
    message: str
    help: str = "write `{new}`"
    name: str = "syntax-error"
    sure: bool = True


def phrases(lexer: Lexer, text: str, tokens: list[Raw]) -> Iterator[Candidate]:
    """Candidates in the statement that can't be read (`tokens`: from the start of the one before it to where reading stopped)."""
    start = text.rfind("\n", 0, tokens[0][2]) + 1
    stop = tokens[-1][2]
    end = text.find("\n", stop)
    end = len(text) if end < 0 else end
    if end - start > _LONGEST:
        return
    for phrase in _PHRASES:
        for match in phrase.pattern.finditer(text, start, end):
            new = phrase.new if isinstance(phrase.new, str) else phrase.new(match)
            if new is not None:
                yield _candidate(phrase, match, new)
    line = text.rfind("\n", 0, stop) + 1
    clause = _CLAUSE.match(text, line, end)
    if clause and clause.start("wrong") == stop:
        yield _late(lexer, text, clause)


def _candidate(phrase: _Phrase, match: re.Match[str], new: str) -> Candidate:
    start, end = match.span("wrong")
    words = {**match.groupdict(), "new": new.strip()}
    return Candidate(
        _COST,
        start,
        end,
        new,
        phrase.name,
        start,
        end,
        phrase.message.format(**words),
        phrase.help.format(**words),
        new if phrase.sure else None,
    )


_CLAUSE = re.compile(rf"[ \t]*(?P<wrong>{_CLAUSES})", re.IGNORECASE)


def _late(lexer: Lexer, text: str, match: re.Match[str]) -> Candidate:
    """A clause among the steps: its statement is left out, since a repair is in one place."""
    start, end = match.span("wrong")
    over = next((token[2] for token in lexer.lex(text, start) if token[0][0] == "_NL"), len(text))
    word = " ".join(match["wrong"].upper().split())
    message = f"{word} is a clause of the header, and stands before WHEN"
    return Candidate(_COST, start, over, "", "syntax-error", start, end, message, "put this line before the line of WHEN", None)


# ── what Camp says, made of what was said ──


def _digits(match: re.Match[str]) -> str:
    word = match["wrong"].lower()
    return str(_NUMBERS.index(word) + 1 if word in _NUMBERS else 1)


def _clock(match: re.Match[str]) -> str | None:
    hour, minute = int(match["hour"]), match["minute"] or "00"
    return f"{hour:02}:{minute}" if hour < 24 and int(minute) < 60 else None


def _date(match: re.Match[str]) -> str | None:
    day, month = int(match["day"]), int(match["month"])
    if day <= 12 < month:
        day, month = month, day
    return f"{match['year']}-{month:02}-{day:02}" if 0 < month <= 12 and 0 < day <= 31 else None


def _action(match: re.Match[str]) -> str | None:
    first, second = match["first"].lower(), match["second"].lower()
    then = "" if match["then"].strip() else "THEN "
    return f"{then}{second}.{first}" if first in _VERBS else f"{then}{first}.{second}" if second in _VERBS else None


def _joined(match: re.Match[str]) -> str:
    event = match[0].lstrip()[:5].upper() == "EVENT"
    return re.sub(r"[ \t]+", "." if event else "_", match["wrong"]).replace("-", "_").lower()


def _titled(match: re.Match[str]) -> str | None:
    name = re.sub(r"[^a-z0-9]+", "_", match["title"].lower()).strip("_")
    if re.fullmatch(_NAME, match["title"]) or not name[:1].isalpha():
        return None
    return f"{name} {match['wrong']}"


def _branch(match: re.Match[str]) -> str:
    """A name that the branches before it don't have."""
    split = match.string[: match.start("wrong")].upper().rpartition("SPLIT")[2]
    before = len(re.findall(r"^[ \t]*\d+%", split, re.MULTILINE))
    return f"{match['wrong']} {chr(ord('a') + before % 26)}"


def _phrase(pattern: str, new: Any, message: str, help: str = "write `{new}`", foreign: bool = False, sure: bool = True) -> _Phrase:
    name = "foreign-spelling" if foreign else "syntax-error"
    return _Phrase(re.compile(pattern, re.IGNORECASE | re.MULTILINE), new, message, help, name, sure)


_PHRASES = (
    # ── what happened, and what is so ──
    _phrase(
        rf'{_ASKS}(?P<wrong>(?!(?:contact|event|DID)\b){_NAME}[ \t]+(?:"[^"\n]*"|\[[^\]\n]*\]))',
        lambda match: f"DID {match['wrong']}",
        "a condition asks with DID whether something happened",
    ),
    _phrase(
        rf"{_ASKS}(?P<wrong>contact[ \t]+(?:(?:has|have|had)[ \t]+(?P<no>not[ \t]+)?)?(?P<did>\w+ed|{_WORD}\.{_WORD}))\b",
        lambda match: f"{'NOT ' if match['no'] else ''}DID {match['did']}",
        "a condition asks with DID whether something happened",
        "write DID and the name of the event, such as DID email.clicked",
        foreign=True,
        sure=False,
    ),
    _phrase(
        rf"\bWHEN[ \t]+(?P<wrong>contact[ \t]+(?:has[ \t]+)?(?P<did>\w+ed|{_WORD}\.{_WORD}))\b",
        lambda match: match["did"],
        "WHEN takes the event itself",
        "write only the name of the event, such as email.clicked",
        foreign=True,
        sure=False,
    ),
    _phrase(
        r"^[ \t]*(?:EXIT[ \t]+)?WHEN[ \t][^\n]*?[ \t](?P<wrong>AND|IF)\b",
        "WHERE",
        "what must be so when the event happens stands after WHERE",
    ),
    _phrase(
        r"\b(?:GOAL|NOT)[ \t]+(?P<wrong>DID)\b",
        "",
        "what is waited for is the event itself, without DID",
        "leave DID out",
    ),
    _phrase(
        rf'\bWHEN[ \t]+NOT[ \t]+(?P<wrong>{_NAME}[ \t]+"[^"\n]*")[ \t]*$',
        lambda match: f"{match['wrong']} FOR 7 days",
        "WHEN NOT waits for a silence, and how long is missing",
        "say for how long, such as `{new}`",
        sure=False,
    ),
    _phrase(
        r"^[ \t]*WHEN\b[^\n]*\n\s*(?P<wrong>WHEN)\b",
        "OR",
        "there is one WHEN, and this is another",
        "join what starts it with OR: write `OR` here",
    ),
    # ── waiting ──
    _phrase(
        r"^[ \t]*WAIT[ \t]+UNTIL\b[^\n]*[ \t](?P<wrong>FOR|WITHIN|AT[ \t]+MOST)\b",
        "UP TO",
        "UP TO says how long a WAIT waits",
        foreign=True,
    ),
    _phrase(
        r"^[ \t]*(?P<wrong>ELSE)\b(?![ \t]+IF\b)", "OTHERWISE", "a WAIT goes on with OTHERWISE when its time is over", foreign=True
    ),
    _phrase(
        rf"(?P<wrong>\b(?:an?|{'|'.join(_NUMBERS)})\b)(?=[ \t]+(?:business[ \t]+)?{_UNIT})",
        _digits,
        "a number is written in digits",
        foreign=True,
    ),
    _phrase(
        r"\d[ \t]+(?P<wrong>(?:work|week|working[ \t]+)days?)\b",
        "business days",
        "days of work are business days here",
        foreign=True,
    ),
    _phrase(
        rf"\b(?:FOR|AFTER|WITHIN|UP[ \t]+TO|PER)[ \t]+(?P<wrong>\d+)(?![\w.:%/-]|[ \t]+(?:business|times?|{_UNIT}))",
        lambda match: f"{match['wrong']} days",
        "a unit is missing after `{wrong}`",
        "write the unit, such as `{new}`",
        sure=False,
    ),
    _phrase(
        r"\b(?:AT|FROM|TO|BETWEEN|AND)[ \t]+(?P<wrong>(?P<hour>\d{1,2})(?:\.(?P<minute>\d\d))?)(?![\w.:%/-])",
        _clock,
        "a time of day has hours and minutes",
    ),
    _phrase(
        r"(?<![\w.])(?P<wrong>(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4}))(?![\w.])",
        _date,
        "a date is written with the year first",
    ),
    _phrase(
        r"(?<![\w.])(?P<wrong>(?P<year>\d{4})(?P<sign>[./])(?P<month>\d{1,2})(?P=sign)(?P<day>\d{1,2}))(?![\w.])",
        _date,
        "the parts of a date are joined with `-`",
    ),
    _phrase(
        r"(?<![\w.])(?P<wrong>(?P<day>\d{1,2})/(?P<month>\d{1,2})/(?P<year>\d{4}))(?![\w.])",
        _date,
        "a date is written as year-month-day",
        "write it so that nobody takes the day for the month, such as `{new}`",
        sure=False,
    ),
    # ── actions ──
    _phrase(
        rf"(?P<then>\bTHEN[ \t]+|^[ \t]*(?!THEN\b))(?P<wrong>(?P<first>{_WORD})[ \t]+(?P<second>{_WORD}))\b",
        _action,
        "an action is one name with a dot",
        foreign=True,
    ),
    _phrase(
        rf",\s*(?P<wrong>(?P<key>{_NAME})[ \t]*=)(?!=)",
        lambda match: f"{match['key']}:",
        "an argument's name has a colon after it, not `=`",
    ),
    # ── names ──
    _phrase(
        rf"{_NAMED}(?P<wrong>{_WORD}(?:[ \t]+(?!(?:WITH|WHERE|IS|ONE|DEFAULT)\b){_WORD})+)",
        _joined,
        "a name has no blanks",
    ),
    _phrase(rf"(?<![\w.])(?P<wrong>{_NAME}(?:-{_WORD})+)", _joined, "a name has no `-`"),
    _phrase(
        r'^[ \t]*(?:CAMPAIGN|RULE|SEGMENT)[ \t]+(?P<wrong>"(?P<title>[^"\n]*)")',
        _titled,
        "a name is missing before the title",
        "write one of letters, digits and _ before it: `{new}`",
    ),
    _phrase(
        r"^[ \t]*(?P<wrong>TEST)[ \t]*$",
        'TEST "x"',
        "a TEST has a title",
        'write what it shows in quotes, such as TEST "a buyer gets no reminder"',
        sure=False,
    ),
    _phrase(
        r'^[ \t]*TEST[ \t]+(?P<wrong>\w[^"\n#]*?)[ \t]*$',
        lambda match: f'"{match["wrong"]}"',
        "the title of a TEST stands in quotes",
    ),
    # ── branches ──
    _phrase(
        rf"^[ \t]*(?P<wrong>\d+)(?=[ \t]+{_WORD}[ \t]*$)",
        lambda match: f"{match['wrong']}%",
        "the share of a branch is a percentage",
    ),
    _phrase(
        r"^[ \t]*(?P<wrong>\d+%)[ \t]*$", _branch, "a branch has a name", "write one after its share, such as `{new}`", sure=False
    ),
    # ── tests ──
    _phrase(
        r"(?<![\w\"])(?P<wrong>[\w.+-]+@[\w-]+(?:\.[\w-]+)*)", lambda match: f'"{match["wrong"]}"', "a text stands in double quotes"
    ),
    _phrase(
        rf"\bEXPECT[ \t]+{_WORD}[ \t]+(?P<wrong>(?:(?:DOES|SHOULD|MUST|WILL)[ \t]+)?NOT[ \t]+(?:GETS?|RECEIVES?))\b",
        "NOT GETS",
        "what must not come is expected with NOT GETS",
        foreign=True,
    ),
    _phrase(
        rf"\bEXPECT[ \t]+(?P<wrong>NOT[ \t]+(?P<who>{_WORD})[ \t]+GETS?)\b",
        lambda match: f"{match['who']} NOT GETS",
        "what must not come is expected with NOT GETS",
    ),
    _phrase(
        rf"^[ \t]*GIVEN[ \t]+(?P<wrong>(?!contact\b){_WORD})(?=[ \t]*$|[ \t]+WITH\b)",
        lambda match: f"contact {match['wrong']}",
        "the word `contact` is missing before `{wrong}`",
    ),
)
