"""The tables as peewee models, for rare queries; the hot ones are plain SQL in `sqlite.py`. The schema itself is made by
`migrations.py`."""

from __future__ import annotations

import peewee


class Meta(peewee.Model):
    """cursor: all rows of the log up to it are not new. clock: the latest log time reached. latest: digest of the current
    program. instance, secret: see `migrations`. erasures: how many contacts were erased. journal: 1 once a send journal was begun.
    sent_dropped: the latest moment (ms) of which it dropped lines. backup: when the last one was made, and where."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()

    class Meta:
        without_rowid = True


class Program(peewee.Model):
    """A set of `.camp` files that was applied, named by the digest of their texts."""

    number = peewee.AutoField()
    digest = peewee.TextField(unique=True)
    sources = peewee.BlobField()
    applied_at = peewee.BigIntegerField()


class Contact(peewee.Model):
    """All of one contact as JSON, and its one wake-up."""

    id = peewee.TextField(primary_key=True)
    state = peewee.BlobField()
    wake_at = peewee.BigIntegerField(null=True)
    program = peewee.ForeignKeyField(Program, column_name="program", index=False)
    updated = peewee.BigIntegerField()


class Event(peewee.Model):
    """The log. data is NULL once purged; the id and the fingerprint stay. status: 0 new, 1 done, 2 set aside."""

    seq = peewee.AutoField()
    source = peewee.TextField()
    event_id = peewee.TextField()
    kind = peewee.TextField()
    name = peewee.TextField()
    contact = peewee.TextField()
    at = peewee.BigIntegerField()
    received = peewee.BigIntegerField()
    subject = peewee.TextField(null=True)
    data = peewee.BlobField(null=True)
    fingerprint = peewee.BlobField()
    status = peewee.IntegerField()
    reason = peewee.TextField(null=True)


class Decision(peewee.Model):
    """The journal, append-only. detail: JSON of [primary, params, because, place]."""

    seq = peewee.AutoField()
    contact = peewee.TextField()
    at = peewee.BigIntegerField()
    campaign = peewee.TextField(null=True)
    rule = peewee.TextField(null=True)
    key = peewee.TextField(null=True)
    step = peewee.TextField(null=True)
    kind = peewee.TextField()
    action = peewee.TextField(null=True)
    outcome = peewee.TextField(null=True)
    reason = peewee.TextField()
    cause = peewee.TextField()
    detail = peewee.BlobField()


class Effect(peewee.Model):
    """The outbox. payload: JSON of [primary, params]. instance: what made it; exempt: the checks that the author waived ("quiet
    limit"); handle: its name for the world (`links.handle`), by which bounces and provider's webhooks find it."""

    seq = peewee.AutoField()
    id = peewee.TextField(unique=True)
    contact = peewee.TextField()
    action = peewee.TextField()
    payload = peewee.BlobField()
    ruleset = peewee.TextField()
    step = peewee.TextField()
    key = peewee.TextField(null=True)
    channel = peewee.TextField(null=True)
    message_class = peewee.TextField()
    at = peewee.BigIntegerField()
    expires = peewee.BigIntegerField(null=True)
    state = peewee.TextField()
    attempts = peewee.IntegerField(default=0)
    next_at = peewee.BigIntegerField(null=True)
    provider_id = peewee.TextField(default="")
    detail = peewee.TextField(default="")
    claimed_at = peewee.BigIntegerField(null=True)
    first_claimed_at = peewee.BigIntegerField(null=True)
    settled_at = peewee.BigIntegerField(null=True)
    instance = peewee.TextField(default="")
    exempt = peewee.TextField(default="")
    handle = peewee.TextField(default="")


class Attempt(peewee.Model):
    """Each hand-over, append-only."""

    seq = peewee.AutoField()
    effect = peewee.TextField()
    number = peewee.IntegerField()
    claimed_at = peewee.BigIntegerField()
    settled_at = peewee.BigIntegerField()
    state = peewee.TextField()
    detail = peewee.TextField()


class Pause(peewee.Model):
    """What an operator stopped: a campaign or rule by its name, or `*` for everything."""

    campaign = peewee.TextField(primary_key=True)
    at = peewee.BigIntegerField()
    reason = peewee.TextField()

    class Meta:
        without_rowid = True


class Throttle(peewee.Model):
    """How many hand-overs a THROTTLE has let through in each slot of time, a small part of its period."""

    name = peewee.TextField()
    slot = peewee.BigIntegerField()
    used = peewee.IntegerField()

    class Meta:
        primary_key = peewee.CompositeKey("name", "slot")
        without_rowid = True


class Audit(peewee.Model):
    """What people did to the service, append-only."""

    seq = peewee.AutoField()
    at = peewee.BigIntegerField()
    who = peewee.TextField()
    what = peewee.TextField()
    detail = peewee.TextField()


class Address(peewee.Model):
    """Whose an e-mail address or phone number is: the contact that was last told to have it (`codec.address`)."""

    kind = peewee.TextField()
    address = peewee.TextField()
    contact = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("kind", "address")
        without_rowid = True


class Forgotten(peewee.Model):
    """What an erasure leaves: keyed hashes of ids that are not taken again, and of addresses that stay suppressed on a channel."""

    mark = peewee.TextField(primary_key=True)
    channel = peewee.TextField()
    at = peewee.BigIntegerField()

    class Meta:
        without_rowid = True


class Sent(peewee.Model):
    """Hand-overs that the send journal knows and this database, restored from a backup, does not (promise P11). mark: keyed hash of
    the effect's id."""

    mark = peewee.TextField(primary_key=True)
    attempt = peewee.IntegerField()
    at = peewee.BigIntegerField()

    class Meta:
        without_rowid = True


TABLES = (Meta, Program, Contact, Event, Decision, Effect, Attempt, Pause, Throttle, Audit, Address, Forgotten, Sent)
