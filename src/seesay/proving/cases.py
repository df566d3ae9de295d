"""The tiny runs that a proof records, by kind and architecture: settings as in params.yaml, and nothing else.

The runs of one architecture turn on, together, every switch that its trainings have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Section = dict[str, Any]


class Proof(NamedTuple):
    """Sections of params.yaml, and which stages run on which of their entries, in order.

    `classifiers` (architectures by name), `weights` (models of timm) and `finetuned` (encoders made of one of
    them) lie there before, with random weights.
    """

    params: Mapping[str, Section]
    steps: tuple[tuple[str, str], ...]
    classifiers: Mapping[str, Section] = {}
    weights: tuple[str, ...] = ()
    finetuned: Mapping[str, str] = {}


RECORDED = {
    "classifiers": "train_classifier",
    "autoencoders": "train_autoencoder",
    "features": "extract_features",
    "captioners": "train_captioner",
    "encoders": "finetune_encoder",
}
"""By kind, the stage whose runs its proofs record; other stages make what that one starts from."""

COMMON: Section = {
    "seed": 0,
    "runtime": {"device": "cpu", "precision": "float32", "num_threads": 1, "deterministic": True, "compile": False},
}

# ---------------------------------------------------------------- training

SGD: Section = {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}
PLAIN_SGD: Section = {**SGD, "nesterov": False, "weight_decay": 0.0}
ADAMW: Section = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.99}

LINEAR = {"decay": "linear", "warmup_fraction": 0.25}
COSINE = {"decay": "cosine", "warmup_fraction": 0.25}
ONE_CYCLE = {"decay": "one_cycle", "warmup_fraction": 0.4}
STEP = {"decay": "step", "warmup_fraction": 0.0, "milestones": [0.4, 0.8], "factor": 0.3}
CONSTANT = {"decay": "constant", "warmup_fraction": 0.0}

# Its ramp is 2/11, 3/12, 4/13, 5/14: three updates follow it, those after them the decay.
AVERAGE = {"decay": 0.35, "every_steps": 2}


def _training(optimizer: Section, schedule: Section, **others: Any) -> Section:
    return {"epochs": 3, "batch_size": 8, "optimizer": optimizer, "schedule": schedule, **others}


def _gentle(training: Section, times: float = 10.0) -> Section:
    """At a fraction of the rate: deep networks in small batches soon blow rounding up. AdamW gives a gradient that is
    rounding alone as large a step as any other, so it goes slower still."""
    optimizer = training["optimizer"]
    rate = optimizer["learning_rate"] / times / (10 if optimizer["name"] == "adamw" else 1)
    return {**training, "optimizer": {**optimizer, "learning_rate": rate}}


CLIPPED_AND_AVERAGED = _training(SGD, LINEAR, moving_average=AVERAGE, max_gradient_norm=0.5)
BY_ADAMW = _training(ADAMW, COSINE, max_gradient_norm=1.0)
IN_STEPS = _training(PLAIN_SGD, STEP, accumulate_batches=2)
IN_ONE_CYCLE = _training(ADAMW, ONE_CYCLE)
IMPATIENT = _training({**PLAIN_SGD, "learning_rate": 0.02}, CONSTANT, epochs=4, batch_size=12, patience=1)

BY_MUON = _training(
    {
        "name": "muon",
        "learning_rate": 0.02,
        "momentum": 0.9,
        "weight_decay": 0.05,
        "norm_bias_rate": 4.0,
        "lookahead": {"pull": 0.5, "every_steps": 2},
    },
    LINEAR,
    sharpness_radius=0.05,
)

# ---------------------------------------------------------------- images

NO_AUGMENTATION = {"flip": False, "crop_padding": 0, "cutout": 0.0}
PICKED = {"flip": True, "crop_padding": 3, "cutout": 0.3}  # pixels picked, none computed
JITTER = {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5}
RESHAPED: Section = {
    **NO_AUGMENTATION,
    "flip": True,
    "resized_crop": {"min_area": 0.4, "max_area": 1.0, "max_aspect": 1.3},
    "affine": {"rotation": 20.0, "translation": 0.1, "shear": 10.0, "zoom": 0.2},
    "colour_jitter": JITTER,
    "trivial_augment": True,
}
MIXED: Section = {**RESHAPED, "mixing": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "probability": 0.7}}
BLENDED: Section = {**PICKED, "affine": RESHAPED["affine"], "mixing": {**MIXED["mixing"], "cutmix_alpha": 0.0}}
CUT: Section = {**NO_AUGMENTATION, "mixing": {**MIXED["mixing"], "mixup_alpha": 0.0}}

MLP = {"name": "mlp", "hidden_sizes": [12, 8], "dropout": 0.3}
PLAIN_CNN = {"name": "plain_cnn", "widths": [4, 8], "dropout": 0.3}
RESNET9 = {"name": "resnet9", "width": 4}
RESNET9_WITH_ALL: Section = {
    **RESNET9,
    "activation": "gelu",
    "pool_first": True,
    "blur_pool": True,
    "squeeze_excitation": True,
    "stochastic_depth": 0.3,
    "dirac": True,
    "whitening": True,
    "evaluation_size": 40,
}
RESNET18 = {"name": "resnet18", "stem_stride": 4, "dropout": 0.2}
ALEXNET = {"name": "alexnet", "dense_size": 64, "dropout": 0.3}
ALEXNET_MINI = {"name": "alexnet_mini", "dropout": 0.3}
PRETRAINED = {"name": "pretrained", "network": "test_efficientnet", "input_size": 64, "dropout": 0.2}
FINETUNED = {**PRETRAINED, "train_backbone": True, "freeze_batch_norms": True}
PROBED = {**PRETRAINED, "network": "test_resnet", "train_backbone": False, "freeze_batch_norms": False}

_IMAGES: Section = {"dataset": "tiny", "start": "scratch"}
_TAUGHT: Section = {"start": "classifiers/teacher", "distillation": {"weight": 0.7, "temperature": 2.0}}
_GROWING: Section = {"progressive_resizing": {"start_size": 16, "until": 0.6}}
_CLASSIFIER_CASES: dict[str, Section] = {
    "linear": {"augmentation": PICKED, "label_smoothing": 0.1, "training": CLIPPED_AND_AVERAGED, "seeds": [3, 4]},
    "cosine": {"augmentation": MIXED, "label_smoothing": 0.1, "training": BY_ADAMW},
    "step": {"augmentation": PICKED, "training": IN_STEPS, **_TAUGHT},
    "one_cycle": {"augmentation": BLENDED, "training": IN_ONE_CYCLE},
    "constant": {"augmentation": CUT, "training": IMPATIENT, "dataset": "misleading"},
}


def _classifier(
    first: Section, second: Section, *, grows: bool = False, slower: float = 1.0, **of_case: Section
) -> Proof:
    """Cases of one architecture in two forms by turns; `of_case` adds settings, or cases. With one that `grows` images
    do too: a head that takes all places cannot. A deep network learns `slower`."""
    cells = {case: settings for case, settings in of_case.items() if case not in _CLASSIFIER_CASES}
    for index, (case, settings) in enumerate(_CLASSIFIER_CASES.items()):
        training = {"training": _gentle(settings["training"], slower)} if slower > 1.0 else {}
        growing = _GROWING if grows and case in ("step", "cosine") else {}
        described = {"architecture": (first, second)[index % 2]}
        cells[case] = {**_IMAGES, **described, **settings, **training, **growing, **of_case.get(case, {})}
    starts = {str(cell["start"]).partition("/") for cell in cells.values()}
    used = {name for section, _, name in starts if section == "weights"}
    steps = tuple(("train_classifier", case) for case in cells)
    return Proof({"classifiers": cells}, steps, {"teacher": PLAIN_CNN}, tuple(sorted(used)))


_OF_FINETUNED: Section = {"start": "weights/test_efficientnet"}
_OF_PROBED: Section = {"start": "weights/test_resnet"}
_UNEVEN: Section = {**_IMAGES, **_CLASSIFIER_CASES["cosine"], "dataset": "uneven", "architecture": MLP}
_ENSEMBLE: Section = {"dataset": "tiny", "architecture": {"name": "ensemble"}, "start": "classifiers/members"}

CLASSIFIERS = {
    "mlp": _classifier(
        MLP,
        {**MLP, "hidden_sizes": [8]},
        class_weights={**_UNEVEN, "class_weights": "balanced"},
        sampler={**_UNEVEN, "sampler": "balanced"},
    ),
    "plain_cnn": _classifier(PLAIN_CNN, {**PLAIN_CNN, "widths": [4, 6, 8]}, grows=True),
    "alexnet_mini": _classifier(
        {**ALEXNET_MINI, "normalisation": "local_response"}, {**ALEXNET_MINI, "normalisation": "batch"}, slower=10.0
    ),
    "alexnet": _classifier({**ALEXNET, "batch_norm": False}, {**ALEXNET, "batch_norm": True}, slower=10.0),
    "resnet9": _classifier(
        RESNET9,
        {**RESNET9, "width": 6},
        grows=True,
        every_option={
            **_IMAGES,
            "architecture": RESNET9_WITH_ALL,
            "augmentation": {**PICKED, "flip": "alternating"},
            "training": _gentle(BY_MUON),
        },
    ),
    "resnet18": _classifier(RESNET18, {**RESNET18, "stem_stride": 2}, grows=True, slower=10.0),
    "pretrained": _classifier(
        FINETUNED,
        PROBED,
        grows=True,
        slower=5.0,
        linear={**_OF_FINETUNED, "layer_decay": 0.5},  # without it, what is next to the image blows rounding up
        cosine=_OF_PROBED,
        step={**_OF_FINETUNED, "distillation": None, "layer_decay": 0.5},
        one_cycle=_OF_PROBED,
        constant={
            **_OF_FINETUNED,
            "layer_decay": 0.5,
            "architecture": {**FINETUNED, "freeze_batch_norms": False, "frozen_layers": 2},
        },
    ),
    "ensemble": Proof(
        {"classifiers": {"ensemble": _ENSEMBLE}},
        (("train_classifier", "ensemble"),),
        {"members": PLAIN_CNN},
    ),
}

# ----------------------------------------------------------- autoencoders

L2 = {"l1": 0.0, "l2": 1.0, "log_l2": 0.0, "ssim": 0.0}
LOG_L2 = {**L2, "l2": 0.0, "log_l2": 1.0}
ALL_LOSSES = {"l1": 0.5, "l2": 1.0, "log_l2": 0.2, "ssim": 0.5}
MASKING = {"patch_size": 8, "share": 0.4, "evaluation_seed": 7}

FASTER = {**SGD, "learning_rate": 0.5}  # the gradients of a mean over pixels are small

_DRAWN: Section = {"dataset": "tiny", "start": "scratch"}
_AUTOENCODER_CASES: dict[str, Section] = {
    "linear": {
        "augmentation": PICKED,
        "loss": L2,
        "training": {**CLIPPED_AND_AVERAGED, "optimizer": FASTER, "max_gradient_norm": 0.02},
    },
    "cosine": {"augmentation": RESHAPED, "loss": ALL_LOSSES, "training": BY_ADAMW},
    "step": {"augmentation": PICKED, "loss": {**LOG_L2, "l1": 1.0}, "training": IN_STEPS, "masking": MASKING},
    "one_cycle": {"augmentation": NO_AUGMENTATION, "loss": LOG_L2, "training": IN_ONE_CYCLE},
    "constant": {"augmentation": NO_AUGMENTATION, "loss": L2, "training": {**IMPATIENT, "optimizer": FASTER}},
}
_CONV = {"name": "conv_autoencoder", "width": 4, "latent_channels": 3}
_RESIDUAL = {"name": "residual_autoencoder", "width": 6, "blocks": 2, "latent_channels": 3}
_DECODER: Section = {"latent_channels": 4, "decoder_blocks": 2}
_ON_BACKBONE: Section = {"name": "backbone_autoencoder", "train_backbone": True, **_DECODER}


def _autoencoder(architecture: Section, classifiers: Mapping[str, Section] | None = None, **of_case: Section) -> Proof:
    """Cases of one architecture; `of_case` adds settings to these, and cases of its own."""
    cells = {
        case: {**_DRAWN, "architecture": architecture, **_AUTOENCODER_CASES.get(case, {}), **of_case.get(case, {})}
        for case in [*_AUTOENCODER_CASES, *(case for case in of_case if case not in _AUTOENCODER_CASES)]
    }
    steps = tuple(("train_autoencoder", case) for case in cells)
    return Proof({"autoencoders": cells}, steps, classifiers or {})


def _backbone(classifier: Section, widths: list[int], *, trains: bool = True) -> Section:
    return {**_ON_BACKBONE, "backbone": classifier, "train_backbone": trains, "decoder_widths": widths}


_RESNET_INSIDE = {**FINETUNED, "network": "test_resnet", "input_size": 32}

AUTOENCODERS = {
    "pca": Proof(
        {"autoencoders": {"pca": {**_DRAWN, "architecture": {"name": "pca", "num_components": 6}}}},
        (("train_autoencoder", "pca"),),
    ),
    "conv_autoencoder": _autoencoder(_CONV, constant={"training": _gentle(IMPATIENT, 2.0)}),
    "residual_autoencoder": _autoencoder({**_RESIDUAL, "decoder_widths": [8, 6, 4], "decoder_blocks": 2}),
    "backbone_autoencoder": _autoencoder(
        {},
        {"plain_cnn": PLAIN_CNN, "resnet9": RESNET9, "resnet18": RESNET18, "pretrained": FINETUNED},
        linear={"architecture": _backbone(PLAIN_CNN, [8, 6, 4])},
        cosine={"architecture": _backbone(RESNET9, [8, 6, 4, 4], trains=False), "start": "classifiers/resnet9"},
        step={
            "architecture": _backbone(RESNET18, [8, 6, 4, 4, 4]),
            "start": "classifiers/resnet18",
            "backbone_rate": 0.2,
        },
        one_cycle={
            "architecture": _backbone(FINETUNED, [8, 6, 4, 4]),
            "start": "classifiers/pretrained",
            "backbone_rate": 0.5,
            "training": _gentle(IN_ONE_CYCLE),
        },
        constant={"architecture": _backbone(_RESNET_INSIDE, [8, 6, 4, 4, 4])},
        classes={
            "architecture": {**_backbone(RESNET9, [8, 6, 4, 4]), "completion": {"width": 6, "blocks": 1}},
            "start": "classifiers/resnet9",
            "backbone_rate": 0.3,
            "augmentation": PICKED,
            "loss": {**LOG_L2, "ssim": 1.0, "cross_entropy": 0.5},
            "masking": MASKING,
            "training": _gentle(BY_ADAMW),
        },
    ),
}

# ---------------------------------------------------------------- features

_VIEWS = {"count": 2, "crop": {"min_area": 0.4, "max_area": 0.9, "max_aspect": 1.4}, "flip": True, "seed": 1}
_SEEN: Section = {
    "dataset": "dots",
    "resize_size": 40,
    "image_size": 36,
    "grid_size": 2,
    "batch_size": 5,
    "num_workers": 0,
}


def _features(cases: Mapping[str, Section], **given: Any) -> Proof:
    cells = {case: {**_SEEN, **settings} for case, settings in cases.items()}
    return Proof({"features": cells}, tuple(("extract_features", case) for case in cells), **given)


def _published(network: str, **others: Any) -> Section:
    return {"encoder": f"weights/{network}", **others}


_BACKBONES = {
    "plain_cnn": PLAIN_CNN,
    "alexnet_mini": {**ALEXNET_MINI, "normalisation": "local_response"},
    "resnet9": RESNET9,
    "resnet18": RESNET18,
    "pretrained": FINETUNED,
}
_TUNED: Section = {"captioner": "first", "dataset": "dots", "vocabulary": "dots", "features": "first", "num_workers": 0}

FEATURES = {
    "small_cnn": _features(
        {
            "places": {"encoder": "weights/small_cnn", "views": _VIEWS},
            "components": {"encoder": "weights/small_cnn", "grid_size": None, "num_components": 4},
            "enlarged": {"encoder": "weights/small_cnn", "grid_size": 5, "num_workers": 1},
        },
        weights=("small_cnn",),
    ),
    "published": _features(
        {
            "convolutions": _published("test_efficientnet", views=_VIEWS, image_size=96, resize_size=100),
            "components": _published("test_resnet", num_components=4),
            "tokens": _published("test_vit", image_size=160, resize_size=160),
            "unlike_pooled": _published("lcnet_035", image_size=64, resize_size=64),
        },
        weights=("test_efficientnet", "test_resnet", "test_vit", "lcnet_035"),
    ),
    "classifier": _features(
        {
            name: {"encoder": f"classifiers/{name}", "views": {**_VIEWS, "flip": False} if name == "resnet9" else None}
            for name in _BACKBONES
        },
        classifiers=_BACKBONES,
    ),
    "finetuned": _features(
        {
            "of_network": {"encoder": "finetuned/of_network", "image_size": 64, "resize_size": 72},
            "of_classifier": {"encoder": "finetuned/of_classifier", "views": _VIEWS},
        },
        classifiers={"cnn": PLAIN_CNN},
        weights=("test_resnet",),
        finetuned={"of_network": "test_resnet", "of_classifier": "cnn"},
    ),
}

# -------------------------------------------------------------- captioners

_WORDS: Section = {"embedding_size": 6, "hidden_size": 8, "dropout": 0.2, "embedding_dropout": 0.2}
_LESSONS: Section = {
    "datasets": ["dots"],
    "vocabulary": "both",
    "features": ["dots"],
    "start": ["scratch"],
    "max_caption_length": 6,
    "best_by": "loss",
}
_ALSO: Section = {"datasets": ["dots", "lines"], "features": ["dots", "lines"]}
_CAPTIONER_CASES: dict[str, Section] = {
    "human": {
        "features": ["dots_views"],
        "label_smoothing": 0.1,
        "best_by": "cider_d",
        "scheduled_sampling": {"max_share": 0.5},
        "training": {**CLIPPED_AND_AVERAGED, "batch_size": 4, "optimizer": {**ADAMW, "learning_rate": 0.05}},
    },
    "two_datasets": {**_ALSO, "training": _training({**ADAMW, "learning_rate": 0.02}, COSINE, accumulate_batches=2)},
    "one_cycle": {"training": _training({**SGD, "learning_rate": 1.0}, ONE_CYCLE, max_gradient_norm=0.2)},
    "step": {"training": _training({**PLAIN_SGD, "learning_rate": 0.5}, STEP)},
    "reward": {
        "features": ["dots_views"],
        "start": ["captioners/human"],
        "best_by": "cider_d",
        "self_critical": {"num_samples": 3},
        "training": {**IMPATIENT, "batch_size": 4, "optimizer": {**ADAMW, "learning_rate": 0.02}},
    },
}


def _captioner(architecture: Section, variants: tuple[Section, Section]) -> Proof:
    """Cases by turns with weights that are tied and that are not, and in two variants; one goes on from the first."""
    tied = {"human": True, "two_datasets": True, "one_cycle": False, "step": False, "reward": True}
    which = {"human": 0, "two_datasets": 1, "one_cycle": 1, "step": 0, "reward": 0}
    cells = {}
    for case, settings in _CAPTIONER_CASES.items():
        described = {**architecture, **variants[which[case]], "tie_weights": tied[case]}
        cells[case] = {"learning": {**_LESSONS, "architecture": described, **settings}}
    return Proof({"captioners": cells}, tuple(("train_captioner", case) for case in cells))


_SQUARE = {"embedding_size": 8}  # as many as hidden ones: tied weights need no projection then
_POOLED = ({**_WORDS, "image_enters": "initial_state"}, {**_WORDS, **_SQUARE, "image_enters": "first_word"})
_GRID = ({**_WORDS, "attention_size": 5}, {**_WORDS, **_SQUARE, "attention_size": 5})
_LAYERED: Section = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "dropout": 0.2, "embedding_dropout": 0.2}


def _ensemble(*architectures: Section) -> Proof:
    """An ensemble of two captioners that read different kinds of features, and one of it and a third."""
    learning = {**_LESSONS, "best_by": "cider_d", "training": _training({**ADAMW, "learning_rate": 0.005}, CONSTANT)}
    cells = {str(one["name"]): {"learning": {**learning, "architecture": one}} for one in architectures}
    first, second, third = (f"captioners/{name}" for name in cells)
    of_two = {**_LESSONS, "best_by": "cider_d", "architecture": {"name": "ensemble"}, "start": [first, second]}
    cells["of_two"] = {"learning": of_two}
    cells["of_three"] = {"learning": {**of_two, "start": ["captioners/of_two", third], "best_by": "loss"}}
    return Proof({"captioners": cells}, tuple(("train_captioner", cell) for cell in cells))


CAPTIONERS = {
    "lstm": _captioner({"name": "lstm"}, _POOLED),
    "gru": _captioner({"name": "gru"}, _POOLED),
    "soft_attention": _captioner({"name": "soft_attention"}, _GRID),
    "att2in": _captioner({"name": "att2in"}, _GRID),
    "updown": _captioner({"name": "updown"}, _GRID),
    "transformer": _captioner({"name": "transformer"}, (_LAYERED, {**_LAYERED, "num_layers": 3, "num_heads": 4})),
    "ensemble": _ensemble(
        {"name": "lstm", **_POOLED[0]}, {"name": "transformer", **_LAYERED}, {"name": "soft_attention", **_GRID[0]}
    ),
}

# ---------------------------------------------------------------- encoders


def _finetuned(named: Section, first: Section, captioner: Section, **given: Any) -> Proof:
    """From features to a captioner to the encoder that learns on with it."""
    by_adamw = _training({**ADAMW, "learning_rate": 0.02}, CONSTANT)
    learning = {
        **_LESSONS,
        "vocabulary": "dots",
        "features": ["first"],
        "architecture": captioner,
        "training": by_adamw,
    }
    tuned = {**named, **_TUNED}
    cells = {
        "averaged": {**tuned, "frozen_blocks": 1, "encoder_rate": 0.5, "training": CLIPPED_AND_AVERAGED},
        "warmed_up": {**tuned, "frozen_blocks": 0, "encoder_rate": 0.1, "training": BY_ADAMW},
    }
    params = {
        "features": {"first": {**_SEEN, **named, **first}},
        "captioners": {"first": {"learning": {**learning, "best_by": "cider_d"}}},
        "finetuned": cells,
    }
    before = (("extract_features", "first"), ("train_captioner", "first"))
    return Proof(params, (*before, *(("finetune_encoder", cell) for cell in cells)), **given)


_LSTM = {"name": "lstm", **_POOLED[0], "tie_weights": False}
_SOFT_ATTENTION = {"name": "soft_attention", **_GRID[0], "tie_weights": False}
_OF_NETWORK: Section = {"encoder": "weights/test_resnet"}
_OF_CLASSIFIER: Section = {"encoder": "classifiers/cnn"}

ENCODERS = {
    "published": _finetuned(
        _OF_NETWORK, {"image_size": 64, "resize_size": 72}, _SOFT_ATTENTION, weights=("test_resnet",)
    ),
    "classifier": _finetuned(_OF_CLASSIFIER, {"grid_size": None}, _LSTM, classifiers={"cnn": PLAIN_CNN}),
}

PROOFS: dict[str, Mapping[str, Proof]] = {
    "classifiers": CLASSIFIERS,
    "autoencoders": AUTOENCODERS,
    "features": FEATURES,
    "captioners": CAPTIONERS,
    "encoders": ENCODERS,
}
