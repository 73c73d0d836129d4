"""Inspect: what can be chosen, what the model answers, what is said when it cannot."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from loctex.loading import tokenization
from loctex.model import build
from loctex.records.narrative import read_jsonl
from loctex.records.snapshot import Snapshot
from loctex.records.words import estimate
from loctex.scoring import score
from loctex.scoring.predictor import Attention, Predictor
from loctex.settings.presets import PRESETS
from loctex.training import checkpoint
from ui.viewing import look as looking
from ui.viewing import pictures, scores
from ui.viewing.look import look, player_value
from ui.viewing.models import ModelAnswer, Models, checkpoints
from ui.viewing.pictures import PictureRef, list_items, load_item, sources
from ui.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(snapshot, tmp_path_factory):
    """A workspace with a frozen snapshot of 40 scenes and an untrained tiny model of it."""
    result = Workspace(tmp_path_factory.mktemp("workspace"))
    shutil.copytree(snapshot, result.snapshots_dir / "scenes")
    captions = Snapshot.open(snapshot).split("train").captions()
    settings, words = PRESETS["tiny"], tokenization.train(captions, 500, 64)
    torch.manual_seed(0)
    model = build.build(settings, len(words), words.pad_token_id)
    run = result.runs_dir / "tiny"
    checkpoint.save(run, 1, model=model, tokenizer=words, state={}, is_best=True)
    yield result
    result.store.close()


@pytest.fixture
def empty(tmp_path):
    result = Workspace(tmp_path)
    yield result
    result.store.close()


def test_only_runs_with_a_checkpoint_can_be_chosen(workspace):
    (workspace.runs_dir / "without").mkdir(exist_ok=True)
    assert [label for label, _ in checkpoints(workspace)] == ["tiny · best", "tiny · last"]


def test_unseen_pictures_come_first(workspace):
    keys = [key for _, key in sources(workspace)]
    assert keys == [f"snapshot/scenes/{split}" for split in ("val", "test", "train")]


def test_pages_of_a_split_show_every_narrative_once(workspace):
    found, after = [], 0
    while after is not None:
        page, after = list_items(workspace, "snapshot/scenes/train", after)
        assert len({item.row for item in page}) <= pictures.PAGE
        found += [(item.row, item.narrative) for item in page]
    assert found == [(row, 0) for row in range(32)]
    item = page[-1]
    image, narrative = load_item(workspace, item)
    assert narrative.caption == item.caption and image.dtype == np.uint8


def test_pages_of_a_collection_show_pictures_with_and_without_narratives(workspace, scenes):
    store, files = workspace.store, sorted((scenes / "images").glob("*.jpg"))[:14]
    collection = store.add_collection("mine")
    rows = [
        store.add_image(collection, file.read_bytes(), dataset_id="scenes", image_id=file.stem)
        for file in files
    ]
    told = list(read_jsonl(scenes / "narratives.jsonl"))[:3]
    for narrative in told:
        store.add(collection, narrative)
    key = sources(workspace)[-1][1]
    first, after = list_items(workspace, key)
    second, end = list_items(workspace, key, after)
    assert (len(first), len(second), end) == (12, 2, None)
    assert sum(item.narrative is not None for item in first + second) == 3
    assert load_item(workspace, first[0])[0].shape[:2] == (rows[0].height, rows[0].width)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_scores_equal_evaluates_to_1e_4(workspace):
    split = Snapshot.open(workspace.snapshots_dir / "scenes").split("val")
    predictor = Predictor.load(workspace.runs_dir / "tiny")
    expected = score.score(predictor.model, predictor.tokenizer, split).metrics
    models, folder, hits, lbm, cosines = Models(), checkpoints(workspace)[0][1], [], [], []
    for item in list_items(workspace, "snapshot/scenes/val")[0]:
        page = look(workspace, models, folder, item, item.caption).payload()
        hits += [hit for hit in page["hits"] if hit is not None]
        lbm.append(float(page["scores"][2]["value"]))
        cosines.append(float(page["scores"][0]["value"]))
    assert np.mean(hits) == pytest.approx(expected["pointing_trace"], abs=1e-4)
    assert np.mean(lbm) == pytest.approx(expected["lbm_0"], abs=1e-4)
    items = [split[i] for i in range(len(split))]
    found = {"image": [], "text": []}
    with torch.inference_mode():
        list(score.encode(predictor.model, predictor.tokenizer, items, found))
    own = (found["image"][0] * found["text"][0]).sum(axis=1)
    assert np.abs(np.array(cosines) - own).max() <= 0.005 + 1e-4  # shown with 2 digits


def test_a_picture_is_encoded_once_for_all_its_captions(workspace, monkeypatch):
    calls, original = [], Predictor.set_image
    monkeypatch.setattr(
        Predictor, "set_image", lambda self, image: (calls.append(1), original(self, image))
    )
    models, folder = Models(), checkpoints(workspace)[0][1]
    images = [
        load_item(workspace, item)[0]
        for item in list_items(workspace, "snapshot/scenes/val")[0][:2]
    ]
    first = models.look(folder, images[0], "a red circle", None).attention
    second = models.look(folder, images[0], "a blue square", None).attention
    assert len(calls) == 1 and np.abs(first.maps - second.maps).max() > 0
    models.look(folder, images[1], "a red circle", None)
    assert len(calls) == 2


def test_a_recorded_item_is_shown_with_both_sides_and_another_caption_with_one(workspace):
    models, folder = Models(), checkpoints(workspace)[0][1]
    item = list_items(workspace, "snapshot/scenes/val")[0][0]
    both = look(workspace, models, folder, item, item.caption).payload()
    assert len(both["strokes"]) > 0 and len(both["hits"]) == len(both["words"])
    assert [row["name"] for row in both["scores"]] == [
        "Match",
        "Words that agree",
        "Distance of the paths",
    ]
    one = look(workspace, models, folder, item, "a circle 🐎 خيول").payload()
    assert [word["text"] for word in one["words"]] == ["a", "circle", "🐎", "خيول"]
    assert one["strokes"] == [] and one["hits"] is None and len(one["scores"]) == 1


def test_400_words_and_a_1_by_5000_picture_are_answered(workspace, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "thin.png"), np.full((5000, 1, 3), 90, np.uint8))
    item = PictureRef("", path=tmp_path / "thin.png")
    caption = " ".join(["circle"] * 400)
    answer = look(workspace, Models(), checkpoints(workspace)[0][1], item, caption).payload()
    assert len(answer["words"]) == 400 and (answer["width"], answer["height"]) == (1, 5000)
    num_read = sum(peak > 0 for peak in answer["peaks"])
    assert 20 < num_read <= 62 and not any(answer["peaks"][num_read:])  # 64 tokens with start, end
    assert answer["scores"][1]["value"] == f"{num_read} of 400"


@pytest.mark.parametrize(
    "change, says",
    [
        ({"embedding": 64}, "do not fit its config.json"),
        ({"localization": "new"}, "does not know"),
        ({"attention_scales": 2}, "do not fit"),
        ({"backbone": "resnet99"}, "no model 'resnet99'"),
        (None, "damaged"),
    ],
)
def test_a_checkpoint_of_another_version_is_a_message(workspace, request, change, says):
    folder = workspace.runs_dir / "other" / "best"
    request.addfinalizer(lambda: shutil.rmtree(folder.parent))
    shutil.copytree(workspace.runs_dir / "tiny" / "best", folder)
    config = json.loads((folder / "config.json").read_text()) | (change or {})
    text = json.dumps(config)
    (folder / "config.json").write_text(text if change else text[: len(text) // 2])
    item = list_items(workspace, "snapshot/scenes/val")[0][0]
    answer, _ = player_value(workspace, Models(), str(folder), item, "a circle")
    assert says in answer["message"]


def test_a_wrong_sentence_is_said_to_match_badly(workspace):
    """With known embeddings: a sentence that fits less than most others is low, and says so."""
    looked = look(
        workspace,
        Models(),
        checkpoints(workspace)[0][1],
        list_items(workspace, "snapshot/scenes/val")[0][0],
        "a red circle",
    )
    attention, turned = looked.answer.attention, -looked.answer.attention.image
    good = scores.match(looked.answer, np.stack([turned] * 31 + [attention.image]))
    assert "better than 97% of 32" in good["note"] and "is_low" not in good
    bad = scores.match(looked.answer, np.stack([attention.image] * 31 + [turned]))
    assert bad["note"].startswith("low: fits better than only 3% of 32") and bad["is_low"] == "yes"
    assert len(looked.other_texts) == 3  # the split's other pictures
    assert "note" not in scores.match(looked.answer, None)


def test_words_in_doubt_are_named_the_worst_first():
    words = estimate("a red ball, beside green boxes")
    maps = np.ones((6, 2, 2))
    attention = Attention("", words, (), maps, np.zeros((6, 3)), np.zeros((6, 4)), 0.5, None, None)
    said = [
        scores.doubts(ModelAnswer(attention, {}, 0.2, 0.5, doubt and np.array(doubt)))
        for doubt in (None, [0.1] * 6, [0, 0.93, 0.99, 0.5, 0.97, 0.95])
    ]
    assert said[0] == [] and said[1][0]["value"] == "none" and "is_low" not in said[1][0]
    assert said[2][0]["value"] == "ball 99%, green 97%, boxes 95%"
    assert said[2][0]["note"] == "and 1 more" and said[2][0]["is_low"] == "yes"


@pytest.mark.parametrize("content, says", [(b"not a picture", "text.jpg|image"), (b"", "image")])
def test_a_file_that_is_no_picture_is_answered_with_a_message(workspace, tmp_path, content, says):
    (tmp_path / "text.jpg").write_bytes(content)
    item = PictureRef("", path=tmp_path / "text.jpg")
    answer, _ = player_value(workspace, Models(), checkpoints(workspace)[0][1], item, "a dog")
    assert list(answer) == ["message"] and len(answer["message"]) > 20


def test_empty_states_say_the_next_step(workspace, empty):
    assert player_value(empty, Models(), None, None, "")[0] == {"message": looking.NO_MODEL}
    folder = checkpoints(workspace)[0][1]
    assert player_value(workspace, Models(), folder, None, "")[0] == {"message": looking.NO_PICTURE}
    item = list_items(workspace, "snapshot/scenes/val")[0][0]
    assert player_value(workspace, Models(), folder, item, "  ")[0] == {
        "message": looking.NO_CAPTION
    }


def test_starting_the_page_does_not_import_torch():
    code = "import ui.inspect.tab, sys; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_two_threads_that_need_torch_at_once_both_get_it():
    """In a new process, as transformers' names are resolved when first asked for."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from ui import heavy\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    names = ['scoring.predictor', 'training.estimate', 'export.card', 'evaluate']\n"
        "    print([found.__name__ for found in pool.map(heavy.module, names)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    modules = ("scoring.predictor", "training.estimate", "export.card", "evaluate")
    expected = [f"loctex.{name}" for name in modules]
    assert done.stdout.strip() == str(expected), done.stderr
