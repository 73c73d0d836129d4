"""What kind of word it is, by a light rule (ours): closed lists and one suffix. English only.

It is made for the captions of Localized Narratives, to sort scores, not to parse language: what no
list knows counts as a noun.
"""

import re

CLASSES = ("noun", "color", "verb", "relation", "other")

_COLORS = """red orange yellow green blue purple violet pink brown black white gray grey gold golden
silver beige cream maroon navy teal turquoise cyan magenta dark light bright colorful colored
coloured multicolored""".split()
_RELATIONS = """left right above below under underneath beneath over behind front before beside
besides between among amid near nearby next far inside outside within on in at onto into upon
around across along against through toward towards top bottom middle center centre corner upper
lower side sides edge background foreground opposite away off out up down beyond""".split()
_VERBS = """see sees seen saw look looks show shows shown stand stands stood sit sits sat hold holds
held wear wears wore worn walk walks run runs ran play plays ride rides eat eats lie lies lay lays
hang hangs hung fly flies jump jumps throw throws catch catches hit hits carry carries cut cuts
drive drives read reads smile smiles talk talks swim swims sleep sleeps lean leans drew draw draws
drawn make makes made take takes took taken put puts place places placed park parked cover covers
covered fill fills filled attached kept keep keeps seems appears comes come goes go has have
having had contains contain surround surrounded use used""".split()
_OTHER = """a an the this that these those there here it its he she they them his her their we i you
me my our your who which what where when is are was were be been being am do does did of and or but
nor so as with without by for from to than then also too very just only not no yes if while some
any many few several more most much less other others another each every both all one two three
four five six seven eight nine ten first second third last somebody someone something everything
image picture photo photograph kind type lot group pair set
big large small little tiny huge tall short long wide narrow thick thin old young new wooden
metal metallic plastic round shaped same different beautiful nice clear blurred blurry
open closed wet dry empty full like such again even still maybe probably visible can could may
might""".split()
_NOUNS_IN_ING = """building buildings ceiling clothing thing things string ring rings king wing
wings swing spring painting paintings railing railings wedding evening morning awning frosting icing
earring earrings lighting sibling duckling ping""".split()

_KNOWN = (
    dict.fromkeys(_NOUNS_IN_ING, "noun")
    | dict.fromkeys(_OTHER, "other")
    | dict.fromkeys(_VERBS, "verb")
    | dict.fromkeys(_RELATIONS, "relation")
    | dict.fromkeys(_COLORS, "color")
)


def word_class(text: str) -> str:
    """The class of an utterance; of several words, the first of CLASSES that one of them has.

    "a red ball" is a noun, "sitting on" a verb, "the" is other, and so is what has no letters.
    """
    pieces = re.findall(r"[^\W\d_]+", text.lower())
    classes = {_one(piece) for piece in pieces}
    return next((name for name in CLASSES if name in classes), "other")


def _one(word: str) -> str:
    if word in _KNOWN:
        return _KNOWN[word]
    return "verb" if len(word) > 4 and word.endswith("ing") else "noun"
