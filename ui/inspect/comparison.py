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
    folders: Sequence[str],
    item: PictureRef | None,
    caption: str,
) -> dict[str, Any]:
    """The comparison's value; where that is not possible, a message that says what to do."""
    labels = {folder: label for label, folder in checkpoints(workspace)}
    if len(folders) < 2:
        return {"message": NO_MODEL if len(labels) < 1 else "Choose two to four models above."}

    try:
        inspections = [look(workspace, models, folder, item, caption) for folder in folders[:MOST]]
        payloads = [inspection.payload() for inspection in inspections]
    except (ValueError, FileNotFoundError) as error:
        return {"message": str(error)}

    sides = [
        _side(labels.get(folder, folder), inspection, payload)
        for folder, inspection, payload in zip(folders, inspections, payloads, strict=False)
    ]

    content_words = [
        i for i, word in enumerate(payloads[0]["words"]) if word["kind"] in ("noun", "color")
    ]

    paths = [
        inspection.answer.attention.trace
        for inspection in inspections
        if inspection.answer is not None
    ]

    apart = {
        i: max(np.abs(path[i, :2] - paths[0][i, :2]).sum() for path in paths) for i in content_words
    }

    return {name: payloads[0][name] for name in SHARED} | {
        "models": sides,
        "first": max(
            apart, key=lambda i: apart[i], default=0
        ),  # the word on which they differ most
    }


def _side(label: str, inspection: InspectedCaption, payload: dict[str, Any]) -> dict[str, Any]:
    facts = {row["name"]: row["value"] for row in payload["scores"]}
    phrases = [f"match {facts['Match']}"]
    if "Words that agree" in facts:
        phrases += [f"{facts['Words that agree']} words agree"]
        phrases += [f"LBM {facts['Distance of the paths']}"]
    return {
        "label": label,
        "facts": " · ".join(phrases),
        "hits": payload["hits"],
        "inside": inside(inspection),
    } | {name: payload[name] for name in ("grid", "maps", "peaks")}


def inside(inspection: InspectedCaption) -> list[float | None] | None:
    """Per word, the share of the attention on the cells of the person's trace; None without one."""
    if inspection.recorded is None or inspection.answer is None:
        return None
    maps = inspection.answer.attention.maps

    windows = words.windows(inspection.recorded.words, inspection.answer.margin)
    cells = metrics.trace_cells(
        trace.rasterize(inspection.recorded.strokes, windows, maps.shape[1:])
    )

    energy = metrics.energy(maps, cells)
    is_defined = cells.any(axis=(1, 2)) & ~np.isnan(energy)
    return [
        round(float(e), 4) if is_known else None
        for e, is_known in zip(energy, is_defined, strict=True)
    ]
