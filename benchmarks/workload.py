"""The matching workload: rules, contacts and events as plain data, the same for every peer.

A rule says "WHEN an event of this type whose field passes a test, IF the contact has more than X points and lives in
country C, THEN ...".  Rules come in chains of three.  The first rule of a chain emits an event, the second answers that
event, adds a point and emits another, the third answers that one and pushes an action.

What every peer must reproduce:

* the rules for one event fire in declaration order, each at most once for that event;
* a rule's condition is read against the facts of its own turn;
* an emitted event is about the same contact and is worked off after the rules of the current event, first in, first out;
* contacts are found by their key, and their points live on from one event to the next.

The order of firing can't change *what* fires, so that a peer with another agenda is still comparable.  Only second rules
add points.  First rules are decided before any addition of their event; the points tests of second rules are below those
of all first rules, hence always true when reached (they still have to be evaluated); third rules come after all second
rules have fired, because events are worked off first in, first out.

Everything comes from `mix`, a hash of integers: no state, no random module, the same numbers on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

COUNTRIES = ("DE", "AT", "CH", "FR", "IT", "ES", "CZ", "PL")
CONTACTS = 10_000
CHAIN = 3
ACTION = "hot"
_LEVEL_SUFFIX = ("", "_b", "_c")
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Emit:
    """Consequence: emit an event about the same contact."""

    type: str
    data: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `operator` is ">" or ">="; absent consequences are zero, None and None."""

    name: str
    type: str
    field: str
    operator: str
    value: int
    points: int
    country: str
    add_points: int
    emit: Emit | None
    action: str | None


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact as the rules find it before the first event."""

    id: str
    country: str
    points: int


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `data` holds "amount" (1 to 100) and "quantity" (1 to 10)."""

    type: str
    contact: str
    data: dict[str, int]


def mix(*numbers: int) -> int:
    """Hash integers to 64 bits (splitmix64, folded over the arguments)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state + number * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & _MASK
        state ^= state >> 30
        state = state * 0xBF58476D1CE4E5B9 & _MASK
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def between(low: int, high: int, *numbers: int) -> int:
    """A number from low to high, both included, picked by the hash."""
    return low + mix(*numbers) % (high - low + 1)


def type_count(rules: int) -> int:
    """How many types of root event a business with that many rules has: 8, 13, 20 for 10, 100, 1,000."""
    return round(5.1 * rules**0.2)


def make_rules(count: int) -> list[Rule]:
    """Chains of three rules until there are `count`; the last chain may be shorter. Declaration order is list order."""
    rules: list[Rule] = []
    types = type_count(count)
    for chain in range(-(-count // CHAIN)):
        length = min(CHAIN, count - chain * CHAIN)
        rules += _chain(chain, length, len(rules), types)
    return rules


def _chain(chain: int, length: int, first: int, types: int) -> list[Rule]:
    """The rules of one chain: one type and one country for all, so that the chain can run to its end."""
    kind = chain % types
    type_name = f"t{kind}"
    country = COUNTRIES[(chain // types + kind) % len(COUNTRIES)]
    return [_rule(first + level, chain, level, level + 1 == length, type_name, country) for level in range(length)]


def _rule(number: int, chain: int, level: int, last: bool, type_name: str, country: str) -> Rule:
    field = ("amount", "quantity")[mix(1, chain, level) % 2]
    value = between(30, 70, 2, chain, level)
    points = (between(20, 60, 3, chain), between(0, 9, 3, chain), between(30, 70, 3, chain))[level]
    emits = not last
    return Rule(
        name=f"r{number}",
        type=type_name + _LEVEL_SUFFIX[level],
        field=field,
        operator=(">", ">=")[mix(4, chain, level) % 2],
        value=value if field == "amount" else value // 10,
        points=points,
        country=country,
        add_points=1 if level == 1 else 0,
        emit=Emit(type_name + _LEVEL_SUFFIX[level + 1], _emitted(chain, level)) if emits else None,
        action=None if emits else ACTION,
    )


def _emitted(chain: int, level: int) -> dict[str, int]:
    return {"amount": between(18, 100, 5, chain, level), "quantity": between(2, 10, 6, chain, level)}


def make_contacts(count: int = CONTACTS) -> list[Contact]:
    """Contacts spread evenly over the countries, with 0 to 99 points."""
    return [Contact(f"c{n}", COUNTRIES[mix(7, n) % len(COUNTRIES)], between(0, 99, 8, n)) for n in range(count)]


def iter_events(count: int, rules: int, contacts: int = CONTACTS) -> Iterator[Event]:
    """Root events for a set of that many rules: types, contacts and fields spread evenly."""
    types = [f"t{n}" for n in range(type_count(rules))]
    for n in range(count):
        bits = mix(9, n)
        data = {"amount": 1 + (bits >> 8) % 100, "quantity": 1 + (bits >> 20) % 10}
        yield Event(types[(bits >> 32) % len(types)], f"c{(bits >> 44) % contacts}", data)


def make_events(count: int, rules: int, contacts: int = CONTACTS) -> list[Event]:
    """`iter_events` as a list. A shorter list is a prefix of a longer one."""
    return list(iter_events(count, rules, contacts))


def event_types(rules: Iterable[Rule]) -> list[str]:
    """Every event type that these rules could meet, root types without a rule included, sorted."""
    rules = list(rules)
    names = {f"t{n}" for n in range(type_count(len(rules)))}
    names.update(rule.type for rule in rules)
    names.update(rule.emit.type for rule in rules if rule.emit)
    return sorted(names)


def camp_text(rules: list[Rule]) -> str:
    """The same rules in the language of Camp: the events that exist, then the rules."""
    lines = [f"EVENT {name} WITH amount: number, quantity: number" for name in event_types(rules)]
    for rule in rules:
        lines += ["", *_camp_rule(rule)]
    return "\n".join(lines) + "\n"


def _camp_rule(rule: Rule) -> list[str]:
    """One RULE block."""
    test = f"event.{rule.field} {rule.operator} {rule.value}"
    lines = [
        f"RULE {rule.name}",
        f'  WHEN {rule.type} WHERE {test} AND contact.points > {rule.points} AND contact.country = "{rule.country}"',
    ]
    if rule.add_points:
        lines.append(f"    THEN points.add {rule.add_points}")
    if rule.emit:
        fields = ", ".join(f"{name}: {value}" for name, value in rule.emit.data.items())
        lines.append(f"    THEN event.emit {rule.emit.type}, {fields}")
    if rule.action:
        lines.append(f'    THEN tag.add "{rule.action}"')
    return [*lines, "END"]
