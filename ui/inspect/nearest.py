"""Sentences nearest to a picture, and pictures nearest to a sentence, among a scored split."""

from __future__ import annotations

from html import escape

import numpy as np

from ui.viewing.models import ModelAnswer
from ui.viewing.payload import data_url
from ui.viewing.pictures import PictureRef, load_item, thumbnail
from ui.viewing.survey import Survey
from ui.workspace import Workspace

MOST = 6


def captions(survey: Survey, image: np.ndarray) -> list[tuple[int, float]]:
    """The rows of the sentences nearest to a picture (D,), each once, with their cosines."""
    cosines = survey.atlas.texts @ image
    nearest: list[tuple[int, float]] = []
    texts: set[str] = set()
    for row in np.argsort(-cosines, kind="stable"):
        text = survey.atlas.caption[int(row)].as_py()
        if text not in texts:
            texts.add(text)
            nearest.append((int(row), float(cosines[row])))
        if len(nearest) == MOST:
            break
    return nearest


def images(survey: Survey, text: np.ndarray) -> list[tuple[int, float]]:
    """The rows (each picture's first narrative) of the pictures nearest to a sentence (D,)."""
    cosines = survey.atlas.images @ text
    best = np.argsort(-cosines, kind="stable")[:MOST]
    first_rows = np.unique(survey.atlas.row, return_index=True)[1]
    return [(int(first_rows[i]), float(cosines[i])) for i in best]


def listed(survey: Survey, source: str, row: int) -> PictureRef:
    """The picture and narrative of an atlas's row. Raises ValueError where it has no such row."""
    atlas = survey.atlas
    if not 0 <= row < len(atlas.caption):
        raise ValueError("This is not in the list any more; reload the page.")
    return PictureRef(
        atlas.caption[row].as_py(), source, int(atlas.row[row]), int(atlas.number[row])
    )


def html(
    workspace: Workspace, survey: Survey, source: str, answer: ModelAnswer, caption: str
) -> str:
    """Both lists. data-id: "say ROW" asks a sentence of this picture, "show ROW" opens one."""
    sentences = "".join(
        f'<button type="button" class="near" data-id="say {row}"'
        f"{_own(survey.atlas.caption[row].as_py() == caption)}>"
        f'<b>{cosine:.2f}</b><span dir="auto">{escape(survey.atlas.caption[row].as_py())}</span>'
        "</button>"
        for row, cosine in captions(survey, answer.attention.image)
    )

    pictures = "".join(
        f'<button type="button" class="near picture" data-id="show {row}"'
        f"{_own(survey.atlas.caption[row].as_py() == caption)}>"
        f'<img alt="" src="{picture(workspace, survey, source, row)}"><b>{cosine:.2f}</b></button>'
        for row, cosine in images(survey, answer.attention.text)
    )

    return (
        '<div class="nearest"><section><h3>Sentences nearest to this picture</h3>'
        f'<div class="said-of">{sentences}</div></section>'
        f'<section><h3>Pictures nearest to this sentence</h3><div class="pictures">{pictures}</div>'
        "</section></div>"
    )


def picture(workspace: Workspace, survey: Survey, source: str, row: int) -> str:
    """A small picture as a data URL."""
    return data_url(thumbnail(load_item(workspace, listed(survey, source, row))[0]))


def _own(is_own: bool) -> str:
    return ' aria-current="true" title="said of this picture"' if is_own else ""
