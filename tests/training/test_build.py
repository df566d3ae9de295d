import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated

import pytest
import torch
from pydantic import Field
from torch import nn

from seesay.classification.networks.resnets import ResNet9
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.build import construct, load_weights, seeded_initialisation


class Net(nn.Module):
    def __init__(
        self,
        num_classes: int,
        *,
        width: Annotated[int, Field(ge=1)],
        rates: Sequence[float],
    ) -> None:
        super().__init__()
        if width > num_classes:
            raise InputError(f"width {width} is more than {num_classes}")
        self.layer = nn.Linear(width, num_classes)
        self.rates = rates


TABLE = {"net": Net, "other": Net}


def build(name="net", **arguments):
    return construct(TABLE, Architecture(name=name, **arguments), key="classifiers.x.architecture", num_classes=3)


def test_sizes_and_arguments_reach_the_constructor():
    net = build(width=2, rates=[0.5, 1])
    assert net.layer.weight.shape == (3, 2)
    assert list(net.rates) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nte"}, r"classifiers\.x\.architecture\.name: got 'nte': expected one of net, other"),
        ({"rates": []}, r"classifiers\.x\.architecture\.width: missing"),
        (
            {"width": 2, "rates": [], "depth": 1},
            r"classifiers\.x\.architecture\.depth: unknown key; allowed here: rates, width",
        ),
        ({"width": "2", "rates": []}, r"classifiers\.x\.architecture\.width: got '2': .*integer"),
        ({"width": True, "rates": []}, r"classifiers\.x\.architecture\.width: got True: .*integer"),
        ({"width": 0, "rates": []}, r"classifiers\.x\.architecture\.width: got 0: .*greater than or equal to 1"),
        ({"width": 2, "rates": [0.1, "x"]}, r"classifiers\.x\.architecture\.rates\.1: got 'x': .*number"),
        ({"width": 2, "rates": [], "num_classes": 5}, r"architecture\.num_classes: unknown key"),
        ({"width": 4, "rates": []}, r"classifiers\.x\.architecture: width 4 is more than 3"),
    ],
)
def test_a_wrong_argument_is_named_with_its_key(arguments, message):
    with pytest.raises(InputError, match=message):
        build(**arguments)


def test_initialisation_depends_on_the_seed_and_leaves_the_generator_alone():
    def weights(seed, *names):
        with seeded_initialisation(seed, *names):
            return torch.randn(3)

    torch.manual_seed(5)
    expected = torch.randn(1)
    torch.manual_seed(5)
    first = weights(0, "a")
    assert torch.equal(torch.randn(1), expected)
    assert torch.equal(weights(0, "a"), first)
    assert not torch.equal(weights(1, "a"), first)
    assert not torch.equal(weights(0, "b"), first)


def test_weights_that_do_not_fit_are_refused():
    net = build(width=2, rates=[])
    load_weights(net, {"layer.weight": torch.ones(3, 2), "layer.bias": torch.zeros(3)})
    assert net.layer.weight.eq(1).all()
    with pytest.raises(InputError, match=r"weights do not fit its architecture: .*layer\.bias"):
        load_weights(net, {"layer.weight": torch.ones(3, 2)})
    with pytest.raises(InputError, match="size mismatch"):
        load_weights(net, {"layer.weight": torch.ones(4, 2), "layer.bias": torch.zeros(3)})


def test_outlines_of_networks_have_shapes_and_cost_no_import():
    """torch's compiler, which its meta device imports to compute initial values, takes seconds."""
    code = (
        "import sys, torch\n"
        "from seesay.captioning.networks.attention_captioners import SoftAttentionCaptioner\n"
        "from seesay.classification.networks.resnets import ResNet9\n"
        "from seesay.training.build import shapes_alone\n"
        "with shapes_alone():\n"
        "    networks = [ResNet9(3, 64, width=8), SoftAttentionCaptioner(\n"
        "        20, 10, embedding_size=8, hidden_size=8, attention_size=4, dropout=0.1)]\n"
        "assert all(weights.is_meta for one in networks for weights in one.parameters())\n"
        "print(sum(weights.numel() for weights in networks[0].parameters()), 'torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    built = sum(weights.numel() for weights in ResNet9(3, 64, width=8).parameters())
    assert done.stdout.split() == [str(built), "False"]
