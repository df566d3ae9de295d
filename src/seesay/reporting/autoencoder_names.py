"""How does a table call an autoencoder? By what its encoder starts from."""

from __future__ import annotations

from seesay.params.autoencoding import PCA, Autoencoder
from seesay.params.experiments import NONE


def starts_from(settings: Autoencoder) -> str:
    """In words, what an autoencoder's encoder is before it learns."""
    if settings.architecture.name == PCA:
        return "computed"
    if settings.built_on == NONE:
        return "random weights"
    stays = settings.architecture.arguments.get("train_backbone") is False
    return f"{settings.built_on}, {'frozen' if stays else 'fine-tuned'}"
