"""One sentence on one picture: what the player shows, and what figures are made of. No gradio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from loctex.records.narrative import Narrative
from ui.viewing import scores, survey
from ui.viewing.models import ModelAnswer, Models
from ui.viewing.payload import payload
from ui.viewing.pictures import PictureRef, load_item, open_split
from ui.workspace import Workspace

NO_MODEL = "Train a model, then come back and see where it looks for each word."
NO_PICTURE = "Choose a picture on the left, or drop one of your own."
NO_CAPTION = "Type a sentence about the picture, then press Enter: every word gets its own place."
NUM_OTHERS = 32  # sentences that a match is compared with, where no atlas holds thousands


@dataclass(frozen=True)
class InspectedCaption:
    """A picture (H, W, 3), what a model sees for the sentence, and what a person recorded."""

    image: np.ndarray
    caption: str
    answer: ModelAnswer | None = None
    recorded: Narrative | None = None
    other_texts: np.ndarray | None = None  # (N, D) sentences said of other pictures
    voice: Path | None = None

    def payload(self) -> dict[str, Any]:
        """The player's value."""
        if self.answer is None:
            return payload(None, self.image, self.recorded, voice=self.voice)

        rows, hits = [scores.match(self.answer, self.other_texts)], None
        if self.recorded is not None:
            hits, compared = scores.against(self.answer, self.recorded)
            rows += compared

        rows += scores.doubts(self.answer) + scores.words_read(self.answer)
        return payload(
            self.answer.attention,
            self.image,
            self.recorded,
            margin=self.answer.margin,
            hits=hits,
            scores=rows,
            layers=self.answer.layers,
            voice=self.voice,
        )


def look(
    workspace: Workspace,
    models: Models,
    checkpoint: str | None,
    item: PictureRef | None,
    caption: str,
) -> InspectedCaption:
    """ValueError or FileNotFoundError say what is missing."""
    if item is None:
        raise ValueError(NO_PICTURE if checkpoint else NO_MODEL)

    image, narrative = load_item(workspace, item)
    recorded = None
    if narrative is not None and caption.strip() == narrative.caption.strip():
        recorded = narrative if narrative.words else None
    voice = _voice(workspace, recorded) if recorded else None

    if checkpoint is None:
        if recorded is None:
            raise ValueError(NO_MODEL)
        return InspectedCaption(image, caption, None, recorded, None, voice)

    if not caption.strip():
        raise ValueError(NO_CAPTION)

    checkpoint = str(workspace.checkpoint(checkpoint))
    answer = models.look(checkpoint, image, caption, recorded.words if recorded else None)
    other_texts = other_sentences(workspace, models, checkpoint, item)
    return InspectedCaption(image, caption, answer, recorded, other_texts, voice)


def player_value(*arguments: Any) -> tuple[dict[str, Any], InspectedCaption | None]:
    """`look`, as the player's value; where that is not possible, a message that says what to do."""
    try:
        inspected = look(*arguments)
        return inspected.payload(), inspected
    except (ValueError, FileNotFoundError) as error:
        return {"message": str(error)}, None


def other_sentences(
    workspace: Workspace, models: Models, checkpoint: str, item: PictureRef
) -> np.ndarray | None:
    """(N, D) embeddings of what was said of other pictures: of a scored split all, else some."""
    source = item.source if item.source.startswith("snapshot/") else _first_split(workspace)
    if source is None:
        return None

    split_survey = survey.survey(survey.making(workspace, checkpoint, source))
    row = item.row if item.source == source else -1
    if split_survey is not None:
        return split_survey.atlas.texts[split_survey.atlas.row != row]

    split = open_split(workspace, source)
    step = max(1, len(split) // (NUM_OTHERS + 1))
    rows = [k for k in range(0, len(split), step) if k != row][:NUM_OTHERS]

    written = Path(checkpoint, "config.json").stat().st_mtime_ns
    texts = _embedded(models, checkpoint, written, split, tuple(range(0, len(split), step)))
    return texts[[k // step for k in rows]] if rows else None


@lru_cache(maxsize=8)
def _embedded(models: Models, checkpoint: str, written: int, split: Any, rows: tuple) -> np.ndarray:
    return models.embed(checkpoint, [split[k].narratives[0].caption for k in rows])


def _first_split(workspace: Workspace) -> str | None:
    for folder in workspace.snapshots():
        return f"snapshot/{folder.name}/train"
    return None


def _voice(workspace: Workspace, narrative: Narrative) -> Path | None:
    return workspace.voices.find(narrative.voice)
