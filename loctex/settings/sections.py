"""The settings of a training run by section, each written once: default, help, range.

The command line, the YAML files and the form of the Train tab are drawn from these frozen
dataclasses; loctex/settings.py reads, checks and writes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def setting(default: Any, help: str, low=None, high=None, choices: tuple | None = None) -> Any:
    """A dataclass field with its help sentence and its inclusive range or choices."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


TRACKERS = ("tensorboard", "trackio", "wandb")


@dataclass(frozen=True)
class DataSettings:
    """What is read, and how it is distorted."""

    snapshots: tuple[str, ...] = setting(
        (), "Snapshot folders; FOLDER=2 shows its images twice an epoch, FOLDER=.5 every other one."
    )
    image_size: int = setting(224, "Side of the square the model sees, in pixels.", 32, 1024)
    max_tokens: int = setting(64, "Captions are cut at this many tokens.", 4, 512)
    min_scale: float = setting(0.2, "Smallest share of the image a random crop keeps.", 0.01, 1)
    flip: float = setting(0.5, "Chance of mirroring image, trace and the words left/right.", 0, 1)
    color: float = setting(0.4, "Strength of brightness, contrast, saturation changes.", 0, 1)
    hue: float = setting(0.0, "Strength of hue changes, as a share of the color circle.", 0, 0.5)
    word_margin: float = setting(
        0.2, "Seconds by which the time window of each word is widened on both sides.", 0, 5
    )
    distort: int = setting(
        0, "Random operations on each image: turns, shears, shifts, tones. The trace follows.", 0, 8
    )
    distort_strength: float = setting(0.3, "Strength of these operations.", 0, 1)
    mask_words: float = setting(
        0.15, "Share of the words hidden where words are to be guessed from the image.", 0, 0.9
    )
    mask_captions: bool = setting(
        False, "Hide these words from all losses, as augmentation of the captions."
    )
    skip_stop_words: bool = setting(
        False, "Leave a, the, of, is ... out of localization and soft masks (English)."
    )
    exclusive_words: str = setting(
        "",
        "Words that exclude each other, for captions with one word changed, as in "
        "'left right; red green blue'; empty: found in the captions.",
    )
    threads: int = setting(2, "Threads that make batches and decode images.", 1, 64)
    processes: int = setting(
        0,
        "Processes that make batches, each with its threads, where many cores feed a GPU; 0: none "
        "but the training itself.",
        0,
        64,
    )


@dataclass(frozen=True)
class ModelSettings:
    """What is trained."""

    init: str = setting(
        "random", "Random numbers, timm (a pre-trained backbone), a run's folder, or a saved model."
    )
    weights: str = setting(
        "",
        "A file of the backbone's weights, for init timm; empty: a package's, or timm's cache.",
    )
    backbone: str = setting("resnet50", "Any timm model that returns feature maps, by name.")
    freeze: bool = setting(
        False, "Keep the backbone as it is: what it says of each image is computed once, and kept."
    )
    backbone_options: dict[str, Any] = setting(
        {}, "More arguments for timm, as JSON: those that shape a backbone."
    )
    backbone_head: bool = setting(
        False,
        "Match captions with what an EfficientNet's last convolution says, not its last stage.",
    )
    attention_scales: int = setting(
        1, "1: attention on the last stage; 2: also on the stage before it.", 1, 2
    )
    contrastive_share: float = setting(
        0.0,
        "How much the contrastive head sharpens where a word is: attention x its map ^ share.",
        0,
        1,
    )
    text_layers: int = setting(4, "Layers of the text encoder.", 1, 48)
    text_width: int = setting(1024, "Width of the text encoder.", 16, 4096)
    text_heads: int = setting(16, "Attention heads of the text encoder.", 1, 64)
    text_dropout: float = setting(0.1, "Dropout in the text encoder.", 0, 0.9)
    vocabulary: int = setting(
        10_000, "Most words of the byte-pair encoding trained on the captions.", 300, 200_000
    )
    embedding: int = setting(1024, "Size of the joint image-text embedding.", 8, 8192)
    attention: int = setting(
        1024, "Size of the space where words are compared with cells.", 8, 8192
    )
    fusion_layers: int = setting(
        2, "Layers of the fusion encoder, built where a loss below needs one.", 2, 48
    )
    fusion_width: int = setting(0, "Width of the fusion encoder; 0: as the text encoder.", 0, 4096)
    fusion_init: str = setting(
        "random",
        "Start of the fusion encoder: random, or a copy of the text encoder's last layers.",
        choices=("random", "text"),
    )
    gradcam_layer: int = setting(
        0, "Fusion layer that Grad-CAM reads, below the last; 0: half way, of 3 the second.", 0, 47
    )


