"""rule-engine: one `Rule` for each rule, looked up by event type in Python; contacts fetched by key."""

from __future__ import annotations

from benchmarks.peers.common import by_type, fire, missing, states
from benchmarks.workload import Contact, Event, Rule

NAME = "rule-engine, by type"
EVENTS = {10: 10_000, 100: 10_000, 1_000: 2_000}


def available() -> str:
    """Whether rule-engine is installed."""
    return missing("rule_engine", "rule-engine")


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Parse the rules."""
    return Session(rules, contacts)


class Session:
    """Parsed rules by type and contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        import rule_engine

        self.rules = {
            name: [(rule_engine.Rule(_text(rule)).matches, rule) for rule in group] for name, group in by_type(rules).items()
        }
        self.contacts = states(contacts)

    def run(self, events: list[Event]) -> list[tuple[str, str]]:
        """The firings of all events, in order. Points change only after a rule fired, so the facts are built once an event."""
        fired: list[tuple[str, str]] = []
        actions: list[tuple[str, str]] = []
        for event in events:
            if event.type not in self.rules:
                continue
            contact = self.contacts[event.contact]
            queue = [(event.type, event.data)]
            for type_name, data in queue:
                facts = {"points": contact.points, "country": contact.country, **data}
                for matches, rule in self.rules.get(type_name, ()):
                    if matches(facts):
                        fire(rule, contact, queue, fired, actions)
                        facts["points"] = contact.points
        return fired


def _text(rule: Rule) -> str:
    """The rule's condition; the rarest test first, because the library stops at the first that fails."""
    return f'country == "{rule.country}" and {rule.field} {rule.operator} {rule.value} and points > {rule.points}'
