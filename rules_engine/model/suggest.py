"""Finds the name that was meant: the nearest one, and which of two spellings is the likelier to be the slip. Runs only once
there is something to report, so it may cost microseconds a name; a budget keeps a text of 10,000 unknown names from costing
minutes."""

from __future__ import annotations

from collections.abc import Iterable

_LETTERS = "`abcdefghijklmnopqrstuvwxyz"

# How usual each pair of letters is in English words: row = first letter, column = second, ` = start or end of the word,
# 9 = always.
# Counted over the words of Python's own documentation; one step is a factor of two.
_PAIRS = (
    "05465554451245445256543421141455024040365604065632223056343621054162253055351004056032620640553172044641002075224721061042242044"
    "34100207415634302014461426650324206502355207005236205445010308412272345004354205534100017611371006023226104353000303435444400015"
    "47540456040304761336300433213632161612020742237240620423331253423020661247200601512620144420050664237100601342560143400020651555"
    "46140331352015634001043455133030355745065453420066023621350251154064540104062202130010052311045383100066243723060234352045532103"
    "07304262145023214412564010306523272056003225305544110413454353304005563506560001005723182126001324202331120006623463156023255205"
    "52012100743536303500342336361111431822324321400444360255023011650128302601321511332101033"
)

# Words of this trade. A spelling made of these is no slip.
_WORDS = frozenset(
    """
    abandoned account action active added age alert amount anniversary answer api asset at attended author b2b balance basket
    big billing birth birthday body booking brand browse business buy buyer by call campaign cancel cancelled card cart case
    category checkout choice city class clicked client code cold comment company confirm confirmation confirmed consent contact
    content control count country coupon created crm cross currency customer daily date day days deal decay delay deleted
    delivered delivery demo department device discount domain done double down download downloaded draft due early email emptied
    end ended engaged engagement enter entered event expired expires expiry export failed fast feature feedback field final
    finished first follow for form free frequency from full gift goal gold grade group guest handoff help high history hold hot
    hour hours id idle import in inactive inbox industry info interest interval invite invited invoice is item items job join
    joined key kind label language last late lead leads left level lifetime limit link list loaded locale login logged long lost
    low loyal loyalty mail main max member message middle min missed mobile mode month monthly mql my name new newsletter next
    no note notice now nudge number nurture of offer old on onboarding open opened optin option order orders out owner page paid
    partner past path pause payment percent period phone placed plan points post premium price pricing priority product profile
    project promo purchase purchased push quantity quarter quiet quote rate reach ready reason received recent referral refund
    refunded region registered remind reminder renew renewal repeat reply report request reset returned returning review reward
    role rule sale sales saved score second seen segment send sent series service set shipped shop short sign signed signup
    silent size sku sleeping sms source spend spent sql stage start started state status step stock stop store subject submitted
    subscribed subscription sunset support survey tag tags task team template term test text third threshold tier time timezone
    tip tips to token top topic total trial type unit unsubscribed update updated upgrade url user value variant verified view
    viewed vip visit visited visitor wait warm watched webinar week weekly welcome win winback with year yearly yes zone
""".split()
)


class Speller:
    """Answers for one check: `words` are further words of the project (of its names, labels and texts)."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._words = _WORDS.union(words)
        self._letters: dict[str, int] = {}
        self._budget = 400_000  # comparisons of two names; about a second at the very worst

    def learn(self, words: Iterable[str]) -> None:
        """Further words that are no slips."""
        self._words = self._words.union(words)

    def nearest(self, word: str, candidates: Iterable[str]) -> str | None:
        """The candidate that `word` was most likely meant to be, or None. Case and the marks - and _ weigh nothing; otherwise one
        slip in short names, two in names of five letters and more."""
        whole = fold(word)
        head, dot, tail = whole.rpartition(".")
        head += dot
        best: tuple[int, int, float, str] | None = None
        for candidate in candidates:
            self._budget -= 1
            if self._budget < 0:
                break
            folded = fold(candidate)
            wanted = whole
            if head and folded.startswith(head):  # what is the same in both lends no room for slips
                wanted, folded = tail, folded[len(head) :]
            most = 1 if len(wanted) < 5 else 2
            if abs(len(folded) - len(wanted)) > most or (self._mask(folded) ^ self._mask(wanted)).bit_count() > 2 * most:
                continue
            off = distance(wanted, folded, most)
            if off > most or off >= len(folded):
                continue
            # A slip seldom touches the first letter; then the likelier word; the alphabet, so that the answer is always the same.
            rank = (off, wanted[:1] != folded[:1], -self.likeliness(candidate), candidate)
            if best is None or rank < best:
                best = rank
        return best[3] if best else None

    def _mask(self, word: str) -> int:
        """One bit for each letter that occurs: words that differ in many letters need no closer look."""
        known = self._letters.get(word)
        if known is None:
            known = 0
            for letter in word:
                known |= 1 << (ord(letter) & 63)
            self._letters[word] = known
        return known

    def likeliness(self, name: str) -> float:
        """How much a name looks like words; higher is likelier. Known words outweigh any pair of letters."""
        parts = [part for part in name.lower().replace(".", "_").split("_") if part]
        if not parts:
            return 0.0
        return sum(20.0 if self._known(part) else _usual(part) for part in parts) / len(parts)

    def _known(self, part: str) -> bool:
        return part.isdigit() or part in self._words or part.removesuffix("s") in self._words


def fold(name: str) -> str:
    """A name without what is easily mistaken: case, dashes and blanks."""
    return name.lower().replace("-", "_").replace(" ", "_")


def _usual(word: str) -> float:
    """The mean of how usual the pairs of letters are, with weight on the oddest: one slip makes one or two odd pairs."""
    framed = f"`{word}`"
    values = [_pair(framed[i], framed[i + 1]) for i in range(len(framed) - 1)]
    values.sort()
    return sum(values) / len(values) + (values[0] + values[1] if len(values) > 1 else values[0]) / 2


def _pair(first: str, second: str) -> int:
    row, column = _LETTERS.find(first), _LETTERS.find(second)
    return 2 if row < 0 or column < 0 else int(_PAIRS[row * 27 + column])


def distance(a: str, b: str, most: int) -> int:
    """Slips between two words: a letter added, left out or changed, or two neighbours swapped. Above `most` any larger number."""
    if a == b:
        return 0
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        older, before = before, row
        row = [i]
        for j, other in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]
