"""Figures: right where the map is, at the dots asked for, and with no gradio."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from loctex.jobs.run import Run
from loctex.records.narrative import Narrative, Word
from loctex.records.snapshot import Snapshot
from loctex.records.words import estimate
from loctex.scoring.predictor import Attention
from loctex.training.loop import train
from tests.loctex.small import small
from ui import figure
from ui.viewing.look import InspectedCaption
from ui.viewing.models import ModelAnswer

CAPTION = "a red ball beside green boxes"


def inspected(shape=(300, 400), cell=(2, 5), caption=CAPTION) -> InspectedCaption:
    """A black picture; the word 1 looks at one cell of 7 x 7, the others everywhere."""
    words = estimate(caption)
    maps = np.full((len(words), 7, 7), 1 / 49, np.float32)
    maps[1] = 0
    maps[1][cell] = 1
    attention = Attention(
        caption,
        words,
        tuple((0, 1) for _ in words),
        maps,
        np.zeros((len(words), 3)),
        np.zeros((len(words), 4)),
        0.5,
        np.eye(4)[0],
        np.eye(4)[0],
    )
    return InspectedCaption(
        np.zeros((*shape, 3), np.uint8),
        caption,
        ModelAnswer(attention, {"contrastive": maps}, 0.2, None),
    )


def png(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("dpi", [100, 250])
def test_a_png_has_the_dots_asked_for_and_the_attention_on_its_cell(dpi):
    image = png(
        figure.content([inspected()], "png", dpi=dpi, word_indices=[1], columns=1, is_smooth=False)
    )
    assert image.shape[1] == pytest.approx(figure.WIDTH * dpi, abs=1)
    dark = image.max(axis=2) < 235
    rows, columns = np.flatnonzero(dark.mean(axis=1) > 0.9), np.flatnonzero(dark.mean(axis=0) > 0.7)
    panel = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
    y, x = np.nonzero((panel[..., 0] > 120) & (panel[..., 2] < 90))  # yellow
    height, width = panel.shape[:2]
    assert abs((y.min() + y.max() + 1) / 2 / height * 7 - 2.5) < 0.1
    assert abs((x.min() + x.max() + 1) / 2 / width * 7 - 5.5) < 0.1
    assert width / height == pytest.approx(400 / 300, rel=0.03)


def test_an_svg_keeps_its_words_as_text_and_a_grid_has_a_panel_for_each():
    svg = figure.content([inspected(), inspected((90, 500))], "svg", columns=3).decode()
    chosen = figure.telling_words(inspected())
    said = [estimate(CAPTION)[i].text for i in chosen]
    assert said == ["red", "ball", "beside", "green", "boxes"]
    assert svg.count("<image") == 2 * 2 * len(chosen)  # photograph and attention
    assert ">ball</text>" in svg and ">ball  2%</text>" in svg
    assert svg == figure.content([inspected(), inspected((90, 500))], "svg", columns=3).decode()


def test_bad_requests_say_what_is_possible():
    with pytest.raises(IndexError, match="no word 9; .* has 6 words"):
        figure.content([inspected()], "svg", word_indices=[8])
    with pytest.raises(ValueError, match=r"must be \.svg"):
        figure.content([inspected()], "gif")
    with pytest.raises(ValueError, match="choose a model"):
        figure.content([InspectedCaption(np.zeros((2, 2, 3), np.uint8), "x")], "svg")


@pytest.mark.parametrize("caption", ["a 🐎 خيول", "שלום $x^2$ 100%", "a " * 400])
@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (30, 40)])
def test_odd_captions_and_pictures_are_drawn(caption, shape):
    assert png(figure.content([inspected(shape, caption=caption)], "png", dpi=60)).std() > 5


def test_the_numbers_are_the_pages(snapshot):
    narrative = Snapshot.open(snapshot).split("val")[0].narratives[0]
    told = Narrative(
        narrative.dataset_id,
        "1",
        0,
        CAPTION,
        tuple(Word(w.text, w.start, w.end) for w in estimate(CAPTION)),
        (np.array([[0.75, 0.35, 0.4], [0.76, 0.36, 0.6]]),),
    )
    one = inspected()
    one = InspectedCaption(one.image, one.caption, one.answer, told)
    found = json.loads(figure.content([one], "json"))
    assert np.array(found["maps"]).shape == (6, 7, 7) and found["narrative"] == told.to_json()
    assert found["hits"][1] is True and found["scores"] == one.payload()["scores"]
    assert np.array(found["layers"]["contrastive"]).sum() == pytest.approx(6, abs=1e-5)


def test_the_player_is_one_file_that_asks_for_nothing():
    html = figure.content([inspected(caption="a </script><b>bold</b>")], "html").decode()
    assert not re.search(r"(?:src|href)=[\"']?https?:", html) and "@DATA@" not in html
    assert html.count("</script>") == 1 and "default-src 'none'" in html
    assert "<title>a &lt;/script&gt;&lt;b&gt;bold&lt;/b&gt;</title>" in html


def test_the_command_draws_a_snapshots_items_without_gradio(snapshot, tmp_path):
    run = tmp_path / "run"
    train(small(snapshot, train__steps=2), Run(run))
    code = (
        "import sys; from ui import figure; figure.main(sys.argv[1:]); "
        "print([n for n in ('gradio', 'plotly') if n in sys.modules])"
    )
    given = [f"--run={run}", f"--data={snapshot}", "--item=0", "--item=2", "--to"]
    done = subprocess.run(
        [sys.executable, "-c", code, *given, str(tmp_path / "grid.png")],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert png((tmp_path / "grid.png").read_bytes()).shape[1] == 2100
    with pytest.raises(SystemExit, match="no word 99"):
        figure.main([*given, str(tmp_path / "x.svg"), "--words", "99"])
    with pytest.raises(SystemExit, match="no checkpoint"):
        figure.main([f"--run={tmp_path}", *given[1:], str(tmp_path / "x.svg")])
