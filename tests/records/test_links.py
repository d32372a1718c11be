"""Signed links: bound to a purpose, to a key, and to every character of what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules_engine import links

VALUES = st.dictionaries(st.text(max_size=10), st.text(max_size=30) | st.integers(-(2**40), 2**40), max_size=5)


@given(VALUES, st.sampled_from(sorted(links.PATHS)))
def test_a_token_says_what_was_signed(values, purpose):
    assert links.verify("k", purpose, links.sign("k", purpose, values)) == values


@given(VALUES, st.sampled_from(sorted(links.PATHS)), st.sampled_from(sorted(links.PATHS)))
def test_a_token_of_one_purpose_serves_no_other(values, made, asked):
    assert (links.verify("k", asked, links.sign("k", made, values)) is not None) == (made == asked)


@given(VALUES, st.data())
def test_one_changed_character_ends_it(values, data):
    token = links.sign("k", "click", values)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_.")).replace(token[place], "~")
    assert links.verify("k", "click", token[:place] + other + token[place + 1 :]) is None


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_what_a_stranger_sends_is_none_and_never_an_error(text):
    assert links.verify("k", "click", text) is None


def test_an_older_key_still_counts_and_another_does_not():
    token = links.sign("old", "open", {"c": "ana"})
    assert links.verify(["new", "old"], "open", token) == {"c": "ana"}
    assert links.verify(["new"], "open", token) is None


def test_without_a_key_or_with_an_unknown_purpose_nothing_is_signed():
    with pytest.raises(ValueError):
        links.sign("", "open", {})
    with pytest.raises(ValueError):
        links.sign("k", "delete", {})


def test_a_handle_is_safe_and_stable():
    assert links.handle("welcome/a b/ana/1") == links.handle("welcome/a b/ana/1")
    assert links.handle("a") != links.handle("b")
    assert all(char.isalnum() or char == "_" for char in links.handle("ü\n<\ud800>"))


def test_a_proven_handle_can_not_be_worked_out():
    name = links.proven("key", "welcome/s/ana/1")
    assert name.startswith(links.handle("welcome/s/ana/1") + ".") and links.is_proven(["new", "key"], name)
    assert not links.is_proven("other", name) and not links.is_proven("key", links.handle("welcome/s/ana/1"))
    assert not links.is_proven("key", links.handle("welcome/s/bob/1") + name[36:]) and not links.is_proven((), name)
