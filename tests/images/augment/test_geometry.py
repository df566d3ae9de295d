import math

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torchvision.transforms import InterpolationMode

from seesay.core.errors import InputError
from seesay.images.augment.geometry import (
    affine_maps,
    as_floats,
    draw_resized_crops,
    flip_maps,
    identity_maps,
    resize,
    shift_maps,
    show,
)
from seesay.images.augment.pipeline import augment, draw
from seesay.images.augment.trivial_augment import NAMES, Operations, draw_operations, operation_maps
from seesay.params.training import Affine, Augmentation, ResizedCrop

SIZE = 16
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
PLAIN = Augmentation(flip=False, crop_padding=0, cutout=0.0)
CROP = ResizedCrop(min_area=0.3, max_area=1.0, max_aspect=1.33)
AFFINE = Affine(rotation=20, translation=0.1, shear=10, zoom=0.2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.randint(256, (12, SIZE, SIZE, 3), generator=generator(), dtype=torch.uint8)


def inside(maps, margin=1.0):
    """Which pixels of the picture show a point at least `margin` pixels inside the image: bool (n, 1, S, S)."""
    steps = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    points = torch.stack(
        [steps.repeat(SIZE, 1), steps.repeat(SIZE, 1).T, torch.ones(SIZE, SIZE)]
    )  # (x, y, 1) of each pixel
    seen = torch.einsum("nij,jyx->niyx", maps[:, :2], points)
    return (seen.abs() < 0.5 - margin / SIZE).all(dim=1, keepdim=True)


def assert_same_inside(shown, expected, maps, atol=0.01):
    """To a hundredth of a level, since weights are rounded differently; beyond the edges each fills as it likes."""
    where = inside(maps).expand_as(shown)
    assert where.float().mean() > 0.3
    torch.testing.assert_close(shown[where], expected[where], rtol=0, atol=atol)


def test_the_identity_shows_the_image_itself(images):
    torch.testing.assert_close(show(images, identity_maps(12), size=SIZE), as_floats(images), rtol=0, atol=0.01)


def test_a_shift_worked_by_hand_shows_the_row_mirrored_at_its_last_pixel():
    """Four pixels seen from one to the right: the one beyond the last is the one before it."""
    row = torch.tensor([10, 20, 30, 40], dtype=torch.uint8)
    image = row[None, None, :, None].expand(1, 4, 4, 3).contiguous()
    shown = show(image, shift_maps(torch.tensor([0.25]), torch.tensor([0.0])), size=4)
    assert shown[0, 0, 0].tolist() == pytest.approx([20, 30, 40, 30], abs=1e-3)


def test_crop_and_flip_are_the_same_picked_or_sampled(images):
    augmentation = Augmentation(flip=True, crop_padding=3, cutout=0.25)
    moved = augmentation.model_copy(update={"affine": Affine(rotation=0, translation=0, shear=0, zoom=0)})
    picked, sampled = (
        augment(images, torch.arange(12), draw(12, one, image_size=SIZE, generator=generator()), one, **UNIT)
        for one in (augmentation, moved)
    )
    torch.testing.assert_close(sampled, picked, rtol=0, atol=1e-4)
    assert sampled.is_contiguous(memory_format=torch.channels_last)


def test_affine_maps_are_torchvisions_affine(images):
    rotation, shear = torch.linspace(-30, 30, 12), torch.linspace(20, -20, 12)
    zoom, across, down = torch.linspace(0.8, 1.3, 12), torch.linspace(-0.1, 0.1, 12), torch.linspace(0.1, 0.0, 12)
    maps = affine_maps(rotation=rotation, shear=shear, zoom=zoom, across=across, down=down)
    floats = as_floats(images)
    expected = torch.stack(
        [
            reference.affine(
                floats[row],
                angle=float(rotation[row]),
                translate=[float(across[row]) * SIZE, float(down[row]) * SIZE],
                scale=float(zoom[row]),
                shear=[float(shear[row]), 0.0],
                interpolation=InterpolationMode.BILINEAR,
            )
            for row in range(12)
        ]
    )
    assert_same_inside(show(images, maps, size=SIZE), expected, maps)


def test_what_is_done_first_is_the_left_factor(images):
    """Shown from a quarter to the right, then mirrored: the picture's left edge is what was its right edge."""
    quarter = shift_maps(torch.full((12,), 0.25), torch.zeros(12))
    mirrored = flip_maps(torch.ones(12, dtype=torch.bool))
    both = show(images, quarter @ mirrored, size=SIZE)
    torch.testing.assert_close(both, show(images, quarter, size=SIZE).flip(3), rtol=0, atol=0.01)


def test_a_resized_crop_is_the_window_resized(images):
    maps = draw_resized_crops(12, CROP, generator=generator())
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    left, top = maps[:, 0, 2] + 0.5 - width / 2, maps[:, 1, 2] + 0.5 - height / 2
    assert float(torch.stack([left, top]).min()) >= -1e-6
    assert float(torch.stack([left + width, top + height]).max()) <= 1 + 1e-6
    # Whole pixels: the window of rows 4 to 11 and columns 2 to 9 at twice its size, but for its outermost pixels.
    window = shift_maps(torch.full((12,), 6 / SIZE - 0.5), torch.full((12,), 8 / SIZE - 0.5))
    window[:, 0, 0] = window[:, 1, 1] = 0.5
    expected = reference.resized_crop(as_floats(images), 4, 2, 8, 8, [SIZE, SIZE], antialias=False)
    shown = show(images, window, size=SIZE)
    torch.testing.assert_close(shown[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=0, atol=0.01)


def test_resized_crops_have_the_areas_and_aspects_asked_for():
    maps = draw_resized_crops(4000, CROP, generator=generator())
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    area, aspect = width * height, width / height
    assert 0.3 <= float(area.min()) < 0.32
    assert 0.98 < float(area.max()) <= 1.0001
    assert 1 / 1.33 - 1e-4 <= float(aspect.min()) < 0.77
    assert 1.3 < float(aspect.max()) <= 1.33 + 1e-4
    assert abs(float(aspect.log().mean())) < 0.01
    assert len(set(maps[:, 0, 2].tolist())) > 3900  # each image has its own place


def test_a_window_that_never_fits_is_the_whole_image():
    whole = draw_resized_crops(50, ResizedCrop(min_area=1.0, max_area=1.0, max_aspect=2.0), generator=generator())
    assert torch.equal(whole, identity_maps(50))


def test_rotation_shear_zoom_and_translation_stay_within_their_limits():
    """Of rotation alone the map is cos, sin / -sin, cos; a zoom z has 1 / z on its diagonal."""

    def maps(**limits):
        nothing = {"rotation": 0.0, "translation": 0.0, "shear": 0.0, "zoom": 0.0}
        augmentation = PLAIN.model_copy(update={"affine": Affine(**{**nothing, **limits})})
        return draw(2000, augmentation, image_size=SIZE, generator=generator()).maps

    angles = torch.asin(maps(rotation=20.0)[:, 0, 1]).rad2deg()
    assert -20.001 <= float(angles.min()) < -19
    assert 19 < float(angles.max()) <= 20.001
    zooms = 1 / maps(zoom=0.2)[:, 0, 0]
    assert 0.7999 <= float(zooms.min()) < 0.81
    assert 1.19 < float(zooms.max()) <= 1.2001
    slopes = maps(shear=45.0)[:, 0, 1]
    assert -1.001 <= float(slopes.min()) < -0.9
    assert 0.9 < float(slopes.max()) <= 1.001
    moves = maps(translation=0.1)[:, :2, 2]
    assert -0.1001 <= float(moves.min()) < -0.09
    assert 0.09 < float(moves.max()) <= 0.1001
    assert len(set(moves.flatten().tolist())) > 3900


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_trivial_augments_geometry_is_torchvisions(images, name):
    unsigned = {"shear": 0.4, "translate": 3.7, "rotate": 33.0}[name.split("_")[0]]
    strength = torch.tensor([unsigned, -unsigned] * 6)
    maps = operation_maps(Operations(torch.full((12,), NAMES.index(name)), strength), image_size=SIZE)
    floats = as_floats(images)

    def expected(image, value):
        still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        how = {"interpolation": InterpolationMode.BILINEAR}
        match name:  # as in torchvision's _apply_image_or_video_transform
            case "shear_x":
                shear = [math.degrees(math.atan(value)), 0.0]
                return reference.affine(image, **{**still, "shear": shear}, center=[0, 0], **how)
            case "shear_y":
                shear = [0.0, math.degrees(math.atan(value))]
                return reference.affine(image, **{**still, "shear": shear}, center=[0, 0], **how)
            case "translate_x":
                return reference.affine(image, **{**still, "translate": [int(value), 0]}, **how)
            case "translate_y":
                return reference.affine(image, **{**still, "translate": [0, int(value)]}, **how)
        return reference.rotate(image, angle=value, **how)

    wanted = torch.stack([expected(image, float(value)) for image, value in zip(floats, strength, strict=True)])
    assert_same_inside(show(images, maps, size=SIZE), wanted, maps)


def test_trivial_augments_colour_operations_leave_the_shape():
    operations = draw_operations(300, generator=generator())
    maps = operation_maps(operations, image_size=SIZE)
    is_geometric = torch.tensor([name.startswith(("shear", "translate", "rotate")) for name in NAMES])[operations.kind]
    assert torch.equal(maps[~is_geometric], identity_maps(int((~is_geometric).sum())))


def test_images_are_resized_as_torchvision_resizes_them(images):
    expected = reference.resize(images.permute(0, 3, 1, 2), [10, 10], antialias=True).float()
    assert torch.equal(resize(images, size=10), expected)


@pytest.mark.parametrize("changes", [{}, {"crop_padding": 2, "flip": True}, {"resized_crop": CROP}])
def test_a_smaller_size_is_the_same_picture_with_fewer_pixels(changes):
    """Images that change slowly: a colour for each quarter of the height, smoothed."""
    coarse = torch.rand(12, 3, 4, 4, generator=generator()) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 255)
    stored = smooth.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()
    augmentation = PLAIN.model_copy(update=changes)
    draws = draw(12, augmentation, image_size=32, generator=generator())
    rows = torch.arange(12)
    full = augment(stored, rows, draws, augmentation, **UNIT)
    half = augment(stored, rows, draws, augmentation, **UNIT, size=16)
    assert half.shape == (12, 3, 16, 16)
    assert half.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(full, 2), rtol=0, atol=0.03)


def test_the_cutout_of_a_smaller_size_has_the_same_share_and_stays_inside(images):
    """A share of a half: squares of 8 in 16 pixels, of 5 in 10; places 0 to 8 become 0 to 5."""
    augmentation = PLAIN.model_copy(update={"cutout": 0.5})
    draws = draw(12, augmentation, image_size=SIZE, generator=generator())
    batch = augment(images.clamp(min=1), torch.arange(12), draws, augmentation, **UNIT, size=10)
    for result, top, left in zip(batch, draws.cutout_top * 5 // 8, draws.cutout_left * 5 // 8, strict=True):
        assert not result[:, top : top + 5, left : left + 5].any()
        assert int((result == 0).all(0).sum()) == 25


@pytest.mark.parametrize("size", [0, 17])
def test_a_size_beyond_the_stored_one_is_refused(images, size):
    draws = draw(12, PLAIN, image_size=SIZE, generator=generator())
    with pytest.raises(InputError, match=f"got {size}: expected 1 to the stored images' 16"):
        augment(images, torch.arange(12), draws, PLAIN, **UNIT, size=size)
