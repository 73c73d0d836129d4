import json
import time

import numpy as np
import pytest
import torch

from loctex import evaluate, predictor
from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.model import build
from loctex.model.losses import ATTENTION
from loctex.records.images import decode_image, decode_into
from loctex.records.narrative import Word
from loctex.records.snapshot import Snapshot
from loctex.scoring import predictor as answers
from loctex.scoring.predictor import Predictor
from loctex.scoring.score import score
from loctex.settings.presets import PRESETS
from loctex.training.loop import train
from tests.loctex.small import small


@pytest.fixture(scope="module")
def run(snapshot, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(small(snapshot), Run(path))
    return path


@pytest.fixture(scope="module")
def item(snapshot):
    return Snapshot.open(snapshot).split("val")[0]


def test_maps_have_mass_one_and_words_keep_their_times(run, item):
    one = Predictor.load(run)
    one.set_image(decode_image(item.image))
    narrative = item.narratives[0]
    seen = one.attend(narrative.caption, narrative.words)
    assert seen.maps.shape == (len(narrative.words), 4, 4)
    mass = seen.maps.sum(axis=(1, 2))
    assert mass[0] == pytest.approx(1, abs=1e-5) and set(mass.round(5)) <= {0.0, 1.0}
    assert seen.words == narrative.words
    assert [narrative.caption[a:b] for a, b in seen.spans] == [w.text for w in narrative.words]
    assert (np.diff(seen.trace[:, 2]) >= 0).all() and -1 <= seen.score <= 1


def test_layers_hold_each_scale_and_the_contrastive_head(snapshot, item, tmp_path):
    train(small(snapshot, model__attention_scales=2, train__steps=2), Run(tmp_path / "run"))
    one = Predictor.load(tmp_path / "run")
    one.set_image(decode_image(item.image))
    found = one.layers("a red circle")
    assert list(found) == ["attention 4x4", "attention 8x8", "contrastive"]
    np.testing.assert_array_equal(found["attention 4x4"], one.attend("a red circle").maps)
    for maps in found.values():
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, atol=1e-5)
    assert found["attention 8x8"].shape == (3, 8, 8)


def test_attention_and_contrastive_head_are_one_map_where_a_share_joins_them(
    snapshot, item, tmp_path
):
    settings = small(snapshot, model__contrastive_share=0.5, train__steps=2)
    train(settings, Run(tmp_path / "run"))
    one = Predictor.load(tmp_path / "run")
    one.set_image(decode_image(item.image))
    layers = one.layers("a red circle")
    assert list(layers) == ["both 4x4", "attention 4x4", "contrastive"]
    np.testing.assert_array_equal(layers["both 4x4"], one.attend("a red circle").maps)

    image, text, *_ = one._read("a red circle", None)  # token by token, before words are averaged
    with torch.no_grad():
        both = one.model.locate(image, text)
        attention, head = (
            one.model.attend(image, text)[-1],
            one.model.attend_contrastive(image, text),
        )
    expected = attention * head.sqrt()
    torch.testing.assert_close(both, expected / expected.sum(-1, keepdim=True))
    scores = score(one.model, one.tokenizer, Snapshot.open(snapshot).split("val")).metrics
    assert {"pointing_trace", "pointing_trace_attention", "pointing_trace_contrastive"} <= set(
        scores
    )

    one.model.config.contrastive_share = 0.0
    np.testing.assert_array_equal(one.attend("a red circle").maps, layers["attention 4x4"])


def test_a_share_needs_softmaxes(snapshot):
    with pytest.raises(ValueError, match="contrastive_share .* needs loss.localization ce"):
        small(snapshot, model__contrastive_share=0.5, loss__localization="l2")


