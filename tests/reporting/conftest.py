"""A workspace as the stages leave it, made up: every cell of the repository's params, numbers derived from its name."""

import csv
import io
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from seesay.autoencoding.figures.encoder_maps import draw_encoder_maps
from seesay.autoencoding.figures.latents import choose_pairs, draw_interpolations, draw_latents, draw_neighbours
from seesay.autoencoding.figures.reconstructions import draw_reconstructions
from seesay.captioning.compare import Comparison, ScoredCaption, ScoredPredictions, floor_rows
from seesay.captioning.data.records import CaptionRecord, collect_records
from seesay.captioning.explain import CaptionAttention
from seesay.captioning.figures.attention import draw_attention_cases
from seesay.captioning.figures.captions import draw_captions
from seesay.captioning.figures.comparison import draw_captioner_comparison
from seesay.classification.figures.comparison import draw_comparison
from seesay.classification.figures.evaluation import draw_classification
from seesay.classification.predictions import ClassPredictions, SplitPredictions
from seesay.core.files import write_json, write_text
from seesay.core.paths import Paths
from seesay.images.packed import ImageClass, ImageSplit, PackedImages
from seesay.params.cross_checks import load_params
from seesay.params.results import EncoderMaps, Evaluation
from seesay.sources.provenance import SourceFile, SourceNote

REPOSITORY = Path(__file__).parents[2]
SPLITS = ("train", "val", "test")
SETTINGS = Evaluation(batch_size=8, panel_images=6, panel_seed=0, bootstrap_resamples=10, bootstrap_seed=0)

# The words of Tiny ImageNet's 30 classes are as long as class names get.
CLASSES = tuple(
    ImageClass(f"n{number:08}", word)
    for number, word in enumerate(
        [
            "goldfish",
            "goose",
            "koala",
            "jellyfish",
            "king penguin",
            "Chihuahua",
            "lion",
            "ladybug",
            "fly",
            "bee",
            "grasshopper",
            "monarch",
            "hog",
            "bison",
            "baboon",
            "African elephant",
            "lesser panda",
            "candle",
            "cardigan",
            "hourglass",
            "iPod",
            "refrigerator",
            "sombrero",
            "umbrella",
            "ice cream",
            "pretzel",
            "mushroom",
            "banana",
            "pizza",
            "espresso",
        ]
    )
)


def make_source(name, *files):
    """`files` are names of archives that a mirror has substituted."""
    return SourceNote(
        name, tuple(SourceFile(file, f"https://example.org/{file}", "0" * 64, 1, "", True) for file in files)
    )


