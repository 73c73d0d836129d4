"""Every setting of a training run, written once.

Defaults, help and ranges live in the frozen dataclasses below; the command line, the YAML files
and the form of the Train tab are drawn from them. An unknown name is an error that lists the
known ones. A command-line value wins over `--settings FILE`, which wins over `--preset NAME`.
"""

import argparse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

import yaml


def setting(default: Any, help: str, low=None, high=None, choices: tuple | None = None) -> Any:
    """A dataclass field with its help sentence and its inclusive range or choices."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


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
    threads: int = setting(2, "Threads that decode images.", 1, 64)


@dataclass(frozen=True)
class ModelSettings:
    """What is trained."""

    init: str = setting(
        "random", "Start from: random, timm (pre-trained backbone), a run folder, a saved model."
    )
    backbone: str = setting("resnet50", "Any timm model that returns feature maps, by name.")
    backbone_options: dict[str, Any] = setting({}, "More arguments for timm, as JSON.")
    attention_scales: int = setting(
        1, "1: attention on the last stage; 2: also on the stage before it.", 1, 2
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


@dataclass(frozen=True)
class LossSettings:
    """What the model is asked for."""

    contrastive_weight: float = setting(1.0, "Weight of matching images with captions.", 0, 100)
    localization_weight: float = setting(
        1.0, "Weight of following the mouse trace; 0 freezes the maps it would train.", 0, 100
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
    compile: bool = setting(False, "Compile the model with torch.compile.")
    sync_batch_norm: bool = setting(False, "Batch-norm statistics over all GPUs.")
    tensorboard: bool = setting(False, "Write TensorBoard events beside metrics.jsonl.")
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 ...")
    seed: int = setting(0, "Seed of weights, data order and augmentation.", 0, 2**31 - 1)
    log_every: int = setting(20, "Steps between lines of metrics.jsonl.", 1, 100_000)
    evaluate_every: int = setting(
        2000, "Steps between validations; 0: only at the end.", 0, 1_000_000
    )
    evaluate_images: int = setting(
        1000, "Most validation images used while training.", 1, 1_000_000
    )
    checkpoint_every: int = setting(1000, "Steps between checkpoints.", 1, 1_000_000)


@dataclass(frozen=True)
class Settings:
    """All settings of a run, by section."""

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


def with_values(settings: Settings, values: Mapping[str, Mapping[str, Any]]) -> Settings:
    """`settings` with `values` ({section: {name: value}}) put in, each checked.

    Raises ValueError that names the setting, its value, and what is known or allowed.
    """
    sections = {f.name: getattr(settings, f.name) for f in fields(Settings)}
    for name, changes in values.items():
        if name not in sections:
            raise ValueError(f"unknown section {name!r}; the sections are {', '.join(sections)}")
        if not isinstance(changes, Mapping):
            raise ValueError(f"section {name!r} must hold names and values, got {changes!r}")
        section = sections[name]
        checked = {key: check(section, f"{name}.{key}", value) for key, value in changes.items()}
        sections[name] = replace(section, **checked)
    return Settings(**sections)


def check(section: Any, path: str, value: Any) -> Any:
    """`value` in the type of the setting `path` ("train.steps"); ValueError if it does not fit."""
    known = {f.name: f for f in fields(section)}
    name = path.split(".")[-1]
    if name not in known:
        raise ValueError(f"unknown setting {path!r}; the known ones are {', '.join(sorted(known))}")
    kind = get_type_hints(type(section))[name]
    meta = known[name].metadata
    value = convert(kind, path, value)
    if meta["choices"] and value not in meta["choices"]:
        raise ValueError(f"{path} must be one of {', '.join(meta['choices'])}, got {value!r}")
    low, high = meta["low"], meta["high"]
    if low is not None and not low <= value <= high:
        raise ValueError(f"{path} must lie in {low:g} .. {high:g}, got {value!r}")
    return value


def convert(kind: Any, path: str, value: Any) -> Any:
    """`value` as `kind`: int, float, bool, str, tuple[str, ...] or a mapping; text is parsed."""
    if get_origin(kind) is tuple:
        parts = [value] if isinstance(value, str) else list(value)
        return tuple(convert(get_args(kind)[0], path, part) for part in parts)
    if kind is str and isinstance(value, (str, Path)):
        return str(value)
    try:
        parsed = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read: {value!r}") from error
    if kind in (int, float) and isinstance(parsed, (str, int, float)) and parsed is not True:
        with suppress(ValueError, OverflowError):  # YAML reads "1e3" as text
            if float(parsed) == kind(float(parsed)):
                return kind(float(parsed))
    if isinstance(parsed, get_origin(kind) or kind):
        return parsed
    wanted = "a JSON object" if get_origin(kind) is dict else kind.__name__
    raise ValueError(f"{path} must be of type {wanted}, got {value!r}")


def to_dict(settings: Settings) -> dict[str, dict[str, Any]]:
    """Plain nested values, fit for YAML and JSON."""
    sections = asdict(settings)
    sections["data"]["snapshots"] = list(sections["data"]["snapshots"])
    return sections


def from_dict(values: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The inverse of `to_dict`; what is missing takes its default."""
    return with_values(Settings(), values)