def test_a_model_trained_without_localization_has_its_contrastive_map_only(
    snapshot, item, tmp_path
):
    settings = small(snapshot, loss__localization_weight=0.0, train__steps=2)
    train(settings, Run(tmp_path / "run"))
    one = Predictor.load(tmp_path / "run")
    one.set_image(decode_image(item.image))
    ((name, maps),) = one.layers("a red circle").items()
    assert name == "contrastive"
    np.testing.assert_array_equal(maps, one.attend("a red circle").maps)


def test_words_beyond_the_cut_have_an_empty_map(run, item):
    one = Predictor.load(run)
    one.set_image(decode_image(item.image))
    seen = one.attend("red " * 400)
    assert len(seen.words) == 400
    mass = seen.maps.sum(axis=(1, 2))
    assert mass[0] == pytest.approx(1, abs=1e-5) and mass[-1] == 0


@pytest.mark.parametrize("caption", ["🙂 שלום עולם", "zxqv", "naïve café"])
def test_no_text_is_unknown(run, item, caption):
    one = Predictor.load(run)
    one.set_image(decode_image(item.image))
    np.testing.assert_allclose(one.attend(caption).maps.sum(axis=(1, 2)), 1, atol=1e-5)


def test_an_empty_caption_and_a_missing_image_are_refused(run):
    one = Predictor.load(run)
    with pytest.raises(ValueError, match="set_image"):
        one.attend("a circle")
    one.set_image(np.zeros((1, 5000, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="empty"):
        one.attend("   ")
    assert one.attend("a circle").maps.shape == (2, 4, 4)


def test_a_run_without_a_checkpoint_says_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint 'best'; train first"):
        Predictor.load(tmp_path)


def test_the_command_writes_the_same_numbers(run, item, tmp_path):
    picture = tmp_path / "image.jpg"
    picture.write_bytes(item.image)
    one = Predictor.load(run)
    one.set_image(decode_image(item.image))
    seen = one.attend("a red circle")
    for name in ("out.json", "out.npz"):
        predictor.main(
            [
                "--run",
                str(run),
                "--image",
                str(picture),
                "--caption",
                "a red circle",
                "--to",
                str(tmp_path / name),
            ]
        )
    record = json.loads((tmp_path / "out.json").read_text())
    np.testing.assert_allclose(record["maps"], seen.maps, atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["maps"], seen.maps, atol=1e-6)
    assert record["words"] == ["a", "red", "circle"]


def test_evaluation_scores_what_the_predictor_shows(run, snapshot, item, tmp_path):
    """One item, by the command and by hand from the predictor's maps: equal to 1e-4."""
    from loctex.records import trace, words
    from loctex.scoring import metrics

    split = Snapshot.open(snapshot).split("val")
    one = Predictor.load(run)
    hits, boxes = [], []
    for each in (split[i] for i in range(len(split))):
        one.set_image(decode_image(each.image))
        narrative = each.narratives[0]
        seen = one.attend(narrative.caption, narrative.words)
        windows = words.windows(narrative.words, 0.2)
        target = trace.rasterize(narrative.strokes, windows, (4, 4))
        grounded = target.any(axis=(1, 2)) & seen.maps.any(axis=(1, 2))
        hits.append(metrics.pointing(seen.maps[grounded], target[grounded] > 0))
        boxes.append(metrics.lbm(seen.boxes, trace.boxes(narrative.strokes, windows)))
    evaluate.main(["--run", str(run), "--data", str(snapshot), "--to", str(tmp_path / "r.json")])
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["metrics"]["pointing_trace"] == pytest.approx(
        np.concatenate(hits).mean(), abs=1e-4
    )
    assert result["metrics"]["lbm_0"] == pytest.approx(np.mean(boxes), abs=1e-4)
    wanted = {
        "pointing_region",
        "pointing_region_chance",
        "pointing_region_contrastive",
        "energy",
        "auc",
        "iou",
        "lbm_1",
        "image_to_text_r1",
        "text_to_image_r10",
    }
    assert wanted <= set(result["metrics"])
    assert result["num_images"] == 4 and result["num_words"] == len(np.concatenate(hits))


def test_a_finer_scale_is_scored_with_its_own_chance_and_words_have_their_rows(
    snapshot, tmp_path, capsys
):
    wanted = small(snapshot, model__attention_scales=2, train__steps=2)
    train(wanted, Run(tmp_path / "run"))
    evaluate.main(
        [
            "--run",
            str(tmp_path / "run"),
            "--data",
            str(snapshot),
            "--split",
            "train",
            "--to",
            str(tmp_path / "r.json"),
        ]
    )
    result = json.loads((tmp_path / "r.json").read_text())
    found = result["metrics"]
    for name in ("pointing_region", "pointing_trace"):
        finer = [f"{name}_8x8{more}" for more in ("", "_chance", "_center")]
        assert all(0 <= found[key] <= 1 for key in finer)
        assert found[f"{name}_8x8_chance"] < found[f"{name}_chance"]  # smaller cells
    assert {"auc_8x8", "iou_8x8", "energy_8x8", "lbm_0_8x8"} <= set(found)
    rows = result["words"].values()
    assert sum(row.get("count", 0) for row in rows) <= result["num_words"]
    assert any(row.get("num_regions", 0) >= 5 for row in rows)
    lines = capsys.readouterr().out.splitlines()
    heading = next(i for i, line in enumerate(lines) if "at the trace" in line)
    word = lines[heading + 1].split()[0]
    assert any(name.startswith(word) for name in result["words"])


def test_the_training_decoder_and_the_predictor_see_the_same_square(item):
    image = decode_image(item.image)
    out = np.empty((64, 64, 3), dtype=np.uint8)
    decode_into(item.image, (0, 0, 1, 1), out)
    assert np.abs(out.astype(int) - answers.square(image, 64)).mean() < 1.0


def test_recorded_words_that_differ_from_the_caption_still_answer(run, item):
    one = Predictor.load(run)
    one.set_image(decode_image(item.image))
    with pytest.warns(UserWarning, match="differ"):
        seen = one.attend(
            "a red circle", [Word("a", 0, 1), Word("blue", 1, 2), Word("circle", 2, 3)]
        )
    assert seen.maps.shape[0] == 3


def test_a_matching_head_answers_and_shows_what_makes_it_answer(snapshot, item, tmp_path):
    settings = small(snapshot, loss__matching_weight=1.0, train__steps=4, train__log_every=1)
    train(settings, Run(tmp_path / "run"))
    one = Predictor.load(tmp_path / "run")
    one.set_image(decode_image(item.image))
    assert 0 < one.match("a red circle") < 1
    found = one.layers("a red circle")
    assert list(found) == ["attention 4x4", "contrastive", "grad-cam", "soft mask"]
    assert found["grad-cam"].shape == (3, 4, 4) and found["grad-cam"].min() >= 0
    assert set(found["grad-cam"].sum((1, 2)).round(5)) <= {0, 1}
    for gradcam, mask in zip(found["grad-cam"], found["soft mask"], strict=True):
        assert (mask.min(), mask.max()) in ((0, 1), (0, 0))
        assert (mask.max() == 0) == (np.ptp(gradcam) == 0)
        assert mask.argmax() == gradcam.argmax() or mask.max() == 0
    again = one.layers("a red circle")
    np.testing.assert_array_equal(found["grad-cam"], again["grad-cam"])
    assert all(p.grad is None for p in one.model.parameters())


def test_a_model_of_changed_words_says_how_much_it_doubts_each_word(snapshot, item, tmp_path):
    values = {"loss__changed_captions": True, "loss__changed_word_weight": 1.0, "train__steps": 2}
    train(small(snapshot, loss__matching_weight=1.0, **values), Run(tmp_path / "run"))
    one = Predictor.load(tmp_path / "run")
    one.set_image(decode_image(item.image))
    caption = "there is a red circle, left of " + "it and above " * 40
    doubts = one.doubt(caption)
    assert doubts.shape == (len(caption.split()),)
    known = [bool(doubt) for doubt in doubts[:7]]
    assert known == [False, False, False, True, True, True, False]  # no stop word was ever changed
    assert (doubts <= 1).all() and (doubts[100:] == 0).all()
    image, text, offsets, *_ = one._read(caption, None)
    with torch.inference_mode():
        cells = one.model.fusion.cells(image.last)
        fused = one.model.fusion(text.hidden, text.is_token, cells, image.grids[-1])
        falsehood = one.model.fusion.truth(fused.hidden).softmax(-1)[0, :, 0].numpy()
    circle = [t for t, (a, b) in enumerate(offsets) if b > 15 and a < 22 and b > a]
    assert doubts[4] == pytest.approx(falsehood[circle].max())
    one.model.config.exclusive_words = "red green; Left right"
    assert np.flatnonzero(one.doubt(caption)).tolist() == [3, 5]


def test_a_model_without_a_matching_head_has_no_probability(run, item):
    one = Predictor.load(run)
    one.set_image(decode_image(item.image))
    assert one.match("a red circle") is None and one.doubt("a red circle") is None


def test_the_training_path_and_the_inspecting_path_give_the_same_attention(run, snapshot):
    """Batches padded and worked on in groups of similar length, against one caption at a time."""
    split = Snapshot.open(snapshot).split("val")
    one = Predictor.load(run)
    images = [decode_image(split[i].image) for i in range(4)]
    captions = ["a circle", "a red circle above a blue square", "red", "two green stars and one"]
    order = np.argsort([len(c) for c in captions])
    captions = [captions[i] for i in order]
    size = one.model.config.image_size
    pixels = torch.from_numpy(np.stack([answers.square(image, size) for image in images]))
    tokens, offsets = tokenization.encode(one.tokenizer, captions, one.model.config.max_tokens)
    lengths = (tokens != one.tokenizer.pad_token_id).sum(axis=1)
    assert (np.diff(lengths) >= 0).all() and lengths[0] < lengths[-1]
    with torch.inference_mode():
        output = one.model(
            answers.normalise(pixels, one.model.config), torch.from_numpy(tokens), lengths.tolist()
        )
        form, head = ATTENTION[one.model.config.localization], one.model.attention[-1]
        fast = form(output.cosine[-1], head.scale).numpy().reshape(4, -1, 4, 4)
    for k, caption in enumerate(captions):
        one.set_image(images[k])
        seen = one.attend(caption)
        expected = answers.word_maps(fast[k], offsets[k], seen.spans)
        assert np.abs(seen.maps - expected).max() <= 1e-5
        assert abs(seen.score - float(output.image[k] @ output.text[k])) <= 1e-5


@pytest.mark.timed
@pytest.mark.slow
@pytest.mark.parametrize("preset, limit", [("tiny", 0.1), ("r50", 0.4)])
def test_a_new_caption_is_answered_in_time(snapshot, preset, limit):
    """On two cores; the fastest of 9, as other work may share them."""
    captions = Snapshot.open(snapshot).split("train").captions()
    words_of = tokenization.train(captions, 500, PRESETS[preset].data.max_tokens)
    built = build.build(PRESETS[preset], len(words_of), words_of.pad_token_id)
    one = Predictor(built, words_of)
    one.set_image(np.zeros((480, 640, 3), np.uint8))
    caption = "In this image we can see a red circle and a blue square beside two green stars. "
    one.attend(caption)
    took = []
    for k in range(9):
        begun = time.perf_counter()
        one.attend(f"{caption} {k}")
        one.layers(f"{caption} {k}")
        took.append(time.perf_counter() - begun)
    print(f"{preset}: median {np.median(took) * 1000:.0f} ms, fastest {min(took) * 1000:.0f} ms")
    assert min(took) <= limit
