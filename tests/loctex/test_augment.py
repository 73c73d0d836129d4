import numpy as np
import pytest
import torch

from loctex.loading import augment
from loctex.loading.augment import Augmentation
from loctex.records import words
from loctex.settings import DataSettings


def test_pixels_flip_as_points_do():
    image = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    image[0, 2, 1] = 255  # the cell of (1.5 / 8, 2.5 / 8)
    pixels = augment.apply_to_pixels(torch.from_numpy(image), torch.tensor([True]))
    y, x = np.unravel_index(int(pixels[0, 0].argmax()), (8, 8))
    stroke = np.array([[1.5 / 8, 2.5 / 8, 0.0]])
    moved = augment.apply_to_trace([stroke], Augmentation(is_flipped=True))[0][0]
    np.testing.assert_allclose(((x + 0.5) / 8, (y + 0.5) / 8), moved[:2])


def test_a_crop_then_flip_carries_the_point_with_its_pixel():
    box = (0.25, 0.5, 0.75, 1.0)
    moved = augment.apply_to_trace([np.array([[0.3, 0.6, 1.0]])], Augmentation(box, True))[0][0]
    np.testing.assert_allclose(moved, [0.9, 0.2, 1.0])


def test_the_caption_is_mirrored_only_with_the_image():
    caption, spans = "left of it", words.spans("left of it", words.estimate("left of it"))
    assert augment.apply_to_caption(caption, spans, Augmentation())[0] == caption
    assert (
        augment.apply_to_caption(caption, spans, Augmentation(is_flipped=True))[0] == "right of it"
    )


def test_crops_lie_inside_with_area_and_aspect_in_range():
    random = np.random.default_rng(0)
    drawn = augment.draw(random.random((500, augment.DRAWS)), DataSettings(), [(300, 200)] * 500)
    boxes = np.array([one.box for one in drawn])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 1
    assert (w * h).min() >= 0.2 - 1e-9
    whole = (w == 1) & (h == 1)
    ratio = (w / h * 1.5)[~whole]
    assert ratio.min() >= 0.75 - 1e-9 and ratio.max() <= 4 / 3 + 1e-9
    assert np.std(w * h) > 0.1


def test_what_is_drawn_for_a_place_does_not_depend_on_what_is_drawn_with_it():
    whole = augment.uniforms(3, 1, 0, 100)
    assert 0 <= whole.min() and whole.max() < 1 and abs(whole.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(augment.uniforms(3, 1, 37, 5), whole[37:42])
    for other in ((3, 2), (4, 1)):
        assert not np.isin(augment.uniforms(*other, 0, 5), whole).any()
    sizes = [(300, 200), (200, 300)] * 50
    together = augment.draw(whole, DataSettings(), sizes)
    alone = augment.draw(whole[40:41], DataSettings(), sizes[40:41])[0]
    assert alone.box == together[40].box and alone.contrast == together[40].contrast
    np.testing.assert_array_equal(alone.color, together[40].color)
    assert 0.3 < np.mean([one.is_flipped for one in together]) < 0.7


def test_no_color_change_is_the_normalised_image():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 6, 6, 3), dtype=torch.uint8)
    flips = torch.zeros(2, dtype=torch.bool)
    plain = augment.apply_to_pixels(images, flips)
    same = augment.apply_to_pixels(images, flips, torch.eye(3).repeat(2, 1, 1), torch.ones(2))
    wanted = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(augment.MEAN).view(3, 1, 1)) / (
        torch.tensor(augment.STD).view(3, 1, 1)
    )
    torch.testing.assert_close(plain, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(same, wanted, atol=1e-5, rtol=0)


def test_zero_saturation_is_gray_and_a_third_of_the_hue_circle_moves_the_color():
    red = np.array([1.0, 0.0, 0.0])
    gray = augment.color_matrix(1.0, 0.0, 0.0) @ red
    assert np.ptp(gray) < 1e-9 and gray[0] == pytest.approx(0.299)
    turned = augment.color_matrix(1.0, 1.0, 1 / 3) @ red
    assert turned.argmax() != 0
    full = augment.color_matrix(1.0, 1.0, 1.0) @ red
    np.testing.assert_allclose(full, red, atol=1e-9)


def test_contrast_zero_leaves_each_image_at_its_own_mean_gray():
    images = torch.tensor([[[[255, 255, 255], [0, 0, 0]]]], dtype=torch.uint8)
    pixels = augment.apply_to_pixels(
        images, torch.tensor([False]), torch.eye(3)[None], torch.zeros(1)
    )
    assert float(pixels[0, :, 0, 0].sub(pixels[0, :, 0, 1]).abs().max()) < 1e-6
