import psutil
import pytest
import torch
from torch import nn

from seesay.classification import compare as throughput
from seesay.classification.compare import measure_throughput
from seesay.params.results import Comparison

SETTINGS = Comparison(
    throughput_batch_sizes=(1, 32),
    throughput_repeats=2,
    samples_per_class=1,
    samples_seed=0,
    overfitting_study=(),
    published=(),
)


class Noting(nn.Module):
    """Notes its name and the batch's size in a diary at each pass."""

    def __init__(self, name, diary):
        super().__init__()
        self.name, self.diary, self.layer = name, diary, nn.Linear(1, 1)

    def forward(self, images):
        self.diary.append((self.name, len(images)))
        return images.mean(dim=(1, 2, 3))[:, None]


def test_every_classifier_is_measured_at_every_batch_size(compute):
    classifiers = {name: (Noting(name, []), 8) for name in ("one", "two")}
    speeds = measure_throughput(classifiers, SETTINGS, compute=compute)
    assert set(speeds) == {f"{name}/images_per_second_batch{size}" for name in ("one", "two") for size in (1, 32)}
    assert all(speed > 0 for speed in speeds.values())


def test_classifiers_take_turns_and_short_passes_are_repeated(compute):
    diary = []
    measure_throughput({name: (Noting(name, diary), 8) for name in ("one", "two")}, SETTINGS, compute=compute)
    visits = [visit for visit, before in zip(diary, [None, *diary], strict=False) if visit != before]
    of_a_round = [("one", 1), ("one", 32), ("two", 1), ("two", 32)]
    assert visits[-8:] == of_a_round * 2
    assert diary.count(("one", 32)) == 3 * 2  # three rounds, the first for warming up, of 64 images
    assert len(diary) > 3 * 2 * (64 + 2) - 1


@pytest.mark.parametrize(("available", "measured"), [(10**9, {1, 32}), (10**5, {1}), (10, set())])
def test_what_would_fill_the_memory_is_left_out(compute, monkeypatch, available, measured):
    class Memory:
        pass

    memory = Memory()
    memory.available = available
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Flatten(), nn.Linear(16 * 64, 2))
    # The convolution gives 16 x 8 x 8 floats of 4 bytes: 4 kB an image, three times that 12 kB; of 32 images 393 kB.
    speeds = measure_throughput({"net": (network, 8)}, SETTINGS, compute=compute)
    assert {int(key.rpartition("batch")[2]) for key in speeds} == measured


def test_the_module_leaves_no_hooks(compute):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    assert throughput._fits(network, torch.zeros(2, 3, 8, 8))
    assert not network[1]._forward_hooks
