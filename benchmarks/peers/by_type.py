"""Python as most people would write it: a dictionary from event type to rules, one compiled condition for each rule."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.common import by_type, fire, states
from benchmarks.workload import Contact, Event, Rule

NAME = "Python, dictionary by type only"
EVENTS = {10: 50_000, 100: 50_000, 1_000: 20_000}


def available() -> str:
    """Always."""
    return ""


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Compile a condition for each rule."""
    return Session(rules, contacts)


def condition(rule: Rule) -> Callable:
    """A compiled function of (data, contact)."""
    test = f'data["{rule.field}"] {rule.operator} {rule.value}'
    return eval(f'lambda data, contact: {test} and contact.points > {rule.points} and contact.country == "{rule.country}"')


class Session:
    """Compiled rules by type and contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        self.rules = {name: [(condition(rule), rule) for rule in group] for name, group in by_type(rules).items()}
        self.contacts = states(contacts)
        self.actions: list[tuple[str, str]] = []

    def run(self, events: list[Event]) -> list[tuple[str, str]]:
        """The firings of all events, in order."""
        fired: list[tuple[str, str]] = []
        rules, contacts, actions = self.rules, self.contacts, self.actions
        for event in events:
            if event.type not in rules:
                continue
            contact = contacts[event.contact]
            queue = [(event.type, event.data)]
            for type_name, data in queue:
                for test, rule in rules.get(type_name, ()):
                    if test(data, contact):
                        fire(rule, contact, queue, fired, actions)
        return fired
