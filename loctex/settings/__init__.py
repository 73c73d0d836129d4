"""Reads, checks and writes the settings of a training run; sections.py lists them.

An unknown name is an error that lists the known ones. A command-line value wins over
`--settings FILE`, which wins over `--preset NAME`.
"""

import argparse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import yaml

from loctex.settings import backbone_options
from loctex.settings.sections import (
    TRACKERS,
    DataSettings,
    LossSettings,
    ModelSettings,
    TrainSettings,
)


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

    result = Settings(**sections)
    check_together(result)
    return result


def check_together(settings: Settings) -> None:
    """ValueError where settings that are fine alone do not go together."""
    loss, model = settings.loss, settings.model
    if model.freeze and model.init == "random":
        raise ValueError(
            "model.freeze keeps the backbone as it starts, and model.init random starts it from "
            "random numbers; set --model.init timm (pre-trained), or a run's folder"
        )
    if model.freeze and settings.data.distort:
        raise ValueError("model.freeze computes features once: data.distort must be 0")

    if model.contrastive_share and loss.localization != "ce":
        raise ValueError(
            "model.contrastive_share multiplies softmaxes: it needs loss.localization ce, or be 0"
        )
    trackers(settings.train)
    if 0 < loss.focal < 1:
        raise ValueError(f"loss.focal must be 0, or 1 and more, got {loss.focal:g}")
    if model.gradcam_layer >= model.fusion_layers:
        raise ValueError(
            f"model.gradcam_layer is {model.gradcam_layer}, but must lie below the last of the "
            f"{model.fusion_layers} fusion layers; set model.fusion_layers higher, or 0 here"
        )

    if loss.soft_mask_weight > 0 and loss.matching_weight == 0:
        raise ValueError("loss.soft_mask_weight needs loss.matching_weight above 0: its head")
    if loss.masked_words_weight > 0 and settings.data.mask_words == 0:
        raise ValueError("loss.masked_words_weight needs data.mask_words above 0: what to guess")
    if loss.changed_word_weight > 0 and not (loss.changed_captions and loss.matching_weight > 0):
        raise ValueError(
            "loss.changed_word_weight needs loss.changed_captions, and loss.matching_weight above 0"
        )

    is_attended = loss.soft_mask_weight > 0 and loss.mask_source == "attention"
    if is_attended and loss.localization_weight == 0:
        raise ValueError(
            "loss.mask_source attention needs loss.localization_weight above 0, which trains the "
            "attention; or take gradcam or trace"
        )


def trackers(train: TrainSettings) -> tuple[str, ...]:
    """The programs that train.report_to names, each once; train.tensorboard names one of them.

    ValueError where one is not known.
    """
    names = [name.strip() for name in train.report_to.split(",") if name.strip()]
    if unknown := [name for name in names if name not in TRACKERS]:
        raise ValueError(
            f"train.report_to knows {', '.join(TRACKERS)}, separated by commas; got {unknown[0]!r}"
        )
    if train.tensorboard:
        names.append("tensorboard")
    return tuple(dict.fromkeys(names))


def check(section: Any, path: str, value: Any) -> Any:
    """`value` in the type of the setting `path` ("train.steps"); ValueError if it does not fit."""
    known_fields = {f.name: f for f in fields(section)}
    name = path.split(".")[-1]
    if name not in known_fields:
        raise ValueError(
            f"unknown setting {path!r}; the known ones are {', '.join(sorted(known_fields))}"
        )

    kind = get_type_hints(type(section))[name]
    meta = known_fields[name].metadata
    value = convert(kind, path, value)

    choices = meta["choices"] or ()
    if choices and not any(value == choice and type(value) is type(choice) for choice in choices):
        raise ValueError(f"{path} must be one of {', '.join(map(word, choices))}, got {value!r}")
    if name == "backbone_options":
        backbone_options.check(value, path)

    low, high = meta["low"], meta["high"]
    if low is not None and not low <= value <= high:
        raise ValueError(f"{path} must lie in {low:g} .. {high:g}, got {value!r}")
    return value


def word(value: Any) -> str:
    """A value as it is typed: true and false as YAML has them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def convert(kind: Any, path: str, value: Any) -> Any:
    """`value` as `kind`: int, float, bool, str, bool | str, tuple[str, ...] or a mapping; text is
    parsed."""
    if get_origin(kind) is tuple:
        items = [value] if isinstance(value, str) else list(value)
        return tuple(convert(get_args(kind)[0], path, item) for item in items)

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

    accepted = kind if isinstance(kind, UnionType) else get_origin(kind) or kind
    if isinstance(parsed, accepted):
        return parsed
    expected = "a JSON object" if get_origin(kind) is dict else getattr(kind, "__name__", str(kind))
    raise ValueError(f"{path} must be of type {expected}, got {value!r}")


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
        kind = cast(type, section.default_factory)
        group = parser.add_argument_group(f"{section.name} settings", kind.__doc__)
        for item in fields(kind):
            if item.name == "snapshots":  # `--data`
                continue

            meta = item.metadata
            default = item.default
            if default is MISSING:
                default = cast(Callable[[], Any], item.default_factory)()

            limits = f" ({meta['low']:g} .. {meta['high']:g})" if meta["low"] is not None else ""
            group.add_argument(
                f"--{section.name}.{item.name}",
                default=argparse.SUPPRESS,
                choices=meta["choices"] and [word(choice) for choice in meta["choices"]],
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
