import pytest
import torch

from seesay.core.errors import InputError
from seesay.core.settings import validate
from seesay.images.augment.pipeline import augment, draw
from seesay.params.training import Affine, Augmentation, ColourJitter, Mixing, ResizedCrop

SIZE = 16
OFF = {"flip": True, "crop_padding": 0, "cutout": 0.3}
ON = {
    "resized_crop": {"min_area": 0.3, "max_area": 1.0, "max_aspect": 1.33},
    "affine": {"rotation": 15, "translation": 0.1, "shear": 10, "zoom": 0.1},
    "colour_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    "trivial_augment": True,
    "mixing": {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "probability": 0.5},
}


def settings(**written):
    return validate({**OFF, **written}, Augmentation, where="params.yaml", prefix=["augmentation"])


def drawn(augmentation, num_images=40, seed=0):
    return draw(num_images, augmentation, image_size=SIZE, generator=torch.Generator().manual_seed(seed))


def flat(draws):
    """Every drawn tensor by name."""
    values = {}
    for name in ("top", "left", "flip", "cutout_top", "cutout_left", "maps", "colours"):
        values[name] = getattr(draws, name)
    if draws.operations is not None:
        values |= {"kind": draws.operations.kind, "strength": draws.operations.strength}
    if draws.mixes is not None:
        values |= {name: getattr(draws.mixes, name) for name in ("own_share", "is_cut", "centre", "partner")}
    return {name: value for name, value in values.items() if value is not None}


def test_settings_are_read_as_written_and_what_is_absent_is_off():
    assert settings() == Augmentation(**OFF)
    assert settings().mixing is None
    assert settings(**ON) == Augmentation(
        **OFF,
        resized_crop=ResizedCrop(min_area=0.3, max_area=1.0, max_aspect=1.33),
        affine=Affine(rotation=15, translation=0.1, shear=10, zoom=0.1),
        colour_jitter=ColourJitter(brightness=0.4, contrast=0.4, saturation=0.4),
        trivial_augment=True,
        mixing=Mixing(mixup_alpha=0.2, cutmix_alpha=1.0, probability=0.5),
    )


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"crop_padding": 2, **ON}, "augmentation: crop_padding: got 2: expected 0 beside resized_crop"),
        (
            {"resized_crop": {"min_area": 0.5, "max_area": 0.4, "max_aspect": 1.3}},
            "min_area: got 0.5: expected at most",
        ),
        ({"resized_crop": {"min_area": 0.0, "max_area": 1.0, "max_aspect": 1.3}}, "resized_crop.min_area: got 0.0"),
        ({"resized_crop": {"min_area": 0.3, "max_area": 1.0, "max_aspect": 0.7}}, "resized_crop.max_aspect: got 0.7"),
        ({"resized_crop": {"min_area": 0.3, "max_area": 1.0}}, "augmentation.resized_crop.max_aspect: missing"),
        ({"affine": {**ON["affine"], "shear": 90}}, "augmentation.affine.shear: got 90"),
        ({"affine": {**ON["affine"], "zoom": 1.0}}, "augmentation.affine.zoom: got 1.0"),
        ({"affine": {**ON["affine"], "rotate": 5}}, "affine.rotate: unknown key; allowed here: rotation, shear"),
        ({"colour_jitter": {**ON["colour_jitter"], "contrast": 1.5}}, "augmentation.colour_jitter.contrast: got 1.5"),
        ({"trivial_augment": "yes"}, "augmentation.trivial_augment: got 'yes'"),
        ({"mixing": {**ON["mixing"], "probability": 0.0}}, "augmentation.mixing.probability: got 0.0"),
        (
            {"mixing": {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "probability": 0.5}},
            "augmentation.mixing: mixup_alpha and",
        ),
        ({"mixing": {**ON["mixing"], "mixup_alpha": -1.0}}, "augmentation.mixing.mixup_alpha: got -1.0"),
    ],
)
def test_wrong_settings_are_refused_by_key_value_and_what_was_expected(written, says):
    with pytest.raises(InputError) as error:
        settings(**written)
    assert says in str(error.value)


def test_crop_flip_and_cutout_are_drawn_as_ever_whatever_else_is_on():
    """Values of the first version: a change of them would train every network anew."""
    for augmentation in (settings(crop_padding=0, cutout=0.25), settings(cutout=0.25, **ON)):
        draws = drawn(augmentation, num_images=6)
        assert draws.flip.tolist() == [True, True, True, False, False, False]
        assert draws.cutout_top.tolist() == [12, 7, 12, 2, 9, 9]


@pytest.mark.parametrize("off", [*ON, "flip"])
def test_turning_one_switch_off_leaves_the_other_draws_as_they_were(off):
    everything = flat(drawn(settings(**ON)))
    changed = {"trivial_augment": False, "flip": False}.get(off)
    rest = flat(drawn(settings(**{**ON, off: changed})))
    changed_by = {
        "resized_crop": {"maps"},
        "affine": {"maps"},
        "colour_jitter": {"colours"},
        "trivial_augment": {"kind", "strength", "maps"},
        "mixing": {"own_share", "is_cut", "centre", "partner"},
        "flip": {"flip", "maps"},
    }[off]
    assert set(everything) - set(rest) <= changed_by
    for name, value in everything.items():
        assert name in changed_by or torch.equal(rest[name], value), name


@pytest.mark.parametrize("switch", ["resized_crop", "affine", "colour_jitter", "trivial_augment"])
def test_each_switch_is_random_per_image_and_repeats_with_the_generator(switch):
    image = torch.randint(256, (1, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    augmentation = Augmentation(flip=False, crop_padding=0, cutout=0.0).model_copy(
        update={switch: getattr(settings(**ON), switch)}
    )

    def batch(seed):
        rows = torch.zeros(40, dtype=torch.long)  # the same image, forty times
        unit = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
        return augment(image, rows, drawn(augmentation, seed=seed), augmentation, **unit)

    first = batch(0)
    assert torch.equal(first, batch(0))
    assert not torch.equal(first, batch(1))
    assert len({tuple(one.flatten().tolist()) for one in first}) > 20
    assert float(first.min()) >= 0.0
    assert float(first.max()) <= 1.0


def test_everything_at_once_is_sliced_together():
    draws = drawn(settings(**ON))
    for name, value in flat(draws[3:9]).items():
        assert torch.equal(value, flat(draws)[name][3:9])
    moved = draws.to(torch.device("cpu"))
    assert flat(moved).keys() == flat(draws).keys()
