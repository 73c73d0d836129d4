"""The byte-pair encoding of a run: trained on its captions, saved beside its weights."""

import json
import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from threading import Lock

import numpy as np
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}

# Several threads make batches: threads below each of them cost a quarter of the loader's pace.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_ONE_AT_A_TIME = Lock()  # the tokenizer's settings change, and threads share it


def train(captions: Iterable[str], size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """Lower-cased byte-level BPE of at most `size` words (METHOD 1); no text is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    start, end = (
        (SPECIAL[n], tokenizer.token_to_id(SPECIAL[n])) for n in ("bos_token", "eos_token")
    )
    tokenizer.post_processor = processors.RobertaProcessing(end, start)  # trims offsets
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens, padding_side="right", **SPECIAL
    )


def load(folder: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer saved in `folder`; ValueError where it is not that of the model beside it."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    config = Path(folder) / "config.json"
    known = json.loads(config.read_bytes())["vocab_size"] if config.is_file() else len(tokenizer)
    if len(tokenizer) != known:
        raise ValueError(
            f"{folder}: the tokenizer has {len(tokenizer)} words, its model {known}; these are "
            "files of two runs, take both from one"
        )
    return tokenizer


def encode(
    tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], max_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Captions -> (B, T) int64 token numbers, padded to the longest, and (B, T, 2) characters.

    The characters of start, end and padding tokens are (0, 0): they stand for no word. Captions
    are cut at `max_tokens`, the end token kept.
    """
    backend = tokenizer.backend_tokenizer
    with _ONE_AT_A_TIME:
        backend.enable_truncation(max_tokens)
        backend.no_padding()
        rows = backend.encode_batch(list(captions))
    numbers, places = [row.ids for row in rows], [row.offsets for row in rows]
    lengths = np.array(list(map(len, numbers)))
    is_token = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
    tokens = np.full(is_token.shape, tokenizer.pad_token_id, dtype=np.int64)
    offsets = np.zeros((*is_token.shape, 2), dtype=np.int64)
    tokens[is_token] = np.fromiter(chain.from_iterable(numbers), np.int64)
    flat = chain.from_iterable(chain.from_iterable(places))
    offsets[is_token] = np.fromiter(flat, np.int64).reshape(-1, 2)
    return tokens, offsets
