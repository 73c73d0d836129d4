"""Trained models in memory, for everybody who looks: each picture is encoded once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loctex.jobs import checkpoint_files
from loctex.records.narrative import Word
from ui import heavy
from ui.workspace import Workspace

if TYPE_CHECKING:
    from loctex.scoring.predictor import Attention, Predictor

IN_MEMORY = 4  # models; as many as can be compared
Key = tuple[Path, int]


def checkpoints(workspace: Workspace) -> list[tuple[str, str]]:
    """(label, folder) of each trained checkpoint: newest run first, best, last, then by step."""
    choices = []
    for run in workspace.runs():
        places = [(name, run.path / name) for name in ("best", "last")]
        named = {os.path.realpath(checkpoint_files.folder_at(place)) for _, place in places}

        for folder in checkpoint_files.folders(run.path)[::-1]:
            if os.path.realpath(folder) not in named:
                places.append((f"step {checkpoint_files.step_of(folder):,}", folder))

        choices += [
            (f"{run.name} · {name}", str(place))
            for name, place in places
            if (checkpoint_files.folder_at(place) / "config.json").is_file()
        ]

    return choices


@dataclass(frozen=True)
class ModelAnswer:
    """What a model answers for a sentence on a picture.

    layers: (W, h, w) by name, of Predictor.layers. margin: seconds by which it widens windows.
    match: probability of the matching head, where the model has one. doubt: (W,) probability that
    a word is not true of the picture, where the model learned it.
    """

    attention: Attention
    layers: dict[str, np.ndarray]
    margin: float
    match: float | None
    doubt: np.ndarray | None = None


class Models:
    """Predictors by checkpoint folder, and when that was written."""

    def __init__(self, device: str = "auto") -> None:
        self.device = device
        self._lock = threading.Lock()
        self._fingerprints: dict[Key, bytes] = {}

    def look(
        self,
        checkpoint: str,
        image: np.ndarray,
        caption: str,
        recorded: Sequence[Word] | None,
        has_layers: bool = True,
    ) -> ModelAnswer:
        """ValueError: an empty caption, or a checkpoint that cannot be read."""
        with self._lock:
            predictor = self._with_image(checkpoint, image)

            match, doubt = (getattr(predictor, name, None) for name in ("match", "doubt"))
            return ModelAnswer(
                predictor.attend(caption, recorded),
                predictor.layers(caption, recorded) if has_layers else {},
                predictor.model.config.word_margin,
                match(caption) if match else None,
                doubt(caption, recorded) if doubt else None,
            )

    def embed(self, checkpoint: str, captions: Sequence[str]) -> np.ndarray:
        """(N, D) embeddings of captions."""
        with self._lock:
            return _predictor(*_key(checkpoint), self.device).embed(captions)

    def embed_image(self, checkpoint: str, image: np.ndarray) -> np.ndarray:
        """(D,) embedding of a picture."""
        with self._lock:
            return self._with_image(checkpoint, image).attend("a").image

    def _with_image(self, checkpoint: str, image: np.ndarray) -> Predictor:
        key = _key(checkpoint)
        predictor = _predictor(*key, self.device)
        fingerprint = (
            hashlib.blake2b(np.ascontiguousarray(image).ravel().data).digest()
            + repr(image.shape).encode()
        )
        if self._fingerprints.get(key) != fingerprint:
            self._fingerprints.pop(key, None)
            predictor.set_image(image)
            self._fingerprints[key] = fingerprint
        return predictor


def _key(checkpoint: str) -> Key:
    folder = checkpoint_files.folder_at(checkpoint).resolve()
    try:
        return folder, (folder / "config.json").stat().st_mtime_ns
    except FileNotFoundError as error:
        raise ValueError(f"{folder.name} is gone; choose another model") from error


@lru_cache(maxsize=IN_MEMORY)
def _predictor(folder: Path, written: int, device: str) -> Predictor:
    return heavy.module("scoring.predictor").Predictor.load(folder, device=device)
