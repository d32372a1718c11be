"""What the peers share: contacts with changing points, the consequences of a firing, and whether a package is installed."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.workload import Contact, Rule


class State:
    """One contact while the events run."""

    __slots__ = ("id", "country", "points")

    def __init__(self, contact: Contact):
        self.id = contact.id
        self.country = contact.country
        self.points = contact.points


def states(contacts: list[Contact]) -> dict[str, State]:
    """The contacts by key."""
    return {contact.id: State(contact) for contact in contacts}


def fire(rule: Rule, state: State, queue: list, fired: list, actions: list) -> None:
    """Record that a rule fired for a contact and do what it says. `queue` takes the (type, data) of emitted events."""
    fired.append((rule.name, state.id))
    if rule.add_points:
        state.points += rule.add_points
    if rule.emit:
        queue.append((rule.emit.type, rule.emit.data))
    if rule.action:
        actions.append((state.id, rule.action))


def missing(module: str, package: str) -> str:
    """Say that a package isn't installed, or nothing if it is."""
    return "" if find_spec(module) else f"not installed (pip install {package})"


def by_type(rules: list[Rule]) -> dict[str, list[Rule]]:
    """The rules under their event type, in declaration order."""
    groups: dict[str, list[Rule]] = {}
    for rule in rules:
        groups.setdefault(rule.type, []).append(rule)
    return groups
