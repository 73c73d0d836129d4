"""How often a model tells the true caption of an image from a false one."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from transformers import PreTrainedTokenizerFast

from loctex.loading import tokenization
from loctex.loading.changed_words import DOUBTED, is_asked
from loctex.model.model import LocTexModel
from loctex.records.items import Split
from loctex.records.words import WORD, overlaps
from loctex.scoring.predictor import normalise, square

BATCH = 64


WORDS = ("word_found", "word_chance", "word_named", "word_named_kept", "word_named_true")


Tokens = tuple[np.ndarray, np.ndarray]  # (T,) doubt in each token, (T, 2) caption characters


KEYS = ("dataset_id", "image_id", "caption", "foil", "kind")


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a file; ValueError names the line that does not fit."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append({key: str(json.loads(line)[key]) for key in KEYS})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: needs {', '.join(KEYS)} ({error!r})") from error
    return rows


@torch.inference_mode()
def score(
    model: LocTexModel,
    words_of: PreTrainedTokenizerFast,
    split: Split,
    rows: Iterable[dict[str, str]],
) -> dict[str, float]:
    """{kind_choice_contrastive, _matching, _both, _blind, kind_accuracy, kind_count} and kind_ with
    each of WORDS; a tie counts half.

    ValueError where the split has none of the images.
    """
    model.eval()
    number_of = {}
    for number in range(len(split)):
        item = split[number]
        number_of[item.dataset_id, item.image_id] = number
    rows = [row for row in rows if (row["dataset_id"], row["image_id"]) in number_of]
    if not rows:
        raise ValueError(f"split {split.name!r} has none of the images that the foils are of")
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    numbers = np.array([number_of[row["dataset_id"], row["image_id"]] for row in rows])
    others = np.roll(numbers, len(rows) // 2)
    for first in range(0, len(rows), BATCH):
        part = slice(first, first + BATCH)
        items = [[split[n] for n in some[part]] for some in (numbers, others)]
        for name, value in _answers(model, words_of, items[0], items[1], rows[part]).items():
            columns[name].append(value)
    kinds = np.array([row["kind"] for row in rows])
    found = {name: np.concatenate(parts, axis=1) for name, parts in columns.items()}
    values: dict[str, float] = {}
    for kind in np.unique(kinds):
        true, false = found["cosine"][:, kinds == kind]
        values[f"{kind}_count"] = len(true)
        values[f"{kind}_choice_contrastive"] = _choice(true, false)
        if "match" in found:
            true, false = found["match"][:, kinds == kind]
            values[f"{kind}_choice_matching"] = _choice(true, false)
            values[f"{kind}_choice_blind"] = _choice(*found["blind"][:, kinds == kind])
            logits = found["match"] + float(model.scale) * found["cosine"]
            values[f"{kind}_choice_both"] = _choice(*logits[:, kinds == kind])
            values[f"{kind}_accuracy"] = float(((true > 0).mean() + (false <= 0).mean()) / 2)
        if "word" in found:
            for name, each in zip(WORDS, found["word"][:, kinds == kind], strict=True):
                if not np.isnan(each).all():
                    values[f"{kind}_{name}"] = float(np.nanmean(each))
    return values


def _answers(
    model: LocTexModel, words_of, items: Sequence, others: Sequence, rows: Sequence
) -> dict[str, np.ndarray]:
    """(2, B) cosines, and log-odds of a match, of the true captions and the false ones; blind: with
    the images of `others`. word: (5, B), see `_words`."""
    size, device = model.config.image_size, model.device
    seen = []
    for some in (items, others):
        pixels = np.stack([square(simplejpeg.decode_jpeg(item.image), size) for item in some])
        seen.append(model.encode_image(normalise(torch.from_numpy(pixels).to(device))))
    answers: dict[str, list[torch.Tensor]] = defaultdict(list)
    doubts = []
    for name in ("caption", "foil"):
        texts = [row[name] for row in rows]
        tokens, offsets = tokenization.encode(words_of, texts, model.config.max_tokens)
        text = model.encode_text(torch.from_numpy(tokens).to(device))
        answers["cosine"].append((seen[0].embedding * text.embedding).sum(-1))
        if model.config.has_changed_words:
            doubt = model.doubt(seen[0], text).float().cpu().numpy()
            doubts.append(zip(doubt, offsets, strict=True))
        if model.config.has_matching:
            for kind, image in zip(("match", "blind"), seen, strict=True):
                answers[kind].append(model.match(image, text))
    found = {name: torch.stack(parts).float().cpu().numpy() for name, parts in answers.items()}
    if doubts:
        sets = model.config.exclusive_words
        scores = [
            _words(row, true, false, sets) for row, true, false in zip(rows, *doubts, strict=True)
        ]
        found["word"] = np.array(scores).T
    return found


def _words(row: dict[str, str], true: Tokens, said: Tokens, sets: str) -> tuple[float, ...]:
    """The scores in WORDS of two captions, from the doubt in their tokens; NaN where they do not
    differ word by word, or in no word that can be asked about."""
    captions = [list(WORD.finditer(row[name])) for name in ("caption", "foil")]
    if len(captions[0]) != len(captions[1]):
        return (np.nan,) * len(WORDS)
    asked = np.array([is_asked(word.group(), sets) for word in captions[1]], dtype=bool)
    pairs = zip(*captions, strict=True)
    differs = np.array([a.group().lower() != b.group().lower() for a, b in pairs])[asked]
    if not differs.any():
        return (np.nan,) * len(WORDS)
    of_true, of_false = (
        (overlaps([word.span() for word in caption], offsets) * doubts).max(axis=1)[asked]
        for caption, (doubts, offsets) in zip(captions, (true, said), strict=True)
    )
    named = (of_false[differs], of_false[~differs], of_true)
    return (
        float(differs[of_false.argmax()]),
        float(differs.mean()),
        *(float((part > DOUBTED).mean()) if len(part) else np.nan for part in named),
    )


def _choice(true: np.ndarray, false: np.ndarray) -> float:
    return float(((true > false) + 0.5 * (true == false)).mean())
