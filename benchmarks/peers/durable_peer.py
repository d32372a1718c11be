"""durable_rules: each event, with its contact's facts merged in, is asserted as a fact and retracted after its rules fired.

A fact and not an event, because durable_rules gives an event to the first matching rule only.  Contacts are fetched by key
on the Python side.  Emitted events go through the same door.  A fact that no rule matches raises an exception inside the
library; that is part of its cost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from benchmarks.peers.common import fire, missing, states
from benchmarks.workload import Contact, Event, Rule

NAME = "durable_rules"
EVENTS = {10: 10_000, 100: 10_000, 1_000: 5_000}
_OPERATOR = {">": "$gt", ">=": "$gte"}


def available() -> str:
    """Whether durable_rules is installed."""
    return missing("durable", "durable_rules")


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Register the rules with a host."""
    return Session(rules, contacts)


class Session:
    """A host with one rule set, and the contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        from durable import engine

        logging.disable(logging.CRITICAL)
        self.unhandled = engine.MessageNotHandledException
        self.contacts = states(contacts)
        self.fired: list[tuple[str, str]] = []
        self.actions: list[tuple[str, str]] = []
        self.matched: list[Rule] = []
        self.host = engine.Host({"rules": {rule.name: self._definition(rule) for rule in rules}})

    def _definition(self, rule: Rule) -> dict:
        """A rule in the library's own JSON form, as its `lang` module would make it."""
        tests = [
            {"type": rule.type},
            {"country": rule.country},
            {_OPERATOR[rule.operator]: {rule.field: rule.value}},
            {"$gt": {"points": rule.points}},
        ]
        return {"all": [{"m": {"$and": tests}}], "run": self._action(rule)}

    def _action(self, rule: Rule) -> Callable:
        matched = self.matched

        def action(_closure) -> None:
            matched.append(rule)

        return action

    def run(self, events: list[Event]) -> list[tuple[str, str]]:
        """The firings of all events."""
        contacts, fired, actions = self.contacts, self.fired, self.actions
        for event in events:
            contact = contacts[event.contact]
            queue = [(event.type, event.data)]
            for type_name, data in queue:
                for rule in self._match({"type": type_name, "points": contact.points, "country": contact.country, **data}):
                    fire(rule, contact, queue, fired, actions)
        return fired

    def _match(self, fact: dict) -> list[Rule]:
        """The rules that fire for one fact. The library adds an id of its own where we name none."""
        self.matched.clear()
        fact["id"] = "1"
        try:
            self.host.assert_fact("rules", fact)
        except self.unhandled:
            pass
        try:
            self.host.retract_fact("rules", fact)
        except self.unhandled:
            pass
        return self.matched
