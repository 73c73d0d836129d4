import numpy as np
import pytest
import torch

from loctex.loading import tokenization
from loctex.model import build
from loctex.model.model import cosines
from tests.loctex.small import small

CAPTIONS = ["A red circle is left of a blue square.", "Two green rings on sand"] * 3


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build.build(small("none"), vocab_size=300, pad_token_id=0).eval()


def test_a_saved_model_comes_back_bit_for_bit(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = build.load(tmp_path)
    assert sorted(again.state_dict()) == sorted(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    images, tokens = torch.rand(2, 3, 64, 64), torch.randint(4, 300, (2, 9))
    one, two = model(images, tokens), again.eval()(images, tokens)
    assert torch.equal(one.image, two.image) and torch.equal(one.text, two.text)


def test_weights_that_do_not_fit_the_config_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="do not fit"):
        build.load(tmp_path, {"text_layers": 3})


def test_a_cut_weights_file_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged"):
        build.load(tmp_path)


def test_a_folder_without_a_model_says_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="config.json is missing.*name a run"):
        build.load(tmp_path)


def test_an_unknown_backbone_is_refused_with_names_that_exist():
    with pytest.raises(ValueError, match="resnet50"):
        build.build(small("none", model__backbone="resnet5"), 300, 0)


def test_padding_changes_neither_embedding_nor_attention(model):
    tokens = torch.randint(4, 300, (3, 6))
    padded = torch.nn.functional.pad(tokens, (0, 5))
    one, two = model.encode_text(tokens), model.encode_text(padded)
    torch.testing.assert_close(one.embedding, two.embedding, atol=1e-6, rtol=0)
    torch.testing.assert_close(one.tokens[0], two.tokens[0][:, :6], atol=1e-6, rtol=0)


def test_the_fast_path_and_the_inspecting_path_give_the_same_attention(model):
    images, tokens = torch.rand(4, 3, 64, 64), torch.randint(4, 300, (4, 7))
    output = model(images, tokens)
    image, text = model.encode_image(images), model.encode_text(tokens)
    inspected = model.attend(image, text)[0]
    fast = (model.attention[0].scale * output.cosine[0]).softmax(-1)
    torch.testing.assert_close(inspected, fast, atol=1e-5, rtol=0)
    torch.testing.assert_close(inspected.sum(-1), torch.ones(4, 7), atol=1e-5, rtol=0)


def test_the_contrastive_map_commutes_with_pooling(model):
    """The mean over cells of the linear map is the linear map of the mean: METHOD 3's argument."""
    image = model.encode_image(torch.rand(2, 3, 64, 64))
    cells = model.image_projection(image.last.flatten(2).transpose(1, 2))
    pooled = torch.nn.functional.normalize(cells.mean(1), dim=-1)
    torch.testing.assert_close(pooled, image.embedding, atol=1e-5, rtol=0)


def test_two_scales_attend_on_both_grids_finest_first():
    torch.manual_seed(0)
    model = build.build(small("none", model__attention_scales=2), 300, 0).eval()
    image = model.encode_image(torch.rand(2, 3, 64, 64))
    text = model.encode_text(torch.randint(4, 300, (2, 5)))
    assert model.grids() == image.grids == [(8, 8), (4, 4)]
    assert [c.shape for c in cosines(image, text)] == [(2, 5, 64), (2, 5, 16)]


def test_without_localization_the_attention_is_frozen():
    model = build.build(small("none", loss__localization_weight=0), 300, 0)
    assert not any(p.requires_grad for p in model.attention.parameters())
    assert all(p.requires_grad for p in model.backbone.parameters())


def test_the_tokenizer_comes_back_and_its_offsets_name_the_characters(tmp_path):
    words = tokenization.train(CAPTIONS, 400, 16)
    words.save_pretrained(tmp_path)
    again = tokenization.load(tmp_path)
    for text in (*CAPTIONS[:2], "naïve 🙂 שלום the RED"):
        (tokens, offsets), (same, _) = (tokenization.encode(t, [text], 64) for t in (words, again))
        np.testing.assert_array_equal(tokens, same)
        pieces = "".join(text[a:b] for a, b in offsets[0][1:-1])
        covered = {i for a, b in offsets[0] for i in range(a, b)}
        assert covered == {i for i, letter in enumerate(text) if not letter.isspace()}
        assert set(pieces) == set(text) - {" "}
    assert words.unk_token is None


def test_what_is_remembered_equals_what_is_read_anew_and_the_oldest_is_forgotten():
    words = tokenization.train(CAPTIONS, 400, 16)
    captions = [f"{caption} {number} éß" for number, caption in enumerate(CAPTIONS[:6] * 4)]
    remembers = tokenization.CaptionEncoder(words, 16, size=10)
    for part in (captions[:4], captions, captions[2:9] * 2, captions[::-1]):
        for fast, slow in zip(
            tokenization.padded(remembers.rows(part), words.pad_token_id),
            tokenization.encode(words, part, 16),
            strict=True,
        ):
            np.testing.assert_array_equal(fast, slow)
        assert len(remembers._known) <= 10
    assert tokenization.read(words, [], 16) == []


def test_a_long_caption_is_cut_and_keeps_its_end():
    words = tokenization.train(CAPTIONS, 400, 8)
    tokens, offsets = tokenization.encode(words, ["red " * 400], 8)
    assert tokens.shape == (1, 8) and tokens[0, -1] == words.eos_token_id
    assert offsets[0, -1].tolist() == [0, 0]


def test_the_text_encoder_on_parts_of_similar_length_gives_the_same(model):
    lengths = [3, 3, 4, 6, 7, 9, 9]
    tokens = torch.zeros(7, 9, dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(4, 300, (length,))
    whole, parts = model.encode_text(tokens), model.encode_text(tokens, lengths)
    torch.testing.assert_close(parts.embedding, whole.embedding, atol=1e-6, rtol=0)
    mask = (tokens != 0)[..., None]
    torch.testing.assert_close(parts.tokens[0] * mask, whole.tokens[0] * mask, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "grid"),
    [
        ("swin_tiny_patch4_window7_224", {"depths": [1, 1, 1, 1], "img_size": 64}, (2, 2)),
        ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64}, (4, 4)),
        ("convnext_atto", {}, (2, 2)),
    ],
)
def test_other_families_of_backbones_answer_with_channels_first(name, options, grid):
    values = {"model__backbone": name, "model__backbone_options": options}
    model = build.build(small("none", **values), 300, 0).eval()
    assert model.grids() == [grid]
    output = model(torch.rand(2, 3, 64, 64), torch.randint(4, 300, (2, 5)))
    assert output.image.shape == (2, 16) and output.cosine[0].shape == (2, 5, grid[0] * grid[1])
