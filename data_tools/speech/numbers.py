"""Numbers as they are said, in English."""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def spelled(digits: str) -> list[str]:
    """ "21st" -> ["twenty", "first"], "007" -> ["zero", "zero", "seven"]."""
    number = digits.rstrip("stndrh")
    if (number[0] == "0" and len(number) > 1) or len(number) > 12:
        words = [_ONES[int(digit)] for digit in number]
    else:
        words = _cardinal(int(number))
    return words if number == digits else [*words[:-1], _ordinal(words[-1])]


def _cardinal(number: int) -> list[str]:
    if number < 20:
        return [_ONES[number]]
    if number < 100:
        return [_TENS[number // 10 - 2], *([_ONES[number % 10]] if number % 10 else [])]
    scale, name = next(row for row in _SCALES if number >= row[0])
    remainder = _cardinal(number % scale) if number % scale else []
    return [*_cardinal(number // scale), name, *remainder]


def _ordinal(word: str) -> str:
    if word in _ORDINALS:
        return _ORDINALS[word]
    return word[:-1] + "ieth" if word.endswith("y") else word + "th"
