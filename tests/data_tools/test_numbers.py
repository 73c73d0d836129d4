"""Digits as they are said."""

import pytest

from data_tools.speech.numbers import spelled


@pytest.mark.parametrize(
    "digits, words",
    [
        ("0", "zero"),
        ("7", "seven"),
        ("13", "thirteen"),
        ("40", "forty"),
        ("58", "fifty eight"),
        ("100", "one hundred"),
        ("312", "three hundred twelve"),
        ("007", "zero zero seven"),
        ("2026", "two thousand twenty six"),
        ("1000000", "one million"),
        ("1st", "first"),
        ("22nd", "twenty second"),
        ("30th", "thirtieth"),
        ("112th", "one hundred twelfth"),
        ("4300000001", "four billion three hundred million one"),
    ],
)
def test_numbers_are_spelled(digits, words):
    assert " ".join(spelled(digits)) == words
