"""Words: which keyword a misspelt one may have been, what people write from habit, and what a terminal is called in a message."""

from __future__ import annotations

from collections.abc import Iterable

# In lower case as in `3 days`, `mon-fri`, `yes`; all other keywords are written in capitals.
LOWER = frozenset({"UNIT", "WEEKDAY", "YES", "NO"})

SYNONYMS = {
    "unless": "IF NOT",
    "equals": "=",
    "equal": "=",
    "includes": "CONTAINS",
    "has": "CONTAINS",
    "like": "CONTAINS",
    "matching": "MATCHES",
    "joins": "ENTERS",
    "receives": "GETS",
    "exists": "IS SET",
    "missing": "IS NOT SET",
    "do": "THEN",
    "done": "END",
    "fi": "END",
    "endwhile": "END",
    "let": "CONST",
    "var": "CONST",
    "def": "CONST",
    "constant": "CONST",
    "const": "CONST",
    "delay": "AFTER",
    "sleep": "AFTER",
    "sec": "seconds",
    "secs": "seconds",
    "min": "minutes",
    "mins": "minutes",
    "hr": "hours",
    "hrs": "hours",
    "wk": "weeks",
    "wks": "weeks",
    "mth": "months",
    "mths": "months",
    "yr": "years",
    "yrs": "years",
    "daily": "EVERY day",
    "weekly": "EVERY week",
    "monthly": "EVERY month",
    "hourly": "EVERY hour",
    "elsewise": "ELSE",
    "case": "ELSE IF",
    "default": "ELSE",
    "return": "STOP",
    "exit": "STOP",
    "break": "STOP",
    "on": "WHEN",
    "once": "WHEN",
    "workflow": "CAMPAIGN",
    "journey": "CAMPAIGN",
    "flow": "CAMPAIGN",
    "audience": "SEGMENT",
    "list": "SEGMENT",
    "over": "WITHIN",
    "during": "WITHIN",
    "filter": "WHERE",
    "occurs": "",
    "happens": "",
    "the": "",
    "a": "",
    "an": "",
    "please": "",
}
"""What stands for a foreign word, tried only where the text can't be read otherwise; empty: the word is left out."""

_KINDS = {
    "NAME": "a name",
    "STRING": "a text in quotes",
    "NUMBER": "a number",
    "PERCENT": "a percentage",
    "DATE": "a date",
    "DATETIME": "a date with a time",
    "TIME": "a time of day",
    "UNIT": "a unit such as days",
    "DURATION": "a duration",
    "KEY": "a name with a colon",
    "_NL": "the end of the line",
    "$END": "the end of the file",
    "WEEKDAY": "a weekday",
    "_COMMA": "a comma",
    "_COLON": "a colon",
    "COMPARE": "a comparison",
    "EQ": "`=`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "STAR": "`*`",
    "SLASH": "`/`",
    "TIMES": "TIMES",
    "AT_LEAST": "AT LEAST",
    "AT_MOST": "AT MOST",
}
_GROUPS = (
    (
        {"CONST", "EVENT", "RULE", "CAMPAIGN"},
        {"CONST", "ATTRIBUTE", "EVENT", "FACT", "SEGMENT", "WORKSPACE", "RULE", "CAMPAIGN", "TEST"},
        "a declaration, RULE, CAMPAIGN or TEST",
    ),
    ({"THEN", "AFTER", "IF", "WAIT"}, {"THEN", "AFTER", "IF", "WAIT", "SPLIT", "REPEAT", "STOP"}, "a step"),
    (
        {"OWNER", "GOAL", "EXIT"},
        {
            "OWNER",
            "STARTS",
            "UNTIL",
            "AUDIENCE",
            "FOR",
            "MODE",
            "REENTRY",
            "EXIT",
            "GOAL",
            "DELIVER",
            "LIMIT",
            "PRIORITY",
            "HOLDOUT",
            "THROTTLE",
            "ON",
            "AT_MOST",
            "TIMEZONE",
        },
        "a clause of the header",
    ),
    (
        {"NAME", "NUMBER", "STRING"},
        {
            "NAME",
            "NUMBER",
            "STRING",
            "PERCENT",
            "DATE",
            "DATETIME",
            "TIME",
            "DURATION",
            "YES",
            "NO",
            "LPAR",
            "LSQB",
            "LBRACE",
            "MINUS",
            "COUNT",
            "SUM",
            "AVG",
            "MIN",
            "MAX",
            "LAST",
            "FIRST",
            "NOT",
            "DID",
        },
        "a value",
    ),
    ({"AND", "OR"}, {"AND", "OR"}, "AND or OR"),
    ({"EQ", "COMPARE"}, {"EQ", "COMPARE", "IS", "IN", "BETWEEN", "CONTAINS", "MATCHES", "STARTS", "ENDS", "NOT"}, "a comparison"),
    ({"PLUS", "STAR"}, {"PLUS", "MINUS", "STAR", "SLASH"}, "an operator"),
)
_SHOWN = 5


def written(kind: str, word: str) -> str:
    """A keyword as the formatter writes it."""
    return word.lower() if kind in LOWER else word.upper()


def kind_in_words(kind: str) -> str:
    """What a terminal is called in a message."""
    return _KINDS.get(kind, kind)


def in_words(kinds: Iterable[str]) -> str:
    """Terminals as a phrase: `a step or END`."""
    left = set(kinds)
    phrases: list[str] = []
    for signs, members, phrase in _GROUPS:
        if signs <= left:
            left -= members
            phrases.append(phrase)
    phrases += sorted((kind_in_words(kind) for kind in left), key=lambda text: (text.startswith("the end"), text))
    if len(phrases) > _SHOWN:
        phrases = [*phrases[: _SHOWN - 1], "something else"]
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} or {phrases[-1]}" if phrases else "nothing"


def distance(first: str, second: str, limit: int = 3) -> int:
    """Letters to delete, insert, replace or swap with a neighbour (each 1) between two words; limit + 1 when it is more than
    that."""
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        last, row, previous = row, [i], before
        for j, b in enumerate(second, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                cost = min(cost, previous[j - 2] + 1)
            row.append(cost)
        before = last
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)


def near(word: str, vocabulary: Iterable[str]) -> list[tuple[int, str]]:
    """(distance, word) of the words that a misspelt one may have been, nearest first: one letter off in a short word, two in a
    long one. Words with the same letters first, then those with the same first letter."""
    lower = word.lower()
    limit = 1 if len(lower) <= 4 else 2
    letters = set(lower)
    found = []
    for candidate in vocabulary:
        if (
            abs(len(candidate) - len(lower)) <= limit
            and candidate != lower
            and len(letters.symmetric_difference(candidate)) <= 2 * limit
        ):
            steps = distance(lower, candidate, limit)
            if steps <= limit:
                found.append((steps, sorted(candidate) != sorted(lower), candidate[0] != lower[0], candidate))
    return [(steps, candidate) for steps, _same, _first, candidate in sorted(found)]