def load(path: Path | str, base: Settings | None = None) -> Settings:
    """Settings of a YAML file over `base` (the defaults); ValueError names the file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{path}: expected sections data, model, loss, train; got {values!r:.60}")
    try:
        return with_values(base or Settings(), values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def dump(settings: Settings) -> str:
    """The YAML text of all settings."""
    return yaml.safe_dump(to_dict(settings), sort_keys=False, allow_unicode=True)


def changed(settings: Settings, base: Settings) -> dict[str, Any]:
    """{"section.name": value} of what differs from `base`."""
    ours, theirs = to_dict(settings), to_dict(base)
    return {
        f"{section}.{name}": value
        for section, values in ours.items()
        for name, value in values.items()
        if value != theirs[section][name]
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option per setting, `--section.name`, grouped, with help and range."""
    for section in fields(Settings):
        kind = section.default_factory
        group = parser.add_argument_group(f"{section.name} settings", kind.__doc__)
        for item in fields(kind):
            if item.name == "snapshots":  # `--data`
                continue
            meta = item.metadata
            default = item.default if item.default is not MISSING else item.default_factory()
            limits = f" ({meta['low']:g} .. {meta['high']:g})" if meta["low"] is not None else ""
            group.add_argument(
                f"--{section.name}.{item.name}",
                default=argparse.SUPPRESS,
                choices=meta["choices"],
                metavar=None if meta["choices"] else item.name.upper(),
                help=f"{meta['help']}{limits} [{default}]".replace("%", "%%"),
            )


def from_arguments(arguments: Mapping[str, Any], base: Settings) -> Settings:
    """`base` with the `--section.name` options that were given."""
    values: dict[str, dict[str, Any]] = {}
    for name, value in arguments.items():
        section, dot, key = name.partition(".")
        if dot:
            values.setdefault(section, {})[key] = value
    return with_values(base, values)


TINY = from_dict(
    {
        "data": {"image_size": 96, "max_tokens": 64, "min_scale": 0.8, "color": 0.2},
        "model": {
            "backbone": "resnet18",
            "backbone_options": {
                "layers": [1, 1, 1],
                "channels": [32, 64, 160],
                "stem_type": "deep",
                "stem_width": 8,
            },
            "text_layers": 2,
            "text_width": 128,
            "text_heads": 4,
            "text_dropout": 0.0,
            "vocabulary": 1000,
            "embedding": 128,
            "attention": 128,
        },
        "train": {
            "steps": 550,
            "batch_size": 64,
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "text_learning_rate": 1e-3,
            "weight_decay": 0.05,
            "warmup_steps": 50,
            "evaluate_every": 250,
            "checkpoint_every": 100,
        },
    }
)

PRESETS: Mapping[str, Settings] = MappingProxyType({"tiny": TINY, "r50": Settings()})
