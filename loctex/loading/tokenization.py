"""The byte-pair encoding of a run: trained on its captions, saved beside its weights."""

import json
import os
from collections.abc import Iterable, Sequence
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
    numbers = tokenizer.get_vocab()
    start, end = ((SPECIAL[name], numbers[SPECIAL[name]]) for name in ("bos_token", "eos_token"))
    tokenizer.post_processor = processors.RobertaProcessing(end, start)  # trims offsets

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens, padding_side="right", **SPECIAL
    )


def load(folder: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer saved in `folder`; ValueError where it is not that of the model beside it."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    config = Path(folder) / "config.json"
    vocabulary_size = (
        json.loads(config.read_bytes())["vocab_size"] if config.is_file() else len(tokenizer)
    )
    if len(tokenizer) != vocabulary_size:
        raise ValueError(
            f"{folder}: the tokenizer has {len(tokenizer)} words, its model {vocabulary_size}; "
            "these are files of two runs, take both from one"
        )
    return tokenizer


def encode(
    tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], max_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Captions -> (B, T) int64 token numbers, padded to the longest, and (B, T, 2) characters.

    The characters of start, end and padding tokens are (0, 0): they stand for no word. Captions
    are cut at `max_tokens`, the end token kept.
    """
    return padded(read(tokenizer, captions, max_tokens), tokenizer.pad_token_id)


class CaptionEncoder:
    """`encode` for training: remembers captions, as each epoch says the same ones again.

    About 1 KB a caption; beyond `size` of them the oldest are forgotten. Threads may share it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_tokens: int, size: int = 200_000):
        self.tokenizer, self.max_tokens, self.size = tokenizer, max_tokens, size
        self._known: dict[str, np.ndarray] = {}
        self._lock = Lock()

    def rows(self, captions: Sequence[str]) -> list[np.ndarray]:
        """(T, 3) int32 of each: token number, first character and the one after the last."""
        cached = {c: row for c in captions if (row := self._known.get(c)) is not None}
        new = [caption for caption in captions if caption not in cached]
        cached |= zip(new, read(self.tokenizer, new, self.max_tokens), strict=True)
        with self._lock:
            self._known |= cached
            while len(self._known) > self.size:
                del self._known[next(iter(self._known))]
        return [cached[caption] for caption in captions]


def read(
    tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], max_tokens: int
) -> list[np.ndarray]:
    """(T, 3) int32 of each caption: token number, first character and the one after the last."""
    backend = tokenizer.backend_tokenizer
    with _ONE_AT_A_TIME:
        backend.enable_truncation(max_tokens)
        backend.no_padding()
        encodings = backend.encode_batch(list(captions))
    return [np.column_stack((row.ids, row.offsets)).astype(np.int32) for row in encodings]


def padded(rows: Sequence[np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) of each caption -> (B, T) int64 tokens, padded to the longest, and (B, T, 2)."""
    lengths = np.array(list(map(len, rows)))
    is_token = np.arange(lengths.max()) < lengths[:, None]
    joined = np.zeros((*is_token.shape, 3), dtype=np.int64)
    joined[..., 0] = pad
    joined[is_token] = np.concatenate(rows)
    return np.ascontiguousarray(joined[..., 0]), np.ascontiguousarray(joined[..., 1:])
