"""The shape of what a recorder asks: read once, at the door; behind it every field is what it says.

A browser sends what it likes. What is missing or of another kind is a sentence, not an exception.
"""

import json
from typing import Any

from ui.guard.payloads import MOST_INTEGER

Message = dict[str, Any]

FIELDS: dict[str, tuple[type, ...]] = {
    "take_id": (str,),
    "caption": (str,),
    "reason": (str,),
    "question": (str,),
    "annotator": (str,),
    "record": (dict,),
    "change": (dict,),
    "base": (str,),
    "revision": (str,),
    "voice": (dict,),
    "drafts": (list,),
    "keeps_voice": (bool,),
    "collection": (int,),
    "image": (int,),
    "num_samples": (int,),
    "at": (int,),
    "pcm": (str,),
}
TASK = ("collection", "image")
LONGEST_REVISION = 64  # characters; the recorder's are 32
REQUIRED: dict[str, tuple[str, ...]] = {
    "choose": ("collection",),
    "save": ("take_id", "image"),
    "submit": ("take_id", *TASK),
    "skip": TASK,
    "previous": TASK,
    "again": ("collection",),
    "next": TASK,
    "unskip": ("collection",),
    "discard": ("take_id",),
    "align": ("take_id", "caption"),
    "propose": ("take_id",),
    "voice": ("take_id", "at"),
    "ask_for": ("question", *TASK),
}
ANEW = "Reload the page, and try again."


def decoded(text: str | bytes) -> Any:
    """What the recorder sent as JSON; None where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def demand_question(action: str, ask: Any) -> None:
    """Raises ValueError, a sentence, where a recorder would never ask so."""
    _demand_fields(ask)
    missing = [name for name in REQUIRED.get(action, ()) if ask.get(name) is None]
    if action == "save" and ask.get("change") is None and ask.get("record") is None:
        missing.append("record")
    if missing:
        raise ValueError(f"The recorder's question lacks {', '.join(missing)}. {ANEW}")
    if len(ask.get("revision") or "") > LONGEST_REVISION:
        raise ValueError(f"The recorder's revision is too long. {ANEW}")
    _demand_fields(ask.get("voice") or {})
    for draft in ask.get("drafts") or ():
        _demand_fields(draft)
        if not {"annotator", "take_id", "image"} <= set(draft):
            raise ValueError(f"A draft of the recorder is not whole. {ANEW}")


def _demand_fields(ask: Any) -> None:
    if not isinstance(ask, dict):
        raise ValueError(f"This is no question of the recorder. {ANEW}")
    for name, kinds in FIELDS.items():
        value = ask.get(name)
        is_whole = not isinstance(value, bool) or bool in kinds
        if value is not None and not (isinstance(value, kinds) and is_whole):
            raise ValueError(f"The recorder's {name} is no {kinds[0].__name__}. {ANEW}")
        if isinstance(value, int) and not 0 <= value <= MOST_INTEGER:
            raise ValueError(f"The recorder's {name} is out of range. {ANEW}")
