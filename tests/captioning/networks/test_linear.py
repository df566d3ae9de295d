import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seesay.captioning.networks.layers import MIN_ROWS, Linear, linear


class Recorded(TorchDispatchMode):
    """Which operators torch has run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))

    @property
    def by_onednn(self):
        return "to_mkldnn" in self.names


def layer(*, bias=True):
    torch.manual_seed(0)
    return Linear(6, 4, bias=bias)


def rows(*shape):
    return torch.randn(*shape, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(MIN_ROWS,), (3, MIN_ROWS), (MIN_ROWS, 5, 1)])
def test_many_rows_without_gradients_go_through_onednn_and_give_the_same(bias, shape):
    ours, x = layer(bias=bias), rows(*shape)
    with torch.no_grad(), Recorded() as recorded:
        found = ours(x)
    assert recorded.by_onednn
    expected = (x.unsqueeze(-2) * ours.weight).sum(-1) + (ours.bias if bias else 0.0)
    assert found.shape == (*shape, 4)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected.detach())


def test_rows_that_lie_apart_in_memory_are_multiplied_as_they_are_read():
    ours, x = layer(), rows(2, MIN_ROWS).transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), torch.nn.functional.linear(x, ours.weight, ours.bias))


def test_gradients_flow_as_through_torchs_own_layer():
    ours, x = layer(), rows(2 * MIN_ROWS).requires_grad_()
    with Recorded() as recorded:
        ours(x).square().sum().backward()
    assert not recorded.by_onednn
    weight = ours.weight.detach().clone().requires_grad_()
    torch.nn.functional.linear(x.detach(), weight, ours.bias.detach()).square().sum().backward()
    assert torch.equal(ours.weight.grad, weight.grad)


@pytest.mark.parametrize("why", ["few rows", "no rows", "another precision", "autocast"])
def test_else_it_is_torchs_own_to_the_last_bit(why):
    dtype = torch.float64 if why == "another precision" else torch.float32
    ours = layer().to(dtype)
    x = rows({"few rows": MIN_ROWS - 1, "no rows": 0}.get(why, MIN_ROWS)).to(dtype)
    with (
        torch.no_grad(),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=why == "autocast"),
        Recorded() as recorded,
    ):
        found = linear(x, ours.weight, ours.bias)
        expected = torch.nn.functional.linear(x, ours.weight, ours.bias)
    assert not recorded.by_onednn
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