def make_images(size=64, per_class=4):
    """Thirty classes of noise around a colour each."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    colours = random.integers(40, 200, (len(CLASSES), 1, 1, 3))
    pixels = (colours[labels] + random.integers(-40, 40, (len(labels), size, size, 3))).astype(np.uint8)
    split = ImageSplit(pixels, labels, tuple(map(str, range(len(labels)))))
    source = make_source("tiny_imagenet", "tiny-imagenet-200.zip")
    return PackedImages(split, split, split, CLASSES, size, (0.5,) * 3, (0.2,) * 3, "tiny30", "d" * 64, source)


def make_predictions(images):
    random = np.random.default_rng(1)
    labels = images.test.labels
    logits = random.normal(size=(len(labels), images.num_classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 2.5
    split = SplitPredictions(logits, labels, tuple(c.label for c in images.classes))
    return ClassPredictions(split, split)


class Reconstructed:
    def __init__(self, images):
        self.images = (images // 2 + 60).astype(np.uint8)
        self.squared_errors = (np.square(self.images / 255.0 - images / 255.0)).mean(axis=3)


def make_captions(name, num_images=24):
    """Five references an image; one holds markup, which a page must not run."""
    wild = "a man <script>alert('captions')</script> & a dog | with $5"
    texts = ("a dog runs through the deep green grass after a ball", "two people sit on a wooden bench", wild)
    records = [
        CaptionRecord(
            image_id=1000 + number,
            file_name=f"{number}.jpg",
            archive="",
            split=("test", "val", "train")[number % 3],
            captions=tuple(texts[(number + k) % 3] + " ." for k in range(5)),
            width=320,
            height=240,
        )
        for number in range(num_images)
    ]
    return collect_records(name, records, make_source(name, "images.zip"))


class MadeUpImages:
    """An image by row: wider than high, every other one higher than wide."""

    def __getitem__(self, row):
        size = (320, 240) if row % 2 else (200, 300)
        return Image.effect_noise(size, 60 + row).convert("RGB")


class MadeUpScores:
    def __init__(self, captions):
        self.sets = caption_sets(captions.name)
        self.per_image = {record.image_id: (record.image_id * 37 % 100) / 50 for record in captions.of("test")}


def make_caption_predictions(captions):
    texts = ("a brown dog is running through the grass", "a man <b>in</b> a red shirt", "")
    results = [
        {"image_id": record.image_id, "caption": texts[number % 3]} for number, record in enumerate(captions.of("test"))
    ]
    return {"test": results, "val": [], "test_shuffled": []}


def caption_sets(cell):
    scores = {
        "test": 0.35,
        "val": 0.37,
        "test_shuffled": 0.06,
        "floor_constant": 0.09,
        "floor_random": 0.03,
        "floor_nearest": 0.12,
        "human": 0.79,
    }
    return {
        name: {f"bleu{n}": value / n for n in (1, 2, 3, 4)}
        | {"rouge_l": value / 2, "cider_d": value + noise(cell), "mean_length": 9.5}
        | {"vocabulary_size": 400.0, "share_novel": 0.81, "distinct2": 0.25}
        | {"cider_d_low": value + noise(cell) - 0.02, "cider_d_high": value + noise(cell) + 0.02}
        for name, value in scores.items()
    }


WORDS = ("a brown dog is running through the grass", "a man <b>in</b> a red shirt", "two people on a bench", "")


def make_captioned(cell, captions):
    """What a captioner says of the test images: one of WORDS each, and the others as alternatives."""
    chosen, alternatives = {}, {}
    for number, record in enumerate(captions.of("test")):
        texts = [WORDS[(number + shift + len(cell)) % len(WORDS)] for shift in range(3)]
        ones = tuple(
            ScoredCaption(text, noise(f"{cell}{record.image_id}{text}") * 100, -4.5 - rank)
            for rank, text in enumerate(texts)
        )
        chosen[record.image_id], alternatives[record.image_id] = ones[0], ones
    return ScoredPredictions(cell, chosen, alternatives)


def make_attention(captioned):
    """Attention over 7x7 places that wanders from the top left to the bottom right."""
    words = {image_id: tuple(one.caption.split()) for image_id, one in captioned.chosen.items()}
    weights = {}
    for image_id, said in words.items():
        rows = np.full((len(said), 49), 0.5 / 49)
        for word in range(len(said)):
            rows[word, round(48 * word / len(said))] += 0.5
        weights[image_id] = rows.astype(np.float16)
    return CaptionAttention("grid", 1.0, words, weights)


def write_captioner_comparison(params, paths):
    """metrics/compare_captioners.json and the figures of it and of explain_captioner."""
    rows, captions, captioned, attention = [], {}, {}, {}
    for cell, captioner in params.captioners.items():
        name = captioner.learning.datasets[0]
        captions[name] = make_captions(name)
        scores = {f"{key}/{k}": v for key, values in caption_sets(cell).items() for k, v in values.items()}
        row = {"cell": cell, "dataset": name, "set": "test", "architecture": captioner.learning.architecture.name}
        row |= {"looks_at": "grid", "num_parameters": 2_500_000, "shuffled_drop": 0.8}
        row |= {key: scores[key] for key in ("test/cider_d", "test/cider_d_low", "test/cider_d_high")}
        rows.append(row | {"test_shuffled/cider_d": scores["test_shuffled/cider_d"]})
        rows += floor_rows(name, {cell: scores}, {cell: captioner.learning.features[0]})
        captioned.setdefault(name, []).append(make_captioned(cell, captions[name]))
        attention[cell] = make_attention(captioned[name][-1])
        draw_attention_cases(
            *(paths.figures("explain_captioner", cell), attention[cell], captions[name], MadeUpImages()),
            settings=SETTINGS,
        )
    comparison = Comparison(rows, captions, captioned)
    write_json(paths.metrics("compare_captioners"), {"rows": rows})
    images = dict.fromkeys(captions, MadeUpImages())
    folder = paths.figures("compare_captioners")
    draw_captioner_comparison(folder, comparison, attention, images, settings=SETTINGS)


def noise(name):
    return zlib.crc32(name.encode()) % 100 / 1e4


def classifier_metrics(cell):
    top1 = 0.6 + noise(cell)
    return {
        "test/top1": top1,
        "test/top1_low": top1 - 0.02,
        "test/top1_high": top1 + 0.02,
        "test/top5": 0.9,
        "test/macro_f1": 0.59,
        "test/num_images": 1500.0,
        "val/top1": 0.63,
    }


def autoencoder_metrics(settings):
    metrics = {"test/mse": 0.0075, "test/psnr": 21.9, "test/mean_image_psnr": 12.3, "test/ssim": 0.71}
    metrics |= {"test/psnr_low": 21.8, "test/psnr_high": 22.0, "latent_size": 1024, "test/neighbours_same_class": 0.1}
    metrics |= {"test/probe_top1": 0.3, "test/probe_top1_low": 0.28, "test/probe_top1_high": 0.32}
    if settings.parent is not None:
        metrics["test/classifier_top1"] = 0.68
    if settings.masking is not None:
        for key, value in (("hidden_psnr", 18.0), ("inpainting_hidden_psnr", 17.0), ("psnr_over_inpainting", 1.0)):
            metrics |= {f"test/{key}": value, f"test/{key}_low": value - 0.1, f"test/{key}_high": value + 0.1}
        metrics |= {"test/visible_psnr": 20.0, "test/mean_image_hidden_psnr": 12.0, "test/hidden_ssim": 0.5}
        metrics |= {"test/inpainting_hidden_ssim": 0.4, "test/visible_ssim": 0.7}
    return metrics


def draw_autoencoder(images, paths, cell):
    """Every figure of the stages `evaluate_autoencoder` and `explain_autoencoder`, of one that completes images."""
    pixels = images.test.images
    random = np.random.default_rng(2)
    made, heights = Reconstructed(pixels), random.random(pixels.shape[:3])
    hidden, of_image = heights < 0.25, heights[:, 0, 0]
    completion = SimpleNamespace(hidden=hidden, completed=made, inpainted=made)
    folder = paths.figures("evaluate_autoencoder", cell)
    folder.mkdir(parents=True)
    draw_reconstructions(folder, made, completion, images.test, paths, cell=cell, settings=SETTINGS)
    neighbours = random.integers(0, len(pixels), (len(pixels), 5))
    draw_neighbours(folder / "neighbours.webp", neighbours, images, cell=cell, settings=SETTINGS)
    pairs = choose_pairs(images.test.labels, SETTINGS)
    strips = pixels[: 4 * 7].reshape(4, 7, 64, 64, 3)
    draw_interpolations(folder / "interpolations.webp", strips, pairs, images, cell=cell)
    draw_latents(folder / "latents.svg", random.normal(size=(len(pixels), 10)), images, cell=cell)
    layers = [SimpleNamespace(number=number, num_layers=3, strongest=heights) for number in (1, 2, 3)]
    correlations = [
        SimpleNamespace(name=name, correlations=of_image, shuffled=-of_image) for name in ("grad_cam", "layer1")
    ]
    explanation = SimpleNamespace(layers=layers, class_maps=heights, correlations=correlations)
    folder = paths.figures("explain_autoencoder", cell)
    draw_encoder_maps(
        folder,
        explanation,
        made,
        images,
        hidden=hidden,
        cell=cell,
        settings=EncoderMaps(depths=(0.0,), num_images=6, seed=0),
    )


def write_history(path, metrics, epochs=8):
    """`metrics`: name -> function of the epoch."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["step", *metrics])
    for epoch in range(1, epochs + 1):
        rows.writerow([epoch, *(repr(float(of(epoch))) for of in metrics.values())])
    write_text(path, text.getvalue())


