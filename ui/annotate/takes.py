"""Takes: what a recorder kept until it is submitted, and what may become a narrative."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from data_tools.store import Draft, ImageRow
from loctex.records.narrative import Narrative
from ui.guard.payloads import MOST_CHARACTERS, demand_length
from ui.workspace import Workspace

Message = dict[str, Any]

MOST_POINTS = 250_000  # of a take: half an hour at 125 Hz
RECORDERS = ("studio", "voice_recording")  # what a draft notes for the recorder alone


def checked(record: Message, image: ImageRow, annotator_id: int) -> Narrative:
    """The take as a narrative of this image by this annotator; ValueError says what is missing, or
    that it was drawn on another image."""
    if not isinstance(record, dict):
        raise ValueError("This take is not a narrative.")
    recorder = record.get("studio") or {}  # a draft from before says nothing here
    drawn_on = recorder.get("image") if isinstance(recorder, dict) else None
    if drawn_on is not None and drawn_on != image.id:
        raise ValueError(
            "This take was drawn on another picture. Reload the page: it is offered there again."
        )
    if not str(record.get("caption", "")).strip():
        raise ValueError("This take has no words. Type what you pointed at, then submit.")
    demand_length(str(record["caption"]), MOST_CHARACTERS, "The caption")
    if not record.get("traces"):
        raise ValueError(
            "This take has no trace. Continue, and move the pointer over the image while you "
            "describe it."
        )
    strokes = record["traces"] if isinstance(record["traces"], list) else []
    count = sum(len(stroke) for stroke in strokes if isinstance(stroke, list))
    if count > MOST_POINTS:  # asked before they are read
        raise ValueError(f"This take has {count:,} points; a take has {MOST_POINTS:,} at most.")
    narrative = Narrative.from_json({k: v for k, v in record.items() if k not in RECORDERS})
    return replace(
        narrative, dataset_id=image.dataset_id, image_id=image.image_id, annotator_id=annotator_id
    )


def unsent(workspace: Workspace, annotator: str, ask: Message) -> list[Message]:
    """This annotator's takes that were not submitted, of the store and then of the browser."""
    store = workspace.store
    takes = [take(workspace, draft) for draft in store.drafts(store.annotator(annotator))]
    stored_ids = {draft["take_id"] for draft in takes}
    only_there = [
        {"take_id": draft["take_id"], "image": draft["image"]}
        for draft in ask.get("drafts") or ()
        if draft["annotator"] == annotator and draft["take_id"] not in stored_ids
    ]
    return sorted(takes, key=lambda draft: -draft["saved"]) + [
        draft for draft in only_there if not store.has_take(draft["take_id"])
    ]


def take(workspace: Workspace, draft: Draft) -> Message:
    record = json.loads(draft.body)
    recorder = record.get("studio")
    is_voiced = isinstance(recorder, dict) and recorder.get("isVoiced")
    return {
        "take_id": draft.take_id,
        "image": draft.image_row_id,
        "record": record,
        "saved": draft.saved.timestamp(),
        "heard": workspace.voices.heard(draft.take_id) if is_voiced else 0,
    }


def own_voice(workspace: Workspace, annotator: str, take_id: str) -> np.ndarray:
    """(S,) int16 of this annotator's draft; ValueError: it is another's, or gone."""
    if not workspace.store.has_draft(take_id, workspace.store.annotator(annotator)):
        raise ValueError("This take is not one of your drafts.")
    return workspace.voices.draft(take_id)
