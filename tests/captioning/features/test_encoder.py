import pytest
import torch
import torchvision

from seesay.captioning.features.adapters import SmallCnn
from seesay.captioning.features.encoders import load_feature_encoder
from seesay.classification.networks.published import build_published
from seesay.core.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pooled_encoder(architecture, path):
    return load_feature_encoder(architecture, path, grid_size=None)


@pytest.fixture(scope="module")
def mobilenet():
    torch.manual_seed(0)
    network = torchvision.models.get_model("mobilenet_v2", weights=None)
    for module in network.modules():  # as after training: batch norms that change something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def mobilenet_file(mobilenet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(mobilenet.state_dict(), path)
    return path


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_torchvisions_weights_give_torchvisions_features(mobilenet, mobilenet_file, images):
    """timm's mobilenetv2_100 is torchvision's mobilenet_v2, with other names in the same order."""
    encoder = pooled_encoder("mobilenetv2_100", mobilenet_file)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = mobilenet.features((images / 255 - mean) / std).mean(dim=(2, 3))
        found = encoder(images)["pooled"]
    assert encoder.num_dimensions == 1280
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_an_encoder_is_frozen(mobilenet_file):
    encoder = pooled_encoder("mobilenetv2_100", mobilenet_file)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_batch_norms_are_gone(mobilenet_file):
    encoder = pooled_encoder("mobilenetv2_100", mobilenet_file)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in encoder.modules())


def test_an_unknown_network_is_refused_with_a_near_one(mobilenet_file):
    with pytest.raises(InputError, match=r"got 'mobilenetv2_10': expected the name of a model of timm; did you mean"):
        pooled_encoder("mobilenetv2_10", mobilenet_file)
    with pytest.raises(InputError, match=r"torchvision's mobilenet_v2 is mobilenetv2_100 there"):
        pooled_encoder("mobilenet_v2", mobilenet_file)
    with pytest.raises(InputError, match=r"got 'resnet18\.nobodys': "):
        pooled_encoder("resnet18.nobodys", mobilenet_file)
    with pytest.raises(InputError, match=r"got 'hf-hub:timm/resnet18': expected the name of a model of timm"):
        pooled_encoder("hf-hub:timm/resnet18", mobilenet_file)


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.pth: no such file"):
        pooled_encoder("mobilenetv2_100", tmp_path / "absent.pth")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_weights_file_is_named(damage, mobilenet_file, tmp_path):
    path = tmp_path / "damaged.pth"
    content = mobilenet_file.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"<html>404</html>"}[damage])
    with pytest.raises(InputError, match=r"damaged\.pth: not a readable state dict of mobilenetv2_100"):
        pooled_encoder("mobilenetv2_100", path)


def test_weights_of_another_network_are_refused(mobilenet_file):
    with pytest.raises(InputError, match=r"mobilenet_v2\.pth: not the weights of timm's resnet18: .*missing"):
        pooled_encoder("resnet18", mobilenet_file)


def test_weights_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "ten_classes.pth"
    torch.save({**build_published("test_resnet").state_dict(), "fc.weight": torch.zeros(10, 96)}, path)
    with pytest.raises(InputError, match=r"ten_classes\.pth: .*fc\.weight has shape \(10, 96\)"):
        pooled_encoder("test_resnet", path)


def test_a_file_that_holds_no_tensors_is_refused(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"list\.pth: expected a state dict"):
        pooled_encoder("mobilenetv2_100", path)


def test_files_older_than_the_batch_counter_load(mobilenet, tmp_path):
    path = tmp_path / "old.pth"
    old = {name: value for name, value in mobilenet.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, path)
    assert pooled_encoder("mobilenetv2_100", path).num_dimensions == 1280


def test_only_the_untrained_network_goes_without_weights(mobilenet_file):
    expected = "encoder 'mobilenetv2_100': expected weights, which only small_cnn does without"
    with pytest.raises(InputError, match=expected):
        pooled_encoder("mobilenetv2_100", None)
    with pytest.raises(InputError, match="encoder 'small_cnn': expected weights: null"):
        pooled_encoder("small_cnn", mobilenet_file)


def test_the_untrained_network_is_the_same_every_time(images):
    torch.manual_seed(1)
    first = pooled_encoder("small_cnn", None)(images)["pooled"]
    torch.manual_seed(2)
    assert torch.equal(first, pooled_encoder("small_cnn", None)(images)["pooled"])
    assert first.shape == (2, SmallCnn.num_dimensions)
    assert first.isfinite().all()


def features_of(image):
    """(8, 27, 3, 3): what is kept of each colour in each cell."""
    return pooled_encoder("small_cnn", None)(image.unsqueeze(0))["pooled"].view(8, 27, 3, 3)


RED, BLACK = 18, 0  # (0.9, 0.1, 0.1) and (0.1, 0.1, 0.1) among the 27 colours


def square(*, top, left, size=20):
    image = torch.full((3, 96, 96), 25, dtype=torch.uint8)
    image[0, top : top + size, left : left + size] = 230
    return image


def test_the_untrained_network_sees_colours_and_where_they_are():
    areas = features_of(square(top=70, left=6))[0]
    assert areas.sum(dim=0).flatten().tolist() == pytest.approx([1.0] * 9, abs=1e-3)  # each pixel has one colour
    assert areas[RED].argmax() == 6  # the cell at the bottom left
    assert areas[RED, 2, 0] == pytest.approx(400 / 32**2, abs=0.05)
    assert areas[BLACK, 0, 2] > 0.9


def test_the_untrained_network_tells_a_square_from_a_disc():
    # Edges of an upright square all have a direction of 0, 90, 180 or 270 degrees: cos(4 x direction) is 1 for each; a
    # disc has all directions alike and averages to 0.
    row, column = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    disc = torch.full((3, 96, 96), 25, dtype=torch.uint8)
    disc[0][(row - 48) ** 2 + (column - 48) ** 2 < 12**2] = 230

    def share_upright(image):
        strength, upright = features_of(image)[1, RED].sum(), features_of(image)[4, RED].sum()
        return float(upright / strength)

    assert share_upright(square(top=38, left=38)) > 0.8
    assert abs(share_upright(disc)) < 0.2
