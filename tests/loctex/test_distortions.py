import numpy as np
import pytest
import torch

from loctex.loading import augment, distortions
from loctex.loading.augment import Augmentation
from loctex.loading.distortions import Distortion
from loctex.records import trace
from loctex.settings import DataSettings

SIZE = 64


def dot(x: float, y: float) -> torch.Tensor:
    """(1, S, S, 3) a bright spot on the mean color, where nothing else is."""
    columns, rows = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE, (np.arange(SIZE) + 0.5) / SIZE)
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 0.03**2))
    return torch.from_numpy(np.repeat(spot[None, ..., None], 3, -1)).float()


@pytest.mark.parametrize("seed", range(12))
def test_a_point_moves_with_its_pixel(seed):
    """Every operation that moves pixels carries the trace: to a tenth of a pixel."""
    random = np.random.default_rng(seed)
    what = distortions.draw(random, 3, 0.6)
    x, y = random.uniform(0.4, 0.6, 2)
    moved = distortions.apply_map(dot(x, y), what.tensor()[None])[0, ..., 0].double()
    centers = (torch.arange(SIZE) + 0.5).double() / SIZE
    mass = moved.sum()
    found = [float((moved.sum(axis) * centers).sum() / mass) for axis in (0, 1)]
    want = trace.move([np.array([[x, y, 1.5]])], what.matrix)[0][0]
    np.testing.assert_allclose(found, want[:2], atol=0.1 / SIZE + 1e-3)
    assert want[2] == 1.5


def test_points_and_pixels_are_cropped_then_distorted_then_mirrored():
    matrix = np.array([[1.0, 0.0, 0.25], [0.0, 1.0, 0.0]])  # a quarter to the right
    what = Augmentation(box=(0.0, 0.0, 0.5, 1.0), is_flipped=True, distortion=Distortion(matrix))
    moved = augment.apply_to_trace([np.array([[0.125, 0.5, 0.0]])], what)[0][0]
    np.testing.assert_allclose(moved[:2], [0.5, 0.5])  # .25 of the crop, then .5, then mirrored
    image = (dot(0.25, 0.5) * 255).to(torch.uint8)
    pixels = augment.apply_to_pixels(
        image, torch.tensor([True]), distorted=what.distortion.tensor()[None]
    )
    row, column = np.unravel_index(int(pixels[0, 0].argmax()), (SIZE, SIZE))
    np.testing.assert_allclose([(column + 0.5) / SIZE, (row + 0.5) / SIZE], [0.5, 0.5], atol=0.02)


def test_no_distortion_leaves_every_pixel_as_it_is():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 12, 12, 3), dtype=torch.uint8)
    flips = torch.tensor([False, True])
    same = augment.apply_to_pixels(images, flips, distorted=Distortion().tensor().repeat(2, 1))
    torch.testing.assert_close(same, augment.apply_to_pixels(images, flips), atol=1e-4, rtol=0)


def test_tones_are_what_their_names_say():
    pixels = torch.tensor([0.1, 0.6, 0.9])[None, None, :, None].expand(1, 3, 3, 3).contiguous()
    solarized = distortions.apply_tones(pixels, Distortion(solarize=0.8).tensor()[None])
    torch.testing.assert_close(solarized[0, 0, :, 0], torch.tensor([0.1, 0.6, 0.1]))
    posterized = distortions.apply_tones(pixels, Distortion(levels=2.0).tensor()[None])
    assert posterized[0, 0, :, 0].tolist() == [0, 1, 1]
    blurred = distortions.apply_tones(pixels, Distortion(sharpness=1.0).tensor()[None])
    torch.testing.assert_close(blurred[0, 1, 1], torch.full((3,), (0.1 + 0.6 + 0.9) / 3))


def test_the_setting_off_draws_nothing_and_on_keeps_its_strength():
    random = np.random.default_rng(0)
    drawn = augment.draw(random.random((1, augment.DRAWS)), DataSettings(), [(100, 100)])
    assert drawn[0].distortion is None
    drawn = [distortions.draw(random, 1, 0.5) for _ in range(400)]
    shifts = np.array([d.matrix[:, 2] for d in drawn if np.allclose(d.matrix[:, :2], np.eye(2))])
    assert 0.1 < abs(shifts).max() <= 0.5 * distortions.SHIFT
    assert all(d.solarize >= 0.5 and d.levels >= 2**6 and abs(d.sharpness) <= 0.5 for d in drawn)
    moved = np.mean([not np.allclose(d.matrix, np.eye(2, 3)) for d in drawn])
    assert moved == pytest.approx(5 / 8, abs=0.1)
