"""Two to four models on one picture and sentence: what the comparison shows. No gradio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loctex.records import trace, words
from loctex.scoring import metrics
from ui.viewing.look import NO_MODEL, InspectedCaption, look
from ui.viewing.models import Models, checkpoints
from ui.viewing.pictures import PictureRef
from ui.workspace import Workspace

MOST = 4
SHARED = ("image", "width", "height", "words", "windows", "strokes", "begin", "duration", "voice")


def compare(
    workspace: Workspace,
    models: Models,
    chosen: Sequence[str],
    item: PictureRef | None,
    caption: str,
) -> dict[str, Any]:
    """The comparison's value; where that is not possible, a message that says what to do."""
    labels = {folder: label for label, folder in checkpoints(workspace)}
    if len(chosen) < 2:
        return {"message": NO_MODEL if len(labels) < 1 else "Choose two to four models above."}
    try:
        looked = [look(workspace, models, folder, item, caption) for folder in chosen[:MOST]]
        payloads = [one.payload() for one in looked]
    except (ValueError, FileNotFoundError) as error:
        return {"message": str(error)}
    sides = [
        _side(labels.get(folder, folder), one, payload)
        for folder, one, payload in zip(chosen, looked, payloads, strict=False)
    ]
    told = [i for i, word in enumerate(payloads[0]["words"]) if word["kind"] in ("noun", "color")]
    apart = {
        i: max(
            np.abs(
                one.answer.attention.trace[i, :2] - looked[0].answer.attention.trace[i, :2]
            ).sum()
            for one in looked
        )
        for i in told
    }
    return {name: payloads[0][name] for name in SHARED} | {
        "models": sides,
        "first": max(apart, key=apart.get, default=0),  # the word on which they differ most
    }


def _side(label: str, looked: InspectedCaption, payload: dict[str, Any]) -> dict[str, Any]:
    facts = {row["name"]: row["value"] for row in payload["scores"]}
    said = [f"match {facts['Match']}"]
    if "Words that agree" in facts:
        said += [f"{facts['Words that agree']} words agree"]
        said += [f"LBM {facts['Distance of the paths']}"]
    return {
        "label": label,
        "facts": " · ".join(said),
        "hits": payload["hits"],
        "inside": inside(looked),
    } | {name: payload[name] for name in ("grid", "maps", "peaks")}


def inside(looked: InspectedCaption) -> list[float | None] | None:
    """Per word, the share of the attention on the cells of the person's trace; None without one."""
    if looked.recorded is None:
        return None
    maps = looked.answer.attention.maps
    windows = words.windows(looked.recorded.words, looked.answer.margin)
    cells = metrics.trace_cells(trace.rasterize(looked.recorded.strokes, windows, maps.shape[1:]))
    energy = metrics.energy(maps, cells)
    known = cells.any(axis=(1, 2)) & ~np.isnan(energy)
    return [
        round(float(e), 4) if is_known else None for e, is_known in zip(energy, known, strict=True)
    ]
