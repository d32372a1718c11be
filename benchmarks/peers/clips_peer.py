"""CLIPS, driven from Python by clipspy.

For each event Python fetches the contact by key and calls one CLIPS function, which asserts one fact with the event's and the
contact's fields and runs (two facts and a join were measured up to 1.7 times slower).  Chains stay inside CLIPS: emitted
events wait as `queued` facts, the rule `done` closes the current event and books added points, the rule `pull` takes the next
one (strategy "breadth" makes that first in, first out).  Rules write their firings to a file, which is far cheaper than calling
back into Python; the file is read after the clock has stopped.

Facts are asserted within CLIPS because clipspy 1.0.6 never releases the fact objects that it hands to Python: asserting
through `Template.assert_fact` gets slower with every event (25 to 120 µs within 12,000 events).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from benchmarks.peers.common import missing, states
from benchmarks.workload import Contact, Event, Rule

NAME = "CLIPS (clipspy)"
EVENTS = {10: 20_000, 100: 20_000, 1_000: 20_000}

_FACTS = "(slot type (type SYMBOL)) (slot country (type SYMBOL)) (slot amount (type INTEGER)) (slot quantity (type INTEGER))"
_BASE = (
    "(defglobal ?*contact* = 0 ?*country* = 0 ?*points* = 0 ?*added* = 0)",
    f"(deftemplate event {_FACTS} (slot points (type INTEGER)))",
    "(deftemplate queued (slot seq (type INTEGER)) (slot type (type SYMBOL)) (slot amount (type INTEGER))"
    " (slot quantity (type INTEGER)))",
    "(deffunction open-event (?type ?amount ?quantity)"
    " (assert (event (type ?type) (country ?*country*) (points ?*points*) (amount ?amount) (quantity ?quantity))))",
    "(defrule done (declare (salience -10)) ?e <- (event) => (retract ?e)"
    " (bind ?*points* (+ ?*points* ?*added*)) (bind ?*added* 0))",
    "(defrule pull (declare (salience -20)) ?q <- (queued (type ?t) (amount ?a) (quantity ?n)) => (retract ?q)"
    " (open-event ?t ?a ?n))",
    "(deffunction step (?id ?country ?points ?type ?amount ?quantity)"
    " (bind ?*contact* ?id) (bind ?*country* ?country) (bind ?*points* ?points)"
    " (open-event ?type ?amount ?quantity) (run) ?*points*)",
)


def available() -> str:
    """Whether clipspy is installed."""
    return missing("clips", "clipspy")


def build(rules: list[Rule], contacts: list[Contact]) -> Session:
    """Load the rules into a fresh environment."""
    return Session(rules, contacts)


class Session:
    """A CLIPS environment, its log of firings and the contacts by key."""

    def __init__(self, rules: list[Rule], contacts: list[Contact]):
        import clips

        self.symbol = clips.Symbol
        self.contacts = states(contacts)
        self.names = {name: clips.Symbol(name) for contact in contacts for name in (contact.id, contact.country)}
        self.environment = clips.Environment()
        self.environment.eval("(set-strategy breadth)")
        self.environment.eval("(set-fact-duplication TRUE)")
        handle, self.log = tempfile.mkstemp(suffix=".clips")
        os.close(handle)
        self.environment.eval(f'(open "{self.log}" log "w")')
        for construct in (*_BASE, *(_defrule(rule, number) for number, rule in enumerate(rules))):
            self.environment.build(construct)

    def run(self, events: list[Event]) -> Iterator[tuple[str, str]]:
        """Run all events; the firings are read from the log by whoever wants them."""
        step = self.environment.find_function("step")
        types = {event.type: self.symbol(event.type) for event in events}
        contacts, names = self.contacts, self.names
        for event in events:
            contact = contacts[event.contact]
            data = event.data
            contact.points = step(
                names[contact.id], names[contact.country], contact.points, types[event.type], data["amount"], data["quantity"]
            )
        self.environment.eval("(close log)")
        return self._firings()

    def _firings(self) -> Iterator[tuple[str, str]]:
        with open(self.log, encoding="ascii") as lines:
            for line in lines:
                rule, contact = line.split()
                yield rule, contact
        os.unlink(self.log)


def _defrule(rule: Rule, number: int) -> str:
    """One rule. Its test is part of the pattern, so that CLIPS decides it before any join."""
    consequences = [f'(printout log {rule.name} " " ?*contact* crlf)']
    if rule.add_points:
        consequences.append(f"(bind ?*added* (+ ?*added* {rule.add_points}))")
    if rule.emit:
        data = rule.emit.data
        consequences.append(
            f"(assert (queued (seq {number}) (type {rule.emit.type}) (amount {data['amount']}) (quantity {data['quantity']})))"
        )
    return (
        f"(defrule {rule.name} (event (type {rule.type}) (country {rule.country}) (points ?p&:(> ?p {rule.points}))"
        f" ({rule.field} ?v&:({rule.operator} ?v {rule.value}))) => {' '.join(consequences)})"
    )
