"""Finding what was meant."""

from __future__ import annotations

import random

import pytest

from rules_engine.model.suggest import Speller, distance

NAMES = "order.placed cart.updated email.opened email.clicked newsletter sleeping vip welcome abandoned_cart nudge_delay total".split()


@pytest.mark.parametrize(
    ("a", "b", "off"),
    [("", "", 0), ("ab", "ba", 1), ("abc", "ac", 1), ("abc", "abcd", 1), ("abc", "axc", 1), ("abcd", "badc", 2), ("abc", "", 3)],
)
def test_distance(a: str, b: str, off: int) -> None:
    assert distance(a, b, 5) == distance(b, a, 5) == off


def test_distance_gives_up_beyond_the_bound() -> None:
    assert distance("abcdefgh", "stuvwxyz", 2) > 2


def test_every_single_slip_is_found() -> None:
    choose, speller = random.Random(7), Speller()
    for name in NAMES:
        for place in range(len(name) - 1):
            letter = choose.choice("abcdefghijklmnopqrstuvwxyz")
            slips = (
                name[:place] + name[place + 1 :],
                name[:place] + letter + name[place:],
                name[:place] + letter + name[place + 1 :],
                name[:place] + name[place + 1] + name[place] + name[place + 2 :],
            )
            assert all(speller.nearest(slip, NAMES) == name for slip in slips if slip)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("Newsletter", "newsletter"),
        ("abandoned-cart", "abandoned_cart"),
        ("xyz", None),
        ("t", None),
        ("", None),
        ("contact.abc", None),
        ("contact.citty", "contact.city"),
    ],
)
def test_nearest(word: str, found: str | None) -> None:
    assert Speller().nearest(word, [*NAMES, "contact.city", "contact.id", "contact.zip"]) == found


def test_the_answer_does_not_hang_on_the_order() -> None:
    names = ["welcome_1", "welcome_2", "welcome_3"]
    assert {Speller().nearest("welcome_9", random.Random(seed).sample(names, 3)) for seed in range(9)} == {"welcome_1"}


def test_many_names_end_in_time() -> None:
    speller = Speller()
    names = [f"name_{number}" for number in range(5_000)]
    for number in range(500):
        speller.nearest(f"nmae_{number}x", names)


def test_words_are_likelier_than_slips() -> None:
    speller = Speller(["kettle"])
    for right, wrong in (
        ("nudge_delay", "nugde_delay"),
        ("kettle", "ketlte"),
        ("espresso_machine", "esprseso_machine"),
        ("order.placed", "order.plcaed"),
    ):
        assert speller.likeliness(right) > speller.likeliness(wrong)
