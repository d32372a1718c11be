"""One module for each way of matching the workload; `NAMES` lists them in the order of the table.

Every module has:

    NAME                      how the table calls it
    EVENTS                    how many events it is given at 10, 100 and 1,000 rules: slow peers get fewer
    available() -> str        "" or the reason why it can't run here
    build(rules, contacts)    -> a session: everything that happens once, when the rules are loaded
    session.run(events)       -> the firings, an iterable of (rule name, contact id)

`run` is timed; reading the firings is not, so a peer may keep them in its own form and translate them lazily.
`session.prepare(events)`, if there is one, is not timed either: it may turn the events into the records that callers of
that peer hold anyhow.  It must not match, look up a contact or serialise anything.
"""

NAMES = ("limit", "camp", "by_type", "naive", "clips_peer", "durable_peer", "zen_peer", "rule_engine_peer", "experta_peer")
