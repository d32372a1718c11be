"""The limit: Python written by a program for exactly these rules, indexed by event type and country.

One function for each pair of (type, country) holds the tests and consequences of its rules in a row.  Where no rule of
the pair adds points, the lowest points threshold guards the whole function.  Nothing is explained, journalled or checked:
a real engine can come near this, not below it.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.common import states
from benchmarks.workload import Contact, Event, Rule

NAME = "Python, generated code by type and country (the limit)"
EVENTS = {10: 50_000, 100: 50_000, 1_000: 50_000}


def available() -> str:
    """Always."""
    return ""


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Write and compile the functions."""
    return Session(rules, contacts)


class Session:
    """Functions by type and country, contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        self.fired: list[tuple[str, str]] = []
        self.actions: list[tuple[str, str]] = []
        self.queue: list[tuple[dict, dict]] = []
        self.functions = _functions(rules, self.fired, self.actions, self.queue)
        self.contacts = states(contacts)

    def run(self, events: list[Event]) -> list[tuple[str, str]]:
        """The firings of all events, in order."""
        functions, contacts, queue = self.functions, self.contacts, self.queue
        for event in events:
            countries = functions.get(event.type)
            if countries is None:
                continue
            contact = contacts[event.contact]
            function = countries.get(contact.country)
            if function is None:
                continue
            function(contact, event.data)
            if queue:
                for emitted, data in queue:
                    function = emitted.get(contact.country)
                    if function is not None:
                        function(contact, data)
                queue.clear()
        return self.fired


def _functions(rules: list[Rule], fired: list, actions: list, queue: list) -> dict[str, dict[str, Callable]]:
    """The compiled functions, under type, then country. Emitted types are bound to their dictionary beforehand."""
    groups: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        groups.setdefault((rule.type, rule.country), []).append(rule)
    tables: dict[str, dict[str, Callable]] = {rule.type: {} for rule in rules}
    tables.update({rule.emit.type: {} for rule in rules if rule.emit and rule.emit.type not in tables})
    scope: dict = {"fired": fired.append, "act": actions.append, "emit": queue.append, "tables": tables}
    for number, (key, group) in enumerate(groups.items()):
        exec(_source(f"f{number}", group, scope), scope)
        tables[key[0]][key[1]] = scope[f"f{number}"]
    return tables


def _source(name: str, group: list[Rule], scope: dict) -> str:
    """The text of one function. Emitted records are made once and put into `scope`."""
    lines = [f"def {name}(contact, data):", "    points = contact.points"]
    if not any(rule.add_points for rule in group):
        lines.append(f"    if points <= {min(rule.points for rule in group)}: return")
    for rule in group:
        test = f'data["{rule.field}"] {rule.operator} {rule.value}'
        lines.append(f"    if points > {rule.points} and {test}:")
        lines.append(f'        fired(("{rule.name}", contact.id))')
        if rule.add_points:
            lines.append(f"        contact.points = points = points + {rule.add_points}")
        if rule.emit:
            scope[f"emit_{rule.name}"] = (scope["tables"][rule.emit.type], rule.emit.data)
            lines.append(f"        emit(emit_{rule.name})")
        if rule.action:
            lines.append(f'        act((contact.id, "{rule.action}"))')
    return "\n".join(lines)
