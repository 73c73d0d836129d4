"""A settings dataclass -> inputs, grouped, with help and range -> the dataclass."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, get_type_hints

import gradio as gr
from gradio.components import Component

from loctex import settings
from loctex.settings import Settings

FRONT = (  # what most people change; everything else is folded away
    "train.steps", "train.batch_size", "train.learning_rate", "loss.localization_weight",
    "model.init",
)  # fmt: skip
TITLES = {"data": "Images and captions", "model": "Model", "loss": "Losses", "train": "Training"}
HIDDEN = ("data.snapshots",)  # chosen above the form


# --- what it does


def items() -> dict[str, tuple[Field, Any]]:
    """{"section.name": (dataclass field, type)} of all settings in the form, front first."""
    found = {}
    for section in fields(Settings):
        kinds = get_type_hints(section.type)
        for item in fields(section.type):
            found[f"{section.name}.{item.name}"] = item, kinds[item.name]
    names = [*FRONT, *(name for name in found if name not in (*FRONT, *HIDDEN))]
    return {name: found[name] for name in names}


def values(chosen: Settings) -> list[Any]:
    """What the inputs show of these settings, in the order of `items`."""
    sections = settings.to_dict(chosen)
    shown = []
    for name, (_, kind) in items().items():
        section, key = name.split(".")
        value = sections[section][key]
        shown.append(value if kind in (int, float, bool, str) else json.dumps(value))
    return shown


def read(inputs: Sequence[Any], base: Settings) -> Settings:
    """The settings that the inputs show; ValueError names the setting that does not fit."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in zip(items(), inputs, strict=True):
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = "" if value is None else value
    return settings.with_values(base, sections)


def highlight(changed: Iterable[str]) -> str:
    """A style sheet that marks the inputs of the changed settings."""
    marks = ", ".join(f"#{identity(name)}" for name in changed)
    rule = "box-shadow: inset 3px 0 0 var(--color-accent) !important"  # Gradio's own is important
    return f"<style>{marks} {{ {rule} }}</style>" if marks else "<style></style>"


def identity(name: str) -> str:
    """The id of a setting's input in the page."""
    return "setting-" + name.replace(".", "-").replace("_", "-")


def help_text(item: Field) -> str:
    """The help sentence, with the range where there is one."""
    meta: Mapping[str, Any] = item.metadata
    if meta["low"] is None:
        return meta["help"]
    return f"{meta['help']} {_number(meta['low'])} to {_number(meta['high'])}"


def label(name: str) -> str:
    return name.split(".")[1].replace("_", " ").capitalize()


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# --- what it looks like


def build(chosen: Settings) -> dict[str, Component]:
    """An input for each setting, in the order of `items`: a few in front, the rest folded away."""
    shown = dict(zip(items(), values(chosen), strict=True))
    inputs: dict[str, Component] = {}
    with gr.Row(equal_height=True):
        for name in FRONT:
            inputs[name] = _input(name, shown[name])
    with gr.Accordion("All settings", open=False):
        for section, title in TITLES.items():
            names = [name for name in shown if name.startswith(section) and name not in FRONT]
            gr.Markdown(f"#### {title}")
            with gr.Row(equal_height=True):
                for name in names:
                    inputs[name] = _input(name, shown[name])
    return inputs


def _input(name: str, value: Any) -> Component:
    item, kind = items()[name]
    common = {
        "value": value, "label": label(name), "info": help_text(item),
        "elem_id": identity(name), "min_width": 190, "interactive": True,
    }  # fmt: skip
    if item.metadata["choices"]:
        return gr.Dropdown(list(item.metadata["choices"]), **common)
    if kind is bool:
        return gr.Dropdown([("on", True), ("off", False)], **common)
    if kind is int:
        return gr.Number(precision=0, **common)
    if kind is float:
        return gr.Number(step=0.001, **common)
    return gr.Textbox(max_lines=1, **common)
