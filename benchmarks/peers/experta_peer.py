"""experta: a `KnowledgeEngine` with one method for each rule.

For each event one fact with the event's and the contact's fields is declared and retracted (faster than two facts and a join);
the contact is fetched by key.

experta 1.9.4 pins frozendict 1.2, which still looks for `collections.Mapping`; Python 3.10 removed it.  `_import_experta` puts
the old names back before the import.  Nothing else in the process needs them (each measurement has a process of its own).
"""

from __future__ import annotations

import collections
import collections.abc

from benchmarks.peers.common import fire, missing, states
from benchmarks.workload import Contact, Event, Rule

NAME = "experta"
EVENTS = {10: 2_000, 100: 1_000, 1_000: 200}


def available() -> str:
    """Whether experta is installed."""
    return missing("experta", "experta")


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Make the engine's class, an instance and its network."""
    return Session(rules, contacts)


def _import_experta():
    """Import experta on Python 3.10 or later (see above)."""
    for name in ("Mapping", "MutableMapping", "Iterable", "Sequence", "Hashable", "Callable", "Set"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    import experta

    return experta


class Session:
    """An engine and the contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        experta = _import_experta()
        self.Event = type("Event", (experta.Fact,), {})
        self.matched: list[Rule] = []
        methods = {rule.name: self._method(experta, rule, -number) for number, rule in enumerate(rules)}
        self.engine = type("Rules", (experta.KnowledgeEngine,), methods)()
        self.engine.reset()
        self.contacts = states(contacts)

    def _method(self, experta, rule: Rule, salience: int):
        """One rule. Salience makes the order of firing the order of declaration."""
        value, points = rule.value, rule.points
        test = experta.P((lambda v: v > value) if rule.operator == ">" else (lambda v: v >= value))
        facts = {rule.field: test, "points": experta.P(lambda v: v > points)}
        event = self.Event(type=rule.type, country=rule.country, **facts)
        matched = self.matched

        def method(_engine) -> None:
            matched.append(rule)

        return experta.Rule(event, salience=salience)(method)

    def run(self, events: list[Event]) -> list[tuple[str, str]]:
        """The firings of all events, in order."""
        fired: list[tuple[str, str]] = []
        actions: list[tuple[str, str]] = []
        for event in events:
            contact = self.contacts[event.contact]
            queue = [(event.type, event.data)]
            for type_name, data in queue:
                for rule in self._match(contact, type_name, data):
                    fire(rule, contact, queue, fired, actions)
        return fired

    def _match(self, contact, type_name: str, data: dict[str, int]) -> list[Rule]:
        """The rules that fire for one event."""
        engine = self.engine
        self.matched.clear()
        fact = engine.declare(self.Event(type=type_name, country=contact.country, points=contact.points, **data))
        engine.run()
        engine.retract(fact)
        return self.matched
