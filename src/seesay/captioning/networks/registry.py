"""Registry of the captioner architectures; building one, and restoring one from a checkpoint."""

from __future__ import annotations

from seesay.captioning.networks.att2in import Att2InCaptioner
from seesay.captioning.networks.base import Captioner
from seesay.captioning.networks.recurrent import GRUCaptioner, LSTMCaptioner
from seesay.captioning.networks.soft_attention import SoftAttentionCaptioner
from seesay.captioning.networks.transformer import TransformerCaptioner
from seesay.captioning.networks.updown import UpDownCaptioner
from seesay.params.classification import Architecture
from seesay.training.build import construct, restore, seeded_initialisation
from seesay.training.checkpoint import Checkpoint

CAPTIONERS: dict[str, type[Captioner]] = {
    "lstm": LSTMCaptioner,
    "gru": GRUCaptioner,
    "soft_attention": SoftAttentionCaptioner,
    "att2in": Att2InCaptioner,
    "updown": UpDownCaptioner,
    "transformer": TransformerCaptioner,
}


def build_captioner(
    architecture: Architecture, *, vocabulary_size: int, feature_size: int, seed: int, key: str
) -> Captioner:
    """Build a captioner over `vocabulary_size` tokens, for features of `feature_size` dimensions.

    Its initial weights depend on `seed` and on the name of the architecture. `key` is the dotted path of `architecture`
    in params.yaml; `InputError` names what is wrong under it.
    """
    with seeded_initialisation(seed, "captioner", architecture.name):
        return construct(CAPTIONERS, architecture, key=key, vocabulary_size=vocabulary_size, feature_size=feature_size)


def restore_captioner(checkpoint: Checkpoint) -> Captioner:
    """Return the trained captioner of `checkpoint`, in evaluation mode.

    Raises `InputError` where the weights do not fit the architecture.
    """
    return restore(
        lambda: construct(
            CAPTIONERS, checkpoint.parsed_architecture, key="architecture", where="checkpoint", **checkpoint.sizes
        ),
        checkpoint.state_dict,
    )
