import pytest
import torch
import torchvision.transforms.v2.functional as reference

from seesay.images.augment import colour
from seesay.images.augment.pipeline import augment, draw
from seesay.images.augment.trivial_augment import NAMES, Operations, change_colours, draw_operations
from seesay.params.training import Augmentation, ColourJitter

SIZE = 16
PLAIN = Augmentation(flip=False, crop_padding=0, cutout=0.0)
FACTORS = torch.tensor([0.0, 0.3, 0.7, 1.0, 1.4, 1.9])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    """Six images of whole levels, float32 (6, 3, 16, 16)."""
    levels = torch.randint(30, 220, (6, 3, SIZE, SIZE), generator=generator())
    return levels.float()


def per_image(function, images, values):
    """torchvision's function, image by image, on uint8."""
    results = [function(image.to(torch.uint8), value.item()) for image, value in zip(images, values, strict=True)]
    return torch.stack(results).float()


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "sharpness"])
def test_each_image_is_adjusted_by_its_own_factor_as_torchvision_does(images, kind):
    """Within two levels: torchvision rounds down the grey and the result, or rounds the blurred image."""
    adjusted = getattr(colour, f"adjust_{kind}")(images, FACTORS)
    expected = per_image(getattr(reference, f"adjust_{kind}"), images, FACTORS)
    assert float((adjusted - expected).abs().max()) < 2.0
    assert torch.equal(adjusted[3], images[3])  # a factor of one
    assert float(adjusted.min()) >= 0
    assert float(adjusted.max()) <= 255


def test_brightness_is_the_one_worked_by_hand():
    image = torch.tensor([100.0, 200.0, 40.0])[None, :, None, None]
    assert colour.adjust_brightness(image, torch.tensor([1.5])).flatten().tolist() == [150.0, 255.0, 60.0]


def test_posterize_and_solarize_are_torchvisions_exactly(images):
    bits, thresholds = (
        torch.tensor([2.0, 3.0, 4.0, 5.0, 7.0, 8.0]),
        torch.tensor([0.0, 51.0, 99.5, 128.0, 200.0, 255.0]),
    )
    expected = per_image(lambda image, value: reference.posterize(image, int(value)), images, bits)
    assert torch.equal(colour.posterize(images, bits), expected)
    assert torch.equal(colour.solarize(images, thresholds), per_image(reference.solarize, images, thresholds))


def test_autocontrast_and_equalize_are_torchvisions(images):
    images[0, 1] = 77.0  # a channel of one level
    whole = images.to(torch.uint8)
    assert float((colour.autocontrast(images) - reference.autocontrast(whole).float()).abs().max()) < 1.0
    assert torch.equal(colour.equalize(images), reference.equalize(whole).float())


def test_jitter_is_brightness_contrast_and_saturation_in_turn(images):
    settings = ColourJitter(brightness=0.4, contrast=0.3, saturation=0.2)
    factors = colour.draw_jitter(6, settings, generator=generator())
    expected = images
    for step, kind in enumerate(("brightness", "contrast", "saturation")):
        change = getattr(reference, f"adjust_{kind}")
        expected = torch.stack(
            [change(image / 255, float(factor)) * 255 for image, factor in zip(expected, factors[:, step], strict=True)]
        )
    torch.testing.assert_close(colour.jitter(images, factors, settings), expected, rtol=0, atol=0.01)


def test_factors_lie_within_their_limits_and_differ_from_image_to_image():
    factors = colour.draw_jitter(
        3000, ColourJitter(brightness=0.4, contrast=0.0, saturation=1.0), generator=generator()
    )
    assert 0.6 <= float(factors[:, 0].min()) < 0.61
    assert 1.39 < float(factors[:, 0].max()) <= 1.4
    assert torch.equal(factors[:, 1], torch.ones(3000))
    assert 0.0 <= float(factors[:, 2].min()) < 0.01
    assert 1.99 < float(factors[:, 2].max()) <= 2.0
    assert len(set(factors[:, 0].tolist())) > 2900


def test_jitter_comes_before_normalisation():
    """A brightness of 1.5 clips 200 to 255, and (1 - 0.5) / 0.25 is 2."""
    augmentation = PLAIN.model_copy(update={"colour_jitter": ColourJitter(brightness=0.5, contrast=0, saturation=0)})
    draws = draw(1, augmentation, image_size=SIZE, generator=generator())
    assert draws.colours is not None
    draws.colours[:] = 1.5
    images = torch.full((1, SIZE, SIZE, 3), 200, dtype=torch.uint8)
    batch = augment(images, torch.tensor([0]), draws, augmentation, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert torch.equal(batch, torch.full_like(batch, 2.0))


def test_trivial_augment_changes_each_image_by_its_own_operation_only(images):
    names = ["identity", "brightness", "posterize", "rotate", "solarize", "equalize"]
    strength = torch.tensor([0.0, -0.5, 3.0, 45.0, 100.0, 0.0])
    operations = Operations(torch.tensor([NAMES.index(name) for name in names]), strength)
    changed = change_colours(images.clone(), operations)
    assert torch.equal(changed[0], images[0])
    assert torch.equal(changed[1], images[1] * 0.5)
    assert torch.equal(changed[2], (images[2] / 32).floor() * 32)
    assert torch.equal(changed[3], images[3])  # the geometry's affair
    assert torch.equal(changed[4], torch.where(images[4] >= 100, 255 - images[4], images[4]))
    assert torch.equal(changed[5], colour.equalize(images[5:])[0])


@pytest.mark.parametrize("name", ["saturation", "contrast", "sharpness", "autocontrast"])
def test_trivial_augments_other_operations_reach_their_images(images, name):
    strength = torch.full((6,), 0.5)
    changed = change_colours(images.clone(), Operations(torch.full((6,), NAMES.index(name)), strength))
    change = getattr(colour, f"adjust_{name}", None)
    assert torch.equal(changed, change(images, 1 + strength) if change else colour.autocontrast(images))


def test_trivial_augment_draws_every_operation_at_torchvisions_strengths():
    from torchvision.transforms.v2 import TrivialAugmentWide

    theirs = list(TrivialAugmentWide._AUGMENTATION_SPACE.values())
    operations = draw_operations(20000, generator=generator())
    assert len(theirs) == len(NAMES)
    for kind, (name, (strengths, signed)) in enumerate(zip(NAMES, theirs, strict=True)):
        drawn = operations.strength[operations.kind == kind]
        assert 20000 / 14 * 0.85 < len(drawn) < 20000 / 14 * 1.15
        allowed = strengths(31, SIZE, SIZE)
        allowed = torch.zeros(1) if allowed is None else allowed.float() * (255 if name == "solarize" else 1)
        values = drawn.round() if name == "posterize" else drawn
        torch.testing.assert_close(values.abs().unique().sort()[0], allowed.unique(), rtol=1e-4, atol=1e-4)
        assert bool((drawn < 0).any()) == signed