LOSSES = {"train/loss": lambda e: 3.4 / e**0.5, "val/loss": lambda e: 3.3 / e**0.4 + 0.02 * max(0, e - 6) ** 2}
SHARES = {"train/top1": lambda e: 0.1 * e**0.9, "val/top1": lambda e: 0.12 * e**0.8}


def write_record(paths, stage, cell, **facts):
    record = {
        "schema": 1,
        "stage": stage,
        "cell": cell,
        "run_id": f"run-{stage}-{cell}",
        "started_ms": 1_790_000_000_000,
        "ended_ms": 1_790_000_090_000,
        "tags": {"git.commit": "0123456789abcdef", "git.dirty": "false", "device_name": "cpu", "num_threads": "2"},
        "pipeline_key": "key",
        **facts,
    }
    write_json(paths.run_record(stage, cell), record)


def build_workspace(root):
    """Files of every cell of params.yaml, all figures included."""
    shutil.copy(REPOSITORY / "params.yaml", root / "params.yaml")
    params, paths = load_params(root), Paths(root)
    images = make_images()
    for name in params.image_datasets:
        write_json(paths.data_report("prepare_images", name), image_report(name, images))
    rows, drawn = [], paths.figures("evaluate_classifier", next(iter(params.classifiers)))
    for cell, classifier in params.classifiers.items():
        write_history(paths.table("train_classifier", cell, "history"), LOSSES | SHARES)
        write_json(paths.metrics("train_classifier", cell), {"best_epoch": 6.0, "num_epochs": 8.0})
        metrics = classifier_metrics(cell)
        write_json(paths.metrics("evaluate_classifier", cell), metrics)
        cost = 1 + len(rows)
        row = {"cell": cell, "dataset": classifier.dataset, "architecture": classifier.architecture.name}
        row["substitutes"] = ["tiny-imagenet-200.zip"]
        row |= {"num_parameters": 400_000 * cost, "flops": 6e7 * cost, "training_flops": 1e13 * cost}
        rows.append(row | metrics | {"mcnemar/next": "x", "mcnemar/b": 31, "mcnemar/c": 12, "mcnemar/p": 0.0051})
        figures = paths.figures("evaluate_classifier", cell)
        if figures == drawn:
            draw_classification(figures, make_predictions(images), images, paths, cell=cell, settings=SETTINGS)
        else:  # drawing takes seconds
            shutil.copytree(drawn, figures)
    datasets = {one.dataset: replace(images, name=one.dataset) for one in params.classifiers.values()}
    chance = {"cell": "chance", "num_parameters": 0, "flops": 0, "test/top1": 1 / 30}
    rows += [{**chance, "dataset": name} for name in datasets]
    theirs = {"source": "a paper", "test/top1": 0.61}
    rows += [{"cell": f"theirs on {name}", "dataset": name, **theirs} for name in ("tiny30", "tiny200")]
    write_json(paths.metrics("compare_classifiers"), {"rows": rows})
    settings = params.comparison.model_copy(update={"samples_per_class": 2})
    figures = paths.figures("compare_classifiers")
    draw_comparison(figures, rows, datasets, params.classifiers, paths, settings=settings)
    with_all_figures = next(cell for cell, one in params.autoencoders.items() if one.masking is not None)
    for cell in sorted(params.autoencoders, key=lambda cell: cell != with_all_figures):
        settings = params.autoencoders[cell]
        write_history(paths.table("train_autoencoder", cell, "history"), LOSSES)
        write_json(paths.metrics("evaluate_autoencoder", cell), autoencoder_metrics(settings))
        agreement = {"num_layers": 8.0, "agreement/layer1": -0.03, "agreement/layer1_shuffled": 0.001}
        write_json(paths.metrics("explain_autoencoder", cell), agreement)
        if cell == with_all_figures:
            draw_autoencoder(images, paths, cell)
            continue
        for stage in ("evaluate_autoencoder", "explain_autoencoder"):  # drawing takes seconds
            shutil.copytree(paths.figures(stage, with_all_figures), paths.figures(stage, cell))
        (paths.figures("evaluate_autoencoder", cell) / "completions.webp").unlink()
    for name in params.caption_datasets:
        write_json(paths.data_report("prepare_captions", name), caption_report(name))
    for name in params.features:
        source = make_source("mobilenet_v2", "mobilenet_v2-b0353104.pth").to_json()
        write_json(paths.data_report("extract_features", name), {"source": source})
    drawn_of = {}
    for cell, settings in params.captioners.items():
        write_history(paths.table("train_captioner", cell, "history"), LOSSES)
        dataset, figures = settings.learning.datasets[0], paths.figures("score_captions", cell)
        scores = {f"{name}/{key}": v for name, values in caption_sets(cell).items() for key, v in values.items()}
        write_json(paths.metrics("score_captions", cell), scores)
        if dataset in drawn_of:  # drawing takes seconds
            shutil.copytree(drawn_of[dataset], figures)
            continue
        captions = make_captions(dataset)
        draw_captions(
            figures,
            MadeUpScores(captions),
            make_caption_predictions(captions),
            captions,
            MadeUpImages(),
            paths,
            cell=cell,
            settings=SETTINGS,
        )
        drawn_of[dataset] = figures
    write_captioner_comparison(params, paths)
    write_record(paths, "train_captioner", "lstm_flickr8k", measurements={"core_seconds": 930.0})
    write_record(
        paths, "train_classifier", "resnet9", measurements={"core_seconds": 600.0, "core_seconds_all_seeds": 1830.0}
    )
    speeds = {"resnet9/images_per_second_batch1": 56.7, "resnet9/images_per_second_batch256": 1234.4}
    write_record(paths, "compare_classifiers", None, measurements=speeds)
    return params, paths


