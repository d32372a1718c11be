"""What passes between Camp and a child: every value of the language comes back as it was, and every record."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules_engine import host, wire
from rules_engine.actions import Call
from rules_engine.testing.plugins import HOSTILE_VALUES, make_call


def _unfold(moment):
    return moment.replace(fold=0)  # the engine has moments in UTC


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.just("$camp"),
    st.text(st.sampled_from("\ud800\udfff\0a")), st.dates(), st.times().map(_unfold), st.timedeltas(), st.datetimes().map(_unfold),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])).map(_unfold),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.one_of(st.text(max_size=5), st.just("$camp"), st.integers(), st.dates()), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    back = wire.load(wire.dump(value))
    assert back == value and repr(back) == repr(value)


def test_what_does_not_come_back_as_it_was():
    assert wire.load(wire.dump({"a": (1, {2}), "b": b"x", "c": float("nan"), "p": Path("/x")})) == {
        "a": [1, [2]], "b": "b'x'", "c": None, "p": Path("/x"),
    }
    assert wire.load(wire.dump([10**30, float("inf"), "\ud800", {"$camp": 1}, date(2026, 1, 1)])) == [
        10**30, None, "\ud800", {"$camp": 1}, date(2026, 1, 1),
    ]


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=range(len(HOSTILE_VALUES)))
def test_hostile_values_pass(value):
    call = make_call("a.b", Path("/x"), value, {"v": value}, contact={"v": value})
    back = wire.call_of(wire.load(wire.dump(wire.call_data(call))))
    assert back.at == call.at and back.project == call.project and back.key == call.key


@pytest.mark.parametrize("data", [b"", b"P", b"X1", b"Pnull,", b'T{"$camp": ["no", 1]}', b'T{"$camp": 5}', b'T{"$camp": ["date"]}', b"\xff\xfe"])
def test_nonsense_is_a_value_error(data):
    with pytest.raises(ValueError):
        wire.load(data)


def test_what_is_nested_without_end_is_a_value_error():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError):
        wire.frame(deep)


def test_a_call_and_all_first_party_records_come_back():
    call = make_call("a.b", Path("/x"), timedelta(hours=1), {"d": date(2026, 1, 2), "t": time(9)}, settings={"a": [1]}, attempt=3)
    assert wire.call_of(wire.load(wire.dump(wire.call_data(call)))) == call
    loaded = host.load()
    for action in loaded.actions.values():
        data = wire.load(wire.dump(wire.action_data(action)))
        assert wire.action_of(data, {"changes": action.changes, "perform": action.perform, "lookup": action.lookup}) == action
    for event in loaded.events.values():
        assert wire.event_of(wire.load(wire.dump(wire.event_data(event)))) == event


@pytest.mark.parametrize(
    "data", [b"S" + b"[" * 200_000, b'T{"$camp":["duration",1e300]}', b'S{"$camp":["duration",9999999999999]}', b'T{"$camp":[["map"]]}', b'T{"$camp":7}', b"S\xff"]
)
def test_nonsense_of_a_child_is_told_as_nonsense(data):
    with pytest.raises(ValueError):
        wire.load(data)


def test_a_call_arrives_with_all_that_it_says():
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    call = Call("k", "pager.send", "x", {"a": 1}, {"id": "ana"}, "welcome", {"key": "s"}, Path("/p"), at, 3, "transactional")
    assert wire.call_of(wire.load(wire.dump(wire.call_data(call)))) == call
