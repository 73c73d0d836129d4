"""A Whisper checkpoint of a few thousand random weights, which knows three words."""

import json
from pathlib import Path

import torch
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

END = "<|endoftext|>"


def tiny_whisper(folder: Path) -> None:
    words = {"a": 0, "Ġsmall": 1, "Ġcat": 2, END: 3, "<|startoftranscript|>": 4}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=5,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_target_positions=16,
            pad_token_id=3,
            bos_token_id=3,
            eos_token_id=3,
            decoder_start_token_id=4,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )
    model.save_pretrained(folder)
