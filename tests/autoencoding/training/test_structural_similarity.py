import pytest
import torch
from scipy.ndimage import gaussian_filter

from seesay.autoencoding.training.fit import structural_similarity
from seesay.core.errors import InputError


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 24).expand(3, 3, 20, 24)
    return ramp.contiguous(), (ramp + 0.2 * torch.randn(3, 3, 20, 24, generator=generator)).clamp(0, 1)


def test_is_that_of_a_gaussian_window_over_mirrored_images(pair):
    first, second = (one.double().numpy() for one in pair)

    def blurred(values):
        return gaussian_filter(values, 1.5, mode="mirror", radius=5, axes=(2, 3))

    mean1, mean2 = blurred(first), blurred(second)
    variance1, variance2 = blurred(first**2) - mean1**2, blurred(second**2) - mean2**2
    covariance = blurred(first * second) - mean1 * mean2
    brightness = (2 * mean1 * mean2 + 1e-4) / (mean1**2 + mean2**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variance1 + variance2 + 9e-4)
    expected = (brightness * structure).mean(axis=(1, 2, 3))
    assert structural_similarity(*pair).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert structural_similarity(pair[0][:1], pair[1][:1]).shape == (1,)


def test_what_is_drawn_can_learn_from_it(pair):
    drawn = pair[1].clone().requires_grad_()
    structural_similarity(drawn, pair[0]).sum().backward()
    assert drawn.grad.abs().amax(dim=(1, 2, 3)).min() > 0


def test_of_hand_made_images_is_what_their_making_says():
    """Black against white, a checkerboard against its opposite, and an edge against itself moved by one pixel."""
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    edge = (torch.arange(16) > 7).float().expand(16, 16)
    first = torch.stack([torch.zeros(16, 16), board.float(), edge])[:, None].repeat(1, 3, 1, 1)
    second = torch.stack([torch.ones(16, 16), 1.0 - board, edge.roll(1, 1)])[:, None].repeat(1, 3, 1, 1)
    found = structural_similarity(first, second)
    # Black and white share no structure: only the constants are left, C1 / (1 + C1) of brightness and 1 of structure.
    assert found[0].item() == pytest.approx(1e-4 / (1 + 1e-4), rel=1e-3)
    assert found[1].item() < -0.9
    assert 0.0 < found[2].item() < 0.9  # alike away from the edge, and from the one that rolling makes at the border


def test_equal_images_are_wholly_alike_and_the_order_does_not_matter(pair):
    assert torch.allclose(structural_similarity(pair[0], pair[0]), torch.ones(3))
    assert torch.allclose(structural_similarity(*pair), structural_similarity(*reversed(pair)))


def test_an_image_too_small_to_be_reflected_is_refused():
    with pytest.raises(InputError, match=r"\(5, 16\) pixels: expected more than 5 a side"):
        structural_similarity(torch.zeros(1, 3, 5, 16), torch.zeros(1, 3, 5, 16))
