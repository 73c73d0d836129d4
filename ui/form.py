"""A settings dataclass -> inputs, grouped, with help and range -> the dataclass."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from types import UnionType
from typing import Any, get_type_hints

import gradio as gr
import yaml
from gradio.components import Component

from loctex import settings
from loctex.settings import Settings

FRONT = (  # what most people change; everything else is folded away
    "model.init",
    "train.steps",
    "train.batch_size",
    "train.learning_rate",
    "loss.localization_weight",
)
TITLES = {"data": "Images and captions", "model": "Model", "loss": "Losses", "train": "Training"}
LABELS = {
    "model.init": "Start from",
    "model.gradcam_layer": "Grad-CAM layer",
    "train.ema": "Moving average",
    "train.tensorboard": "TensorBoard",
    "train.report_to": "Show its curves in",
}
HIDDEN = ("data.snapshots",)  # chosen above the form


# --- what it does


def items() -> dict[str, tuple[Field, Any]]:
    """{"section.name": (dataclass field, type)} of all settings in the form, front first."""
    by_name = {}
    for section, section_type in get_type_hints(Settings).items():
        kinds = get_type_hints(section_type)
        for item in fields(section_type):
            by_name[f"{section}.{item.name}"] = item, kinds[item.name]
    names = [*FRONT, *(name for name in by_name if name not in (*FRONT, *HIDDEN))]
    return {name: by_name[name] for name in names}


def values(run_settings: Settings) -> list[Any]:
    """What the inputs show of these settings, in the order of `items`."""
    sections = settings.to_dict(run_settings)
    input_values = []
    for name, (_, kind) in items().items():
        section, key = name.split(".")
        value = sections[section][key]
        input_values.append(_shown(value, kind))
    return input_values


def read(inputs: Sequence[Any], base: Settings) -> Settings:
    """The settings that the inputs show; ValueError names the setting that does not fit."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in zip(items(), inputs, strict=True):
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = "" if value is None else value
    return settings.with_values(base, sections)


def from_yaml(text: str, base: Settings) -> Settings:
    """`base` with what a YAML text says; ValueError names what does not fit."""
    sections = yaml.safe_load(text) or {}
    if not isinstance(sections, Mapping):
        raise ValueError("This YAML holds no sections data, model, loss, train.")
    return settings.with_values(base, sections)


def replaced(inputs: Sequence[Any], changes: Mapping[str, Any]) -> list[Any]:
    """The inputs with some settings' values put in."""
    by_name = dict(zip(items(), inputs, strict=True))
    for name, value in changes.items():
        by_name[name] = _shown(value, items()[name][1])
    return list(by_name.values())


def _shown(value: Any, kind: Any) -> Any:
    """A setting's value as its input holds it."""
    if kind in (int, float, bool, str):
        return value
    return settings.word(value) if isinstance(kind, UnionType) else json.dumps(value)


def matching(search: str) -> list[str]:
    """The names of the settings whose name or help has all the words."""
    sought = search.lower().replace("_", " ").split()
    texts = {
        name: f"{name} {label(name)} {item.metadata['help']}".lower().replace("_", " ")
        for name, (item, _) in items().items()
    }
    return [name for name, text in texts.items() if all(word in text for word in sought)]


def style(changed: Iterable[str], search: str = "", only_changed: bool = False) -> str:
    """A style sheet that marks the inputs of the changed settings, and shows those looked for."""
    marks = ", ".join(f"#{identity(name)}" for name in changed)
    rule = "box-shadow: inset 3px 0 0 var(--color-accent) !important"  # Gradio's own is important
    visible = [name for name in matching(search) if name in changed or not only_changed]
    gone = [identity(name) for name in items() if name not in (*visible, *FRONT)]
    for section in TITLES:
        if not any(name.startswith(f"{section}.") and name not in FRONT for name in visible):
            gone += [f"settings-{section}", f"rows-{section}"]
    hidden = ", ".join(f"#{name}" for name in gone)
    lines = f"{marks} {{ {rule} }}" if marks else ""
    lines += f" {hidden} {{ display: none !important }}" if hidden else ""
    return f"<style>{lines}</style>"


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
    """What the input is called."""
    return LABELS.get(name, name.split(".")[1].replace("_", " ").capitalize())


def _number(value: float) -> str:
    return f"{value:,.12g}"


# --- what it looks like


def build(run_settings: Settings) -> tuple[dict[str, Component], gr.Textbox, gr.Checkbox]:
    """An input for each setting, in the order of `items`: a few in front, the rest folded away,
    below what they are searched with."""
    input_values = dict(zip(items(), values(run_settings), strict=True))
    inputs: dict[str, Component] = {}

    with gr.Row(equal_height=True):
        for name in FRONT:
            inputs[name] = _input(name, input_values[name])

    with gr.Accordion("All settings", open=False):
        with gr.Row(elem_classes="studio-search"):
            search = gr.Textbox(
                "",
                show_label=False,
                container=False,
                max_lines=1,
                scale=4,
                placeholder="Search the settings: learning rate, crop, memory ...",
            )
            only_changed = gr.Checkbox(False, label="Changed ones only", container=False, scale=1)

        for section, title in TITLES.items():
            names = [
                name
                for name in input_values
                if name.startswith(f"{section}.") and name not in FRONT
            ]
            gr.Markdown(f"#### {title}", elem_id=f"settings-{section}")
            with gr.Row(equal_height=True, elem_id=f"rows-{section}"):
                for name in names:
                    inputs[name] = _input(name, input_values[name])

    return inputs, search, only_changed


def _input(name: str, value: Any) -> Component:
    item, kind = items()[name]
    common: dict[str, Any] = {
        "value": value,
        "label": label(name),
        "info": help_text(item),
        "elem_id": identity(name),
        "min_width": 190,
        "interactive": True,
    }

    if name == "model.init":  # ui.train.start.starts_from offers what there is
        return gr.Dropdown([value], allow_custom_value=True, **common | {"min_width": 260})

    if item.metadata["choices"]:
        return gr.Dropdown([settings.word(choice) for choice in item.metadata["choices"]], **common)
    if kind is bool:
        return gr.Dropdown([("on", True), ("off", False)], **common)
    if kind is int:
        return gr.Number(precision=0, **common)
    if kind is float:
        return gr.Number(step=0.001, **common)
    return gr.Textbox(max_lines=1, **common)
