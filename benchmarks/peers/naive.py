"""The reference that every other peer is checked against: try each rule on each event, nothing clever."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from benchmarks.peers.common import State, fire, states
from benchmarks.workload import Contact, Event, Rule

NAME = "Python, every rule tried (the reference)"
EVENTS = {10: 20_000, 100: 5_000, 1_000: 1_000}
_COMPARE = {">": operator.gt, ">=": operator.ge}


def available() -> str:
    """Always."""
    return ""


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Nothing to build."""
    return Session(rules, contacts)


class Session:
    """The rules as they are and the contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        self.rules = rules
        self.contacts = states(contacts)
        self.actions: list[tuple[str, str]] = []

    def run(self, events: list[Event]) -> list[tuple[str, str]]:
        """The firings of all events, in order."""
        return [firing for event in events for firing in self.step(event)]

    def step(self, event: Event) -> Iterator[tuple[str, str]]:
        """The firings of one event and of everything that it sets off."""
        state = self.contacts[event.contact]
        fired: list[tuple[str, str]] = []
        queue = [(event.type, event.data)]
        for type_name, data in queue:
            for rule in self.rules:
                if matches(rule, type_name, data, state):
                    fire(rule, state, queue, fired, self.actions)
        return iter(fired)


def matches(rule: Rule, type_name: str, data: dict[str, int], state: State) -> bool:
    """Whether a rule's whole condition holds."""
    return (
        rule.type == type_name
        and _COMPARE[rule.operator](data[rule.field], rule.value)
        and state.points > rule.points
        and state.country == rule.country
    )
