from seesay.classification.networks.registry import build_classifier
from seesay.params.classification import Architecture
from seesay.training.build import count_flops


def test_the_network_of_the_publication_costs_95_million_multiply_adds():
    architecture = Architecture(name="resnet9", width=32)
    classifier = build_classifier(architecture, num_classes=30, image_size=64, seed=0, key="x").train()
    assert count_flops(classifier, image_size=64) == 2 * 95_264_256
    assert classifier.training, "counting leaves a network as it was"
