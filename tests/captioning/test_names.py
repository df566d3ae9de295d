import pytest

from seesay.captioning.tables import describe_decoding, describe_encoder, describe_features, describe_training
from seesay.params.captioning import Beam, DiverseBeam, Greedy, Nucleus
from seesay.params.project import load_params

REST = {"max_length": 20, "batch_size": 10}


@pytest.mark.parametrize(
    ("decoding", "words"),
    [
        (Greedy(method="greedy", **REST), "greedy"),
        (Beam(method="beam", beam_size=5, length_penalty=0.7, **REST), "beam 5"),
        (
            DiverseBeam(
                method="diverse_beam", beam_size=6, num_groups=3, diversity_penalty=0.5, length_penalty=0.7, **REST
            ),
            "diverse beam 6 (3 groups)",
        ),
        (
            Nucleus(method="nucleus", top_p=0.9, temperature=1.0, num_samples=5, **REST),
            "nucleus 0.9 (best of 5)",
        ),
    ],
)
def test_decoding_is_named_with_what_matters(decoding, words):
    assert describe_decoding(decoding) == words


def test_features_of_ours_and_projected_ones_are_named_so(built_once):
    features = load_params(built_once).features
    fetched, ours = features["flickr8k_efficientnet"], features["flickr8k_resnet9"]
    assert describe_encoder(ours) == "our resnet9"
    assert describe_encoder(ours.model_copy(update={"encoder": "finetuned/tuned"})) == "fine-tuned tuned"
    assert describe_features(fetched, "grid") == "efficientnet_lite2, 7×7 grid"
    assert describe_features(fetched, "pooled") == "efficientnet_lite2, pooled"
    views = features["flickr8k_views"].views
    assert views is not None
    several = fetched.model_copy(update={"views": views.model_copy(update={"count": 4})})
    assert describe_features(several, "grid") == "efficientnet_lite2, 7×7 grid, 4 views"
    assert describe_encoder(fetched.model_copy(update={"num_components": 256})) == "efficientnet_lite2, PCA 256"


def test_what_a_captioner_has_learned_from_is_said_in_its_phases(built_once):
    learning = load_params(built_once).captioners["lstm_flickr8k"].learning
    assert describe_training(learning) == "captions"
    both = learning.model_copy(update={"datasets": ("flickr8k", "coco2017")})
    assert describe_training(both) == "captions, also coco2017"
    on = learning.model_copy(update={"start": ("captioners/lstm",)})
    assert describe_training(on) == "captions, on lstm"
    assert describe_training(on.model_copy(update={"self_critical": {"num_samples": 5}})) == "SCST on lstm"
