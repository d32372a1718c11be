"""zen-engine: one decision table for each event type, hit policy "collect", through `ZenEngine.evaluate`.

Python picks the table by type, fetches the contact by key and gives a plain dictionary (measured faster than JSON text);
an event of a type without a table isn't sent at all.  `ZenDecision.evaluate` would be 30 to 60 times slower.
`evaluate_batch` can't be used: the next event may see the points that this one adds.
"""

from __future__ import annotations

from benchmarks.peers.common import by_type, fire, missing, states
from benchmarks.workload import Contact, Event, Rule

NAME = "zen-engine (`ZenEngine.evaluate`)"
EVENTS = {10: 20_000, 100: 20_000, 1_000: 10_000}
_COLUMNS = ("amount", "quantity", "points", "country")


def available() -> str:
    """Whether zen-engine is installed."""
    return missing("zen", "zen-engine")


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Load the tables and evaluate each once, so that they are compiled."""
    return Session(rules, contacts)


class Session:
    """An engine with a table for each type, and the contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        import zen

        tables = {name: _table(group) for name, group in by_type(rules).items()}
        self.engine = zen.ZenEngine({"loader": {"type": "static", "content": tables}})
        self.types = frozenset(tables)
        self.rules = {rule.name: rule for rule in rules}
        self.contacts = states(contacts)
        for name in tables:
            self.engine.evaluate(name, {"amount": 0, "quantity": 0, "points": 0, "country": ""})

    def run(self, events: list[Event]) -> list[tuple[str, str]]:
        """The firings of all events."""
        evaluate, types, rules = self.engine.evaluate, self.types, self.rules
        fired: list[tuple[str, str]] = []
        actions: list[tuple[str, str]] = []
        for event in events:
            if event.type not in types:
                continue
            contact = self.contacts[event.contact]
            queue = [(event.type, event.data)]
            for type_name, data in queue:
                if type_name in types:
                    facts = {"points": contact.points, "country": contact.country, **data}
                    for row in evaluate(type_name, facts)["result"] or ():
                        fire(rules[row["rule"]], contact, queue, fired, actions)
        return fired


def _table(group: list[Rule]) -> dict:
    """A decision graph of one table: the facts go in, the names of the rules that match come out."""
    rows = [
        {
            "_id": rule.name,
            rule.field: f"{rule.operator} {rule.value}",
            "points": f"> {rule.points}",
            "country": f'"{rule.country}"',
            "rule": f'"{rule.name}"',
        }
        for rule in group
    ]
    content = {
        "hitPolicy": "collect",
        "inputs": [{"id": name, "name": name, "field": name} for name in ("country", "points", "amount", "quantity")],
        "outputs": [{"id": "rule", "name": "rule", "field": "rule"}],
        "rules": [{**dict.fromkeys(_COLUMNS, ""), **row} for row in rows],
    }
    return {
        "nodes": [
            {"id": "in", "name": "in", "type": "inputNode"},
            {"id": "table", "name": "table", "type": "decisionTableNode", "content": content},
            {"id": "out", "name": "out", "type": "outputNode"},
        ],
        "edges": [
            {"id": "first", "type": "edge", "sourceId": "in", "targetId": "table"},
            {"id": "second", "type": "edge", "sourceId": "table", "targetId": "out"},
        ],
    }
