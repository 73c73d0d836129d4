"""The form: what the inputs show is what the settings hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loctex import settings
from loctex.settings.presets import PRESETS
from ui import form

ROOT = Path(__file__).parents[2]


def names(sections: dict) -> set[str]:
    return {f"{section}.{name}" for section, found in sections.items() for name in found}


BUILD = """
import json
import gradio as gr
from loctex.settings.presets import PRESETS
from ui import form
with gr.Blocks():
    inputs, _, _ = form.build(PRESETS["tiny"])
print(json.dumps({name: [part.elem_id, part.info] for name, part in inputs.items()}))
"""  # in a process of its own: Gradio leaves an event loop open


def test_every_setting_has_exactly_one_input():
    every = names(settings.to_dict(settings.Settings())) - {"data.snapshots"}
    assert set(form.items()) == every
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=ROOT, capture_output=True, text=True, check=True
    )
    inputs = json.loads(done.stdout.splitlines()[-1])
    assert list(inputs) == list(form.items()) and len(inputs) == len(every)
    assert list(inputs)[: len(form.FRONT)] == list(form.FRONT)
    for name, (identity, info) in inputs.items():
        assert identity == form.identity(name)
        assert info.startswith(form.items()[name][0].metadata["help"])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_showing_and_reading_gives_the_same_settings(preset):
    shown = form.values(PRESETS[preset])
    assert form.read(shown, settings.Settings()) == PRESETS[preset]


def test_only_what_was_changed_is_highlighted():
    shown = dict(zip(form.items(), form.values(PRESETS["tiny"]), strict=True))
    shown |= {"train.steps": 7, "loss.localization": "l2"}
    shown["model.backbone_options"] = '{"layers": [2]}'
    chosen = form.read(list(shown.values()), PRESETS["tiny"])
    changed = settings.changed(chosen, PRESETS["tiny"])
    assert changed == {
        "train.steps": 7,
        "model.backbone_options": {"layers": [2]},
        "loss.localization": "l2",
    }
    style = form.style(changed)
    assert style.count("#setting-") == 3 and "#setting-train-steps" in style
    assert "#" not in form.style([])


def test_a_search_finds_settings_by_name_and_by_what_they_do():
    assert form.matching("") == list(form.items())
    assert form.matching("learning rate") == form.matching("learning_rate")
    assert {"train.learning_rate", "train.text_learning_rate"} <= set(
        form.matching("learning rate")
    )
    assert "data.flip" in form.matching("mirroring")
    assert form.matching("no such thing") == []


def test_what_is_not_sought_is_hidden_with_its_heading():
    style = form.style(["train.ema"], "moving average")
    hidden = style.split("{")[-2]
    assert "#setting-train-ema" not in hidden and "#settings-train" not in hidden
    assert "#setting-data-flip" in hidden and "#settings-data" in hidden
    assert "#setting-train-steps" not in hidden, "those in front stay"
    hidden = form.style(["train.ema"], only_changed=True).split("{")[-2]
    assert "#setting-train-ema" not in hidden and "#setting-train-clip" in hidden


def test_yaml_shown_is_yaml_read_back():
    chosen = settings.with_values(PRESETS["r50"], {"train": {"steps": 7}, "model": {"init": "x"}})
    assert form.from_yaml(settings.dump(chosen), PRESETS["tiny"]) == chosen
    assert form.from_yaml("train: {steps: 9}", PRESETS["tiny"]).train.steps == 9
    assert form.from_yaml("", PRESETS["tiny"]) == PRESETS["tiny"]
    for text, problem in (("- 1", "no sections"), ("train: {stepz: 1}", "stepz")):
        with pytest.raises(ValueError, match=problem):
            form.from_yaml(text, PRESETS["tiny"])


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("train.steps", 0, "train.steps must lie in 1 .. 1e"),
        ("train.batch_size", None, "train.batch_size must be of type int"),
        ("model.backbone_options", "[1", "model.backbone_options"),
        ("loss.localization", "l3", "loss.localization must be one of ce, l2"),
    ],
)
def test_a_value_that_does_not_fit_is_named(name, value, problem):
    shown = dict(zip(form.items(), form.values(PRESETS["tiny"]), strict=True)) | {name: value}
    with pytest.raises(ValueError, match=problem):
        form.read(list(shown.values()), PRESETS["tiny"])


def test_the_help_shows_the_range():
    item, _ = form.items()["train.batch_size"]
    assert form.help_text(item).endswith("1 to 65,536")
    assert form.label("train.batch_size") == "Batch size"
