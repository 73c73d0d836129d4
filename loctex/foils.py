"""Does a model tell true captions from false ones that differ in one thing?

    python -m loctex.foils --run RUN --data SNAPSHOT --foils foils.jsonl [--split val]

A line of the file holds dataset_id, image_id, caption, foil and kind (data_tools.scene_foils makes
them for rendered scenes). For each kind: `choice`, how often the true caption wins over the false
one, by the contrastive head's cosine, by the matching head, and by the sum of both heads' logits;
`accuracy`, how often the matching head's answers to both are right (a cosine has no threshold);
`choice_blind`, how often the true caption wins by the matching head where the image is that of
another line: what is above .5 there is read from the words alone. Of a model that was trained with
changed words, `word_found`: how often the word that it doubts most in the false caption is one that
differs; `word_chance`: how often one drawn from those that it can be asked about is. And the share
of words that Inspect would name, doubted above .9: `word_named`, of those that differ;
`word_named_kept`, of the others beside them; `word_named_true`, of all in the true caption.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from transformers import PreTrainedTokenizerFast

from loctex import checkpoint, cli, distributed, tokenizer
from loctex import model as models
from loctex.changed_words import DOUBTED, is_asked
from loctex.model import LocTexModel
from loctex.predictor import normalise, square
from loctex.runs import write_whole
from loctex.snapshot import Snapshot, Split
from loctex.words import WORD, overlaps

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
        tokens, offsets = tokenizer.encode(words_of, texts, model.config.max_tokens)
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.foils",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, help="a run, or a saved model")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument("--data", type=Path, required=True, help="a snapshot")
    parser.add_argument("--split", default="val", help="train, val or test [val]")
    parser.add_argument("--foils", type=Path, required=True, help="a file of false captions")
    parser.add_argument("--to", type=Path, help="where to write the scores as JSON")
    cli.add_device_option(parser)
    given = parser.parse_args(arguments)
    try:
        device = distributed.choose_device(given.device)
        folder = checkpoint.find(given.run, given.checkpoint)
        model, words_of = models.load(folder, device=device), tokenizer.load(folder)
        split = Snapshot.open(given.data).split(given.split)
        values = score(model, words_of, split, read(given.foils))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    if given.to:
        write_whole(given.to, json.dumps(values, indent=1))
    for name, value in sorted(values.items()):
        print(f"{name:32s} {value:8.3f}")


if __name__ == "__main__":
    main()
