"""What a cell of `classifiers` becomes: several seeds, an ensemble, a student, a pretrained network."""

from __future__ import annotations

import pytest
import torch
import torchvision

from seesay.classification.networks.registry import restore_classifier
from seesay.classification.training.experiments import train_classifiers
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.params.classification import Architecture, Augmentation, Classifier, Distillation
from seesay.sources.provenance import SourceFile, SourceNote, write_source
from seesay.training.checkpoint import save_checkpoint


@pytest.fixture
def settings(training):
    return Classifier(
        dataset="noise",
        architecture=Architecture(name="mlp", hidden_sizes=[8], dropout=0.0),
        start="scratch",
        augmentation=Augmentation(flip=True, crop_padding=1, cutout=0.0),
        label_smoothing=0.1,
        training=training.model_copy(update={"epochs": 2}),
    )


@pytest.fixture
def make(noise, settings, compute, tmp_path):
    """`train_classifiers` in a folder of its own; what is made is saved as the cell's, as its stage does."""
    paths = Paths(tmp_path)

    def run(cell="x", log=lambda metrics, *, step: None, resume=None, **changes):
        wanted = settings.model_copy(update=changes)
        made = train_classifiers(cell, wanted, noise, paths, seed=7, compute=compute, log=log, resume=resume)
        for index, checkpoint in enumerate(made.checkpoints):
            save_checkpoint(paths.classifier(cell, index), checkpoint)
        return made

    return run


def weights(checkpoint):
    return checkpoint.state_dict["head.weight"]


def test_a_cell_without_seeds_has_the_project_s(make):
    (one,) = make().checkpoints
    (same,) = make(seeds=(7,)).checkpoints
    assert torch.equal(weights(one), weights(same))


def test_each_seed_gives_the_network_it_gives_alone(make):
    """The network of the first seed is the one reported."""
    logged = []
    made = make(seeds=(7, 8), log=lambda metrics, *, step: logged.append((step, metrics)))
    first, second = made.checkpoints
    assert torch.equal(weights(second), weights(make(seeds=(8,)).checkpoints[0]))
    assert [step for step, _ in logged] == [1, 2]
    assert logged[-1][1]["val/loss"] == first.metrics["val/loss"] or first.metrics["best_epoch"] == 1


def test_a_killed_cell_goes_on_with_the_seed_it_was_at(make, tmp_path):
    whole = make(seeds=(7, 8)).checkpoints
    scratch = tmp_path / "scratch"
    make(seeds=(7,), resume=scratch)
    again = make(seeds=(7, 8), resume=scratch).checkpoints
    assert all(torch.equal(weights(one), weights(other)) for one, other in zip(whole, again, strict=True))


def test_an_ensemble_averages_all_networks_of_the_cell_it_is_built_on(make, noise):
    make("parent", seeds=(7, 8))
    logged = []
    made = make(
        architecture=Architecture(name="ensemble"),
        start="classifiers/parent",
        training=None,
        log=lambda metrics, *, step: logged.append((step, metrics)),
    )
    (checkpoint,) = made.checkpoints
    assert len(restore_classifier(checkpoint).members) == 2
    assert [step for step, _ in logged] == [0]
    assert logged[0][1]["val/top1"] == checkpoint.metrics["val/top1"]
    assert (made.core_seconds, checkpoint.metrics["train/flops"]) == ([0.0], 0.0)
    checkpoint.require_classes(noise.classes)


def test_an_ensemble_of_one_is_refused(make):
    make("parent")
    with pytest.raises(InputError, match="start: got 'classifiers/parent': expected a classifier with at least two"):
        make(architecture=Architecture(name="ensemble"), start="classifiers/parent", training=None)


def test_a_student_learns_something_else_than_from_labels_alone(make):
    alone = make("parent").checkpoints[0]
    taught = make(start="classifiers/parent", distillation=Distillation(weight=0.5, temperature=2.0)).checkpoints[0]
    assert not torch.equal(weights(alone), weights(taught))


def test_a_cell_built_on_one_that_is_missing_is_refused(make):
    with pytest.raises(InputError, match=r"classifiers/gone/0\.pt: no such file"):
        make(start="classifiers/gone", distillation=Distillation(weight=0.5, temperature=2.0))


def test_a_pretrained_network_starts_from_the_published_weights(make, tmp_path):
    network = torchvision.models.resnet18(weights=None)
    folder = Paths(tmp_path).weights("published")
    folder.mkdir(parents=True)
    arguments = {"network": "resnet18", "input_size": 32, "dropout": 0.0}
    probe = Architecture(name="pretrained", **arguments, train_backbone=False, freeze_batch_norms=True)
    write_source(folder, SourceNote("published", ()))
    with pytest.raises(InputError, match=r"published: expected one weights file, got \[\]"):
        make(architecture=probe, start="weights/published")
    torch.save(network.state_dict(), folder / "resnet18.pth")
    file = SourceFile("resnet18.pth", "http://x/resnet18.pth", "0", 1, "", is_substitute=False)
    write_source(folder, SourceNote("published", (file,)))
    (checkpoint,) = make(architecture=probe, start="weights/published").checkpoints
    assert torch.equal(checkpoint.state_dict["backbone.layer4.1.conv2.weight"], network.layer4[1].conv2.weight)