def image_report(name, images):
    return {
        "name": name,
        "source": images.source.to_json(),
        "num_images": {"train": 13476, "val": 1500, "test": 1500},
        "classes": [{"wnid": c.wnid, "label": c.label, "train": 450, "val": 50, "test": 50} for c in images.classes],
        "image_size": 64,
        "sizes": {"64x64": 16476},
        "modes": {"RGB": 16300, "L": 176},
        "rule": "Training images that are elsewhere are left out.",
        "left_out": [{"member": "a.JPEG", "wnid": "n00000001", "reason": "in the test split", "same_as": ["<b>.JPEG"]}],
        "num_left_out": {"in the test split": 1},
        "undecodable": [],
        "duplicates": {"train": [["a.JPEG", "b.JPEG"]], "test": [], "same_bytes": 2},
        "leakage": {"train_val": 0, "train_test": 0, "val_test": 0},
    }


def caption_report(name):
    lengths = {
        "mean": 10.8,
        "min": 2,
        "median": 10,
        "max": 38,
        "histogram": {str(n): 60 - abs(11 - n) * 5 for n in range(2, 23)},
    }
    nothing = {"count": 0, "names": []}
    return {
        "dataset": name,
        "source": make_source(name, "images.zip").to_json(),
        "num_images": dict.fromkeys(SPLITS, 1000),
        "num_captions": dict.fromkeys(SPLITS, 5000),
        "captions_per_image": {split: {"1": 3, "5": 997} for split in SPLITS},
        "caption_lengths": dict.fromkeys(SPLITS, lengths),
        "image_modes": {"RGB": 3000},
        "image_sizes": {"width": {"min": 1, "median": 2, "max": 3}, "most_common": {"224x224": 3000}},
        "dropped": {"missing_images": {"count": 1, "names": ["gone.jpg"]}, "empty_captions": nothing},
        "images_in_no_split": {"count": 92, "names": ["x.jpg"]},
        "duplicates": {
            "rule": "Copies are left out.",
            "num_left_out": {"train": 1},
            "left_out": [],
            "within_splits": {},
        },
    }


@pytest.fixture(scope="session")
def built_once(tmp_path_factory):
    """Built once for the session; take `workspace`, a copy, to change something."""
    root = tmp_path_factory.mktemp("built")
    build_workspace(root)
    return root


@pytest.fixture
def full_workspace(built_once, tmp_path):
    """(params, paths) of a workspace of its own."""
    root = tmp_path / "workspace"
    shutil.copytree(built_once, root)
    return load_params(root), Paths(root)
