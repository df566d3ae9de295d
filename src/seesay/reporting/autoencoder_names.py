"""Short descriptions of autoencoders: what their encoders start from."""

from __future__ import annotations

from seesay.params.autoencoding import PCA, Autoencoder


def starts_from(settings: Autoencoder) -> str:
    """An autoencoder's encoder before it learns, in words."""
    if settings.architecture.name == PCA:
        return "computed"
    if settings.parent is None:
        return "random weights"
    stays = settings.architecture.arguments.get("train_backbone") is False
    return f"{settings.parent}, {'frozen' if stays else 'fine-tuned'}"