@dataclass(frozen=True)
class LossSettings:
    """What the model is asked for."""

    contrastive_weight: float = setting(1.0, "Weight of matching images with captions.", 0, 100)
    localization_weight: float = setting(
        1.0, "Weight of following the mouse trace; 0 freezes the maps it would train.", 0, 100
    )
    fine_weight: float = setting(
        1.0, "Weight of the attention's finer scale, where the last stage has 1.", 0.01, 100
    )
    localization: str = setting(
        "ce",
        "Form of the localization loss: cross-entropy or squared distance.",
        choices=("ce", "l2"),
    )
    temperature: float = setting(
        0.07, "Temperature of the contrastive loss (at the start).", 1e-3, 1
    )
    learn_temperature: bool = setting(True, "Learn the temperature, within [.01, .5].")
    focal: float = setting(
        0.0, "Focus on hard pairs, the exponent of the focal loss: 0 (plain), or 1 and more.", 0, 10
    )
    matching_weight: float = setting(
        0.0, "Weight of telling true pairs from similar ones, by the fusion encoder.", 0, 100
    )
    changed_captions: bool = setting(
        False, "Match each image also against its own caption with one word changed."
    )
    changed_word_weight: float = setting(
        0.0, "Weight of telling which word of such a caption is not true of the image.", 0, 100
    )
    masked_words_weight: float = setting(
        0.0, "Weight of guessing hidden words from caption and image.", 0, 100
    )
    soft_mask_weight: float = setting(
        0.0, "Weight of matching with the image dimmed where one word points.", 0, 100
    )
    mask_source: str = setting(
        "gradcam",
        "What says where a word points: Grad-CAM of the match, attention, or the recorded trace.",
        choices=("gradcam", "attention", "trace"),
    )
    mask_kind: str = setting(
        "soft",
        "How the image is dimmed: by degrees, all or nothing, or at random places (a control).",
        choices=("soft", "hard", "random"),
    )
    fusion_localization_weight: float = setting(
        0.0, "Weight of following the mouse trace with the fusion encoder's attention.", 0, 100
    )
    distillation: float = setting(
        0.0, "Share of the contrastive target made by momentum encoders, in the end.", 0, 1
    )
    queue: int = setting(
        0, "Earlier pairs kept as negatives, made by momentum encoders; 0: none.", 0, 1_000_000
    )
    momentum: float = setting(0.995, "How slowly the momentum encoders follow.", 0, 1)


@dataclass(frozen=True)
class TrainSettings:
    """How it is trained."""

    steps: int = setting(100_000, "Optimizer steps.", 1, 10_000_000)
    batch_size: int = setting(256, "Pairs a step, over all processes.", 1, 65_536)
    optimizer: str = setting("sgd", "Optimizer.", choices=("sgd", "adamw"))
    learning_rate: float = setting(0.2, "Highest learning rate of the image side.", 0, 10)
    text_learning_rate: float = setting(1e-3, "Highest learning rate of the text side.", 0, 10)
    backbone_rate: float = setting(
        1.0, "Learning rate of the backbone, as a share of the image side's.", 0, 1
    )
    backbone_wait: int = setting(
        0, "Steps for which the heads learn alone, before the backbone does.", 0, 1_000_000
    )
    scale_rate: float = setting(
        1.0, "Learning rate of the attention's sharpness, as a multiple of the text side's.", 0, 100
    )
    momentum: float = setting(0.9, "Momentum of SGD, first beta of AdamW.", 0, 1)
    weight_decay: float = setting(1e-4, "Weight decay (not on norms and biases).", 0, 1)
    warmup_steps: int = setting(
        2000, "Steps of linear warm-up; a cosine to 0 follows.", 0, 1_000_000
    )
    clip: float = setting(10.0, "Largest norm of the gradient; 0 never clips.", 0, 1e6)
    accumulate: int = setting(
        1, "Chunks a batch is computed in, for less memory; the loss sees it whole.", 1, 1024
    )
    checkpoint_activations: bool = setting(False, "Compute activations twice, for less memory.")
    ema: float = setting(
        0.0, "Decay of the weights' moving average, which is then saved and scored; 0: none.", 0, 1
    )
    precision: str = setting(
        "bf16", "Arithmetic of the forward pass where the device has it.", choices=("bf16", "fp32")
    )
    channels_last: bool = setting(True, "Memory layout that convolutions like best.")
    compile: bool | str = setting(
        False,
        "Compile the model ahead of the first step; auto: on a GPU, for a run long enough to win.",
        choices=(False, True, "auto"),
    )
    sync_batch_norm: bool = setting(False, "Batch-norm statistics over all GPUs.")
    tensorboard: bool = setting(False, "Write TensorBoard events beside metrics.jsonl.")
    report_to: str = setting(
        "", "Programs that show its curves, too: tensorboard, trackio, wandb; several with commas."
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 ... or mps.")
    seed: int = setting(0, "Seed of weights, data order and augmentation.", 0, 2**31 - 1)
    log_every: int = setting(20, "Steps between lines of metrics.jsonl.", 1, 100_000)
    evaluate_every: int = setting(
        2000, "Steps between validations; 0: only at the end.", 0, 1_000_000
    )
    evaluate_images: int = setting(
        1000, "Most validation images used while training.", 1, 1_000_000
    )
    film_every: int = setting(
        1000, "Steps between frames of the film of what it looks at; 0: none.", 0, 1_000_000
    )
    film_pictures: int = setting(4, "Validation images in that film.", 1, 32)
    checkpoint_every: int = setting(1000, "Steps between checkpoints.", 1, 1_000_000)
    keep_every: int = setting(
        0,
        "Keep the checkpoints of every so many steps, to go back to; 0: best and last only.",
        0,
        1_000_000,
    )
