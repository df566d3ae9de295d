"""The rules in gates.yaml: absolute bounds on metrics, and bounds relative to a baseline or to another metric."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from seesay.core.errors import did_you_mean
from seesay.core.paths import NAME
from seesay.core.settings import AsTuple, Settings, read_yaml, validate

Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]

MetricName = Annotated[str, Field(pattern=rf"^{NAME}(/{NAME})?:[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*$")]
"""`<stage>/<experiment>:<key>`: `evaluate_classifier/resnet9:test/top1`. All stages with metrics have experiments."""


def _keys(prefixes: str, names: str) -> list[str]:
    """Return `prefix/name` for all combinations of the words in two strings."""
    return [f"{prefix}/{name}" for prefix, name in product(prefixes.split(), names.split())]


class Measured(NamedTuple):
    """The section of params.yaml with a stage's experiments, and the keys of its metrics; `*` stands for any text.

    An experiment may lack some of them: an autoencoder without masking has no `test/hidden_psnr`.
    """

    section: str
    keys: Collection[str]


_LEARNING = ["best_epoch", "num_epochs", "train/loss", "val/loss"]
STAGES = {
    "prepare_images": Measured("image_datasets", _keys("train val test", "num_images")),
    "train_classifier": Measured("classifiers", [*_LEARNING, "train/flops", "train/top1", "val/top1", "val/top5"]),
    "evaluate_classifier": Measured("classifiers", [
        *_keys("test val", "top1 top5 loss macro_f1 balanced_accuracy"),
        *_keys("test", "top1_low top1_high top1_flipped top1_views auc_macro"),
        *_keys("test", "ece ece_calibrated loss_calibrated num_images"),
        "calibration/temperature", "seeds/num", *_keys("seeds/test seeds/val", "top1_mean top1_std"),
    ]),
    "train_autoencoder": Measured("autoencoders", [*_LEARNING, "val/mse", "val/psnr", "train/top1", "val/top1"]),
    "evaluate_autoencoder": Measured("autoencoders", [
        *_keys("test", "mse psnr psnr_low psnr_high ssim mean_image_psnr neighbours_same_class classifier_top1"),
        *_keys("test", "probe_top1 probe_top1_low probe_top1_high"), "val/probe_top1", "probe_inverse_strength",
        *_keys("test", "hidden_mse hidden_psnr hidden_psnr_low hidden_psnr_high hidden_ssim"),
        *_keys("test", "visible_mse visible_psnr visible_ssim mean_image_hidden_psnr inpainting_hidden_ssim"),
        *_keys("test", "inpainting_hidden_psnr inpainting_hidden_psnr_low inpainting_hidden_psnr_high"),
        *_keys("test", "psnr_over_inpainting psnr_over_inpainting_low psnr_over_inpainting_high"), "latent_size",
    ]),
    "explain_autoencoder": Measured("autoencoders", [
        "num_layers", *_keys("agreement", "grad_cam grad_cam_shuffled layer*"),
    ]),
    "prepare_captions": Measured("caption_datasets", _keys("train val test", "num_images num_captions")),
    "build_vocabulary": Measured("vocabularies", [
        "num_tokens", *_keys("train val test */train */val */test", "out_of_vocabulary"), "*/train/num_images_held_out",
    ]),
    "extract_features": Measured("features", ["num_images", "num_dimensions"]),
    "train_captioner": Measured("captioners", [
        *_LEARNING, "val/perplexity", "val/cider_d", "train/reward", "train/unended",
    ]),
    "finetune_encoder": Measured("finetuned", [*_LEARNING, "val/perplexity", "val/cider_d"]),
    "caption_images": Measured("captioners", [
        *_keys("test val test_shuffled nearest_neighbour", "num_captions"), "nearest_neighbour/k",
    ]),
    "score_captions": Measured("captioners", _keys(
        "test val test_shuffled test_like_human human floor_constant floor_nearest floor_random",
        "bleu1 bleu2 bleu3 bleu4 bleu4_low bleu4_high rouge_l rouge_l_low rouge_l_high cider_d cider_d_low "
        "cider_d_high meteor_java embedding_cosine embedding_cosine_random distinct1 distinct2 share_novel "
        "share_vocabulary vocabulary_size length_ratio mean_length std_length num_references",
    )),
}  # fmt: skip
"""The stages with metrics for the gate."""


class Margin(Settings):
    """A distance to another metric: `by` in its own units, or `by_share` as a share of its value."""

    metric: MetricName
    by: NotNegative | None = None
    by_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = None

    @model_validator(mode="after")
    def _exactly_one_distance(self) -> Margin:
        if (self.by is None) == (self.by_share is None):
            raise ValueError(f"expected either by or by_share, got {'neither' if self.by is None else 'both'}")
        return self


class Rule(Settings):
    """The bounds of one metric, all of which must hold.

    `min` and `max` are absolute and inclusive. `max_drop` is the largest allowed drop below the baseline, for metrics
    where higher is better; `max_rise` the largest allowed rise above it, where lower is better. `above` requires more
    than another metric plus a margin; `below` less than another metric minus a margin.
    """

    metric: MetricName
    min: Finite | None = None
    max: Finite | None = None
    max_drop: NotNegative | None = None
    max_rise: NotNegative | None = None
    above: Margin | None = None
    below: Margin | None = None

    @model_validator(mode="after")
    def _has_consistent_bounds(self) -> Rule:
        if self.bounds == 0:
            allowed = ", ".join(name for name in type(self).model_fields if name != "metric")
            raise ValueError(f"rule for {self.metric!r} has no bound; allowed: {allowed}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"rule for {self.metric!r}: min {self.min} is more than max {self.max}")
        return self

    @property
    def bounds(self) -> int:
        return sum(getattr(self, name) is not None for name in type(self).model_fields if name != "metric")


class Gates(Settings):
    """The content of gates.yaml.

    `baseline` is the git ref whose committed metrics `max_drop` and `max_rise` are relative to, or null.
    """

    baseline: Annotated[str, Field(min_length=1, pattern=r"^[^-]")] | None
    rules: Annotated[tuple[Rule, ...], AsTuple]

    @property
    def metrics(self) -> list[str]:
        """All metrics in the rules, each once, in their order."""
        names = []
        for rule in self.rules:
            names += [rule.metric, *(margin.metric for margin in (rule.above, rule.below) if margin is not None)]
        return list(dict.fromkeys(names))

    @property
    def compared(self) -> list[str]:
        """The metrics that are compared with the baseline."""
        rules = [rule for rule in self.rules if rule.max_drop is not None or rule.max_rise is not None]
        return list(dict.fromkeys(rule.metric for rule in rules))


def unknown_metrics(gates: Gates, experiments: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield a message for each metric that no stage will measure. `experiments` has the names in each section."""
    for name in gates.metrics:
        source, _, key = name.partition(":")
        stage, _, cell = source.partition("/")
        if stage not in STAGES:
            what, got, allowed = "stage", stage, list(STAGES)
        elif cell not in experiments[STAGES[stage].section]:
            what, got, allowed = f"entry of {STAGES[stage].section}", cell, list(experiments[STAGES[stage].section])
        elif not any(fnmatchcase(key, known) for known in STAGES[stage].keys):
            what, got, allowed = f"metric of {stage}", key, list(STAGES[stage].keys)
        else:
            continue
        suggestion = did_you_mean(got, allowed) or f"; expected one of {', '.join(allowed)}"
        yield f"{name!r}: no {what} is called {got}{suggestion}"


def read_gates(path: Path) -> Gates:
    """Read rules from a YAML file; raises `InputError` naming each wrong key, its value and the allowed ones."""
    gates: Gates = validate(read_yaml(path), Gates, where=str(path))
    return gates
