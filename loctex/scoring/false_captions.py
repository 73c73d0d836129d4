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
    tokenizer: PreTrainedTokenizerFast,
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
    other_images = np.roll(numbers, len(rows) // 2)

    for first in range(0, len(rows), BATCH):
        rows_now = slice(first, first + BATCH)
        items = [[split[n] for n in some[rows_now]] for some in (numbers, other_images)]
        for name, value in _answers(model, tokenizer, items[0], items[1], rows[rows_now]).items():
            columns[name].append(value)

    kinds = np.array([row["kind"] for row in rows])
    scores = {name: np.concatenate(chunks, axis=1) for name, chunks in columns.items()}

    values: dict[str, float] = {}
    for kind in np.unique(kinds):
        true, false = scores["cosine"][:, kinds == kind]
        values[f"{kind}_count"] = len(true)
        values[f"{kind}_choice_contrastive"] = _choice(true, false)

        if "match" in scores:
            true, false = scores["match"][:, kinds == kind]
            values[f"{kind}_choice_matching"] = _choice(true, false)
            values[f"{kind}_choice_blind"] = _choice(*scores["blind"][:, kinds == kind])
            logits = scores["match"] + float(model.scale) * scores["cosine"]
            values[f"{kind}_choice_both"] = _choice(*logits[:, kinds == kind])
            values[f"{kind}_accuracy"] = float(((true > 0).mean() + (false <= 0).mean()) / 2)

        if "word" in scores:
            for name, values_of_word in zip(WORDS, scores["word"][:, kinds == kind], strict=True):
                if not np.isnan(values_of_word).all():
                    values[f"{kind}_{name}"] = float(np.nanmean(values_of_word))
    return values


def _answers(
    model: LocTexModel, tokenizer, items: Sequence, other_items: Sequence, rows: Sequence
) -> dict[str, np.ndarray]:
    """(2, B) cosines, and log-odds of a match, of the true captions and the false ones; blind: with
    the images of `other_items`. word: (5, B), see `_words`."""
    size, device = model.config.image_size, model.device

    image_features = []
    for some in (items, other_items):
        pixels = np.stack([square(simplejpeg.decode_jpeg(item.image), size) for item in some])
        images = normalise(torch.from_numpy(pixels).to(device), model.config)
        image_features.append(model.encode_image(images))

    answers: dict[str, list[torch.Tensor]] = defaultdict(list)

    doubts = []

    for name in ("caption", "foil"):
        texts = [row[name] for row in rows]
        tokens, offsets = tokenization.encode(tokenizer, texts, model.config.max_tokens)
        text = model.encode_text(torch.from_numpy(tokens).to(device))
        answers["cosine"].append((image_features[0].embedding * text.embedding).sum(-1))

        if model.config.has_changed_words:
            doubt = model.doubt(image_features[0], text).float().cpu().numpy()
            doubts.append(zip(doubt, offsets, strict=True))
        if model.config.has_matching:
            for kind, image in zip(("match", "blind"), image_features, strict=True):
                answers[kind].append(model.match(image, text))

    score_arrays = {
        name: torch.stack(values).float().cpu().numpy() for name, values in answers.items()
    }

    if doubts:
        sets = model.config.exclusive_words
        scores = [
            _words(row, true, false, sets) for row, true, false in zip(rows, *doubts, strict=True)
        ]
        score_arrays["word"] = np.array(scores).T
    return score_arrays


def _words(row: dict[str, str], true: Tokens, changed: Tokens, sets: str) -> tuple[float, ...]:
    """The scores in WORDS of two captions, from the doubt in their tokens; NaN where they do not
    differ word by word, or in no word that can be asked about."""
    captions = [list(WORD.finditer(row[name])) for name in ("caption", "foil")]
    if len(captions[0]) != len(captions[1]):
        return (np.nan,) * len(WORDS)

    can_be_asked = np.array([is_asked(word.group(), sets) for word in captions[1]], dtype=bool)
    pairs = zip(*captions, strict=True)
    differs = np.array([a.group().lower() != b.group().lower() for a, b in pairs])[can_be_asked]
    if not differs.any():
        return (np.nan,) * len(WORDS)

    of_true, of_false = (
        (overlaps([word.span() for word in caption], offsets) * doubts).max(axis=1)[can_be_asked]
        for caption, (doubts, offsets) in zip(captions, (true, changed), strict=True)
    )

    named = (of_false[differs], of_false[~differs], of_true)
    return (
        float(differs[of_false.argmax()]),
        float(differs.mean()),
        *(
            float((word_doubts > DOUBTED).mean()) if len(word_doubts) else np.nan
            for word_doubts in named
        ),
    )


def _choice(true: np.ndarray, false: np.ndarray) -> float:
    return float(((true > false) + 0.5 * (true == false)).mean())
