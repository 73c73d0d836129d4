import argparse

import pytest

from loctex import settings
from loctex.settings import Settings
from loctex.settings.presets import PRESETS


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_yaml_brings_every_preset_back(name, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(settings.dump(PRESETS[name]))
    assert settings.load(path) == PRESETS[name]


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown setting 'train.stpes'.*steps"):
        settings.from_dict({"train": {"stpes": 3}})
    with pytest.raises(ValueError, match="unknown section 'trian'.*train"):
        settings.from_dict({"trian": {}})


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("train.steps", 0, "1 .. 1e"),
        ("train.steps", 2.5, "type int"),
        ("train.learning_rate", "fast", "type float"),
        ("train.learning_rate", float("nan"), "lie in"),
        ("train.compile", 1, "type bool | str"),
        ("train.compile", "always", "one of false, true, auto"),
        ("loss.localization", "l3", "one of ce, l2"),
        ("model.backbone_options", "[1]", "a JSON object"),
        ("data.flip", True, "type float"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(path, value, words):
    section, name = path.split(".")
    with pytest.raises(ValueError, match=words) as caught:
        settings.from_dict({section: {name: value}})
    assert path in str(caught.value)


def test_the_command_line_wins_over_the_preset_and_parses_every_type():
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    options = {
        "train.steps": "1e3",
        "train.learning_rate": "3e-4",
        "train.compile": "true",
        "model.backbone_options": '{"layers": [1]}',
        "loss.localization": "l2",
    }
    given = parser.parse_args([f"--{name}={value}" for name, value in options.items()])
    wanted = settings.from_arguments(vars(given), PRESETS["tiny"])
    assert (wanted.train.steps, wanted.train.learning_rate, wanted.train.compile) == (
        1000,
        3e-4,
        True,
    )
    assert wanted.model.backbone_options == {"layers": [1]}
    assert wanted.data == PRESETS["tiny"].data
    assert set(settings.changed(wanted, PRESETS["tiny"])) == set(options)


def test_every_setting_has_a_help_sentence_and_a_default_in_range():
    rows = settings.to_dict(Settings())
    assert settings.from_dict(rows) == Settings()
    for section, kind in vars(Settings()).items():
        for item in type(kind).__dataclass_fields__.values():
            assert len(item.metadata["help"]) > 5, f"{section}.{item.name}"
