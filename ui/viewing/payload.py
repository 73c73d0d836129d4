"""What the player draws, as JSON values: numpy in, JSON out. No gradio, no torch."""

from __future__ import annotations

import base64
import mimetypes
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from data_tools.store import FIRST_ANNOTATOR
from loctex.records import trace
from loctex.records import words as words_
from loctex.records.narrative import Narrative
from loctex.records.word_classes import word_class
from loctex.scoring.metrics import certainty

if TYPE_CHECKING:
    from loctex.scoring.predictor import Attention

LONGEST_SIDE = 1280  # pixels of the picture sent to the browser
MARGIN = 0.2  # seconds by which a word's window is widened, where no model says otherwise


def payload(
    attention: Attention | None,
    image: np.ndarray,
    narrative: Narrative | None = None,
    *,
    margin: float = MARGIN,
    voice: Path | None = None,
    hits: list[bool | None] | None = None,
    scores: list[dict[str, str]] | None = None,
    layers: dict[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """The player's item; `json.dumps` of it is the player's value.

    attention: the model's side (None: replay of a narrative). narrative: the person's side (None:
    no recording); where both are given they share their words. image: (H, W, 3) uint8 RGB.
    voice: a sound file on the narrative's clock. hits: per word, does the model's strongest cell
    meet the person's trace. scores: `{"name", "value", "help"}` shown beside the picture.
    layers: further maps of the words by name, each (W, h, w).
    """
    if attention is not None:
        words = attention.words
    elif narrative is not None:
        words = narrative.words
    else:
        raise ValueError("nothing to show: neither attention nor narrative was given")

    strokes = narrative.strokes if narrative else ()
    times = [time for word in words for time in (word.start, word.end)]
    times += [float(time) for stroke in strokes for time in stroke[[0, -1], 2]]
    begin = min(times, default=0.0)

    return {
        "image": data_url(image),
        "width": image.shape[1],
        "height": image.shape[0],
        "words": [
            {
                "text": word.text,
                "start": word.start,
                "end": word.end,
                "span": list(span),
                "kind": word_class(word.text),
            }
            for word, span in zip(words, _spans(attention, narrative), strict=True)
        ],
        "windows": np.round(words_.windows(words, margin), 3).tolist(),
        "strokes": [np.round(stroke, 4).ravel().tolist() for stroke in strokes],
        "begin": begin if begin > 1 else 0.0,  # a fragment of a longer recording starts late
        "duration": max(times, default=0.0),
        "voice": _file_url(voice) if voice else None,
        "isSimulated": narrative is not None and is_simulated(narrative),
        "hits": hits,
        "scores": scores or [],
        "layers": [{"name": name} | _bytes(maps) for name, maps in (layers or {}).items()],
        **(_model_side(attention) if attention else {"maps": None}),
    }


def is_simulated(narrative: Narrative) -> bool:
    """Whether a program pointed and spoke: rendered scenes, and data_tools.coco simulate; not what
    people here told of the same pictures."""
    is_program = narrative.annotator_id < FIRST_ANNOTATOR
    return is_program and (narrative.dataset_id == "scenes" or "simulated" in narrative.dataset_id)


def _model_side(attention: Attention) -> dict[str, Any]:
    sure = certainty(attention.maps)
    return _bytes(attention.maps) | {
        "certainty": np.round(sure, 4).tolist(),
        "trace": np.round(attention.trace, 4).tolist(),
        "path": np.round(trace.smooth(attention.trace, sure), 4).tolist(),
        "boxes": np.round(attention.boxes, 4).tolist(),
    }


def _bytes(maps: np.ndarray) -> dict[str, Any]:
    """(W, h, w) as bytes, each scaled to its own peak; a cell's mass is byte / 255 * peak."""
    num_words, h, w = maps.shape
    flat = maps.reshape(num_words, h * w).astype(np.float64)
    peaks = flat.max(axis=1, initial=0.0)
    scaled = np.rint(255 * flat / np.where(peaks > 0, peaks, 1.0)[:, None]).astype(np.uint8)
    return {
        "grid": [h, w],
        "maps": base64.b64encode(scaled.tobytes()).decode(),
        "peaks": peaks.tolist(),
    }


def _spans(attention: Attention | None, narrative: Narrative | None) -> list[tuple[int, int]]:
    if attention:
        return list(attention.spans)
    assert narrative is not None
    with warnings.catch_warnings():  # a replay shows the utterances, whether they match or not
        warnings.simplefilter("ignore")
        return words_.spans(narrative.caption, narrative.words)


def data_url(image: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB -> JPEG data URL, at most LONGEST_SIDE pixels long, aspect kept."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 88))
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def _file_url(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "audio/wav"
    return f"data:{kind};base64," + base64.b64encode(path.read_bytes()).decode()
