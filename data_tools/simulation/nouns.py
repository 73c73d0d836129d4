"""The nouns of labeled categories: what people say for them, and which nouns mean them. Ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPOKEN = {  # category -> what people say for it; true of every instance
    "person": ("person",),
    "airplane": ("airplane", "plane"),
    "aeroplane": ("airplane", "plane"),
    "motorcycle": ("motorcycle", "motorbike"),
    "motorbike": ("motorcycle", "motorbike"),
    "bicycle": ("bicycle", "bike"),
    "tv": ("television", "tv"),
    "tvmonitor": ("screen",),
    "couch": ("couch", "sofa"),
    "sofa": ("sofa", "couch"),
    "dining table": ("table", "dining table"),
    "diningtable": ("table", "dining table"),
    "potted plant": ("plant", "potted plant"),
    "pottedplant": ("plant", "potted plant"),
    "wine glass": ("glass", "wine glass"),
    "sports ball": ("ball",),
    "cell phone": ("mobile phone", "phone", "cell phone"),
    "refrigerator": ("refrigerator", "fridge"),
    "remote": ("remote control",),
    "mouse": ("computer mouse",),
    "baseball bat": ("baseball bat", "bat"),
    "baseball glove": ("baseball glove", "glove"),
    "tennis racket": ("tennis racket", "racket"),
    "donut": ("donut", "doughnut"),
    "hair drier": ("hair dryer",),
}
READ = {  # further nouns that mean the category where a person wrote them
    "person": (
        "man",
        "woman",
        "boy",
        "girl",
        "child",
        "kid",
        "baby",
        "lady",
        "guy",
        "player",
        "skier",
        "surfer",
        "skateboarder",
        "snowboarder",
        "biker",
        "cyclist",
        "motorcyclist",
        "batter",
        "pitcher",
        "catcher",
        "toddler",
    ),
    "mouse": ("mouse",),
    "microwave": ("microwave oven",),
    "tv": ("tv", "monitor"),
    "tennis racket": ("racquet", "tennis racquet"),
    "cow": ("bull", "calf"),
    "cat": ("kitten",),
    "dog": ("puppy",),
    "sheep": ("lamb",),
    "bicycle": ("cycle",),
}
AMBIGUOUS = {"orange", "glass"}  # an orange cat, a glass table: only their plurals are read
PLURALS = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "knife": "knives",
    "calf": "calves",
}
PLURALS |= {word: word for word in ("sheep", "skis", "scissors", "broccoli")}
AMOUNTS = {"skis": "a pair of", "scissors": "a pair of", "broccoli": "some"}  # instead of a number


def normal(category: str) -> str:
    """Traffic_light -> traffic light. A name without letters is a thing."""
    return re.sub(r"[\W_]+", " ", category).strip().lower() or "thing"


def spoken(category: str) -> tuple[str, ...]:
    """What people say for a category."""
    name = normal(category)
    return SPOKEN.get(name, (name,))


def plural(noun: str) -> str:
    """person -> people, wine glass -> wine glasses, berry -> berries."""
    start, _, word = noun.rpartition(" ")
    if word in PLURALS:
        word = PLURALS[word]
    elif re.search(r"(s|x|ch|sh)$", word):
        word += "es"
    elif re.search(r"[^aeiou]y$", word):
        word = word[:-1] + "ies"
    else:
        word += "s"
    return f"{start} {word}".strip()


def mentions(caption: str, categories: Iterable[str]) -> list[tuple[int, int, str, bool]]:
    """Where a caption names one of the categories: (start, end, category, is_plural) of each.

    The longest noun counts: a hot dog is no dog.
    """
    meant: dict[str, tuple[str, bool]] = {}
    for category in categories:
        for noun in (*spoken(category), *READ.get(normal(category), ())):
            meant[plural(noun)] = category, True
            if noun not in AMBIGUOUS:
                meant[noun] = category, plural(noun) == noun
    if not meant:
        return []
    longest = sorted(meant, key=len, reverse=True)
    # "hot dog" is matched even where only dogs are labeled, and then means nothing
    decoys = ["hot dog", "hot dogs", "teddy bear", "teddy bears"]
    nouns = "|".join(map(re.escape, decoys + longest))
    matches = re.finditer(rf"(?<![\w-])(?:{nouns})(?![\w-])", caption, re.IGNORECASE)
    return [
        (noun.start(), noun.end(), *meant[noun[0].lower()])
        for noun in matches
        if noun[0].lower() in meant
    ]
