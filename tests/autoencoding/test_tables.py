from pathlib import Path

import pytest

from seesay.autoencoding.page import autoencoder_tables, describe_start
from seesay.params.autoencoding import Autoencoder
from seesay.params.project import load_params
from seesay.plotting.table import Footnotes, decimal_with_interval

REPOSITORY = Path(__file__).parents[2]


def row(cell, architecture, psnr, **others):
    names = {"cell": cell, "dataset": "tiny30", "architecture": architecture, "starts_from": "random weights"}
    numbers = {"test/mse": 0.0066, "test/psnr": psnr, "test/psnr_low": psnr - 0.1, "test/psnr_high": psnr + 0.1}
    return {**names, **numbers, "latent_size": 1024.0, "test/ssim": 0.8, "substitutes": ["a.zip"], **others}


PCA = row("pca", "pca", 22.4, starts_from="computed")
MASKED = row("masked", "backbone_autoencoder", 20.0, patch_size=8, share=0.25, starts_from="resnet9, fine-tuned") | {
    "test/hidden_psnr": 18.0,
    "test/hidden_psnr_low": 17.9,
    "test/hidden_psnr_high": 18.1,
    "test/inpainting_hidden_psnr": 17.1,
    "test/psnr_over_inpainting": 0.9,
    "test/psnr_over_inpainting_low": 0.8,
    "test/psnr_over_inpainting_high": 1.0,
    "test/visible_psnr": 15.0,
    "test/mean_image_hidden_psnr": 12.04,
    "test/hidden_ssim": 0.31,
    "test/inpainting_hidden_ssim": 0.29,
    "agreement/grad_cam": -0.195,
    "agreement/grad_cam_shuffled": -0.0917,
    "agreement/layer1": 0.0349,
    "test/probe_top1": 0.41,
    "test/classifier_top1": 0.68,
    "test/neighbours_same_class": 0.3,
}


def column(table, name):
    return [line[table.heads.index(name)] for line in table.rows]


def test_an_autoencoder_is_compared_with_pca_of_equal_code_size_only():
    rows = [
        PCA,
        row("residual", "residual_autoencoder", 23.5),
        row("small", "conv_autoencoder", 21.0, latent_size=256.0),
    ]
    table = autoencoder_tables(rows, Footnotes())[0]
    assert column(table, "above PCA, dB") == ["–", "+1.10", "–"]
    assert column(table, "PSNR, dB")[1] == "23.50 (23.40 to 23.60)"
    assert column(table, "latent size") == ["1,024", "1,024", "256"]


def test_completion_stands_beside_inpainting_with_intervals():
    table = autoencoder_tables([PCA, MASKED], Footnotes())[1]
    assert column(table, "autoencoder") == ["masked"]
    assert column(table, "hidden") == ["25 % of 8x8 patches"]
    assert column(table, "hidden, dB") == ["18.00 (17.90 to 18.10)"]
    assert column(table, "inpainting, dB") == ["17.10"]
    assert column(table, "difference, dB") == ["0.90 (0.80 to 1.00)"]
    assert column(table, "mean image, dB") == ["12.04"]
    assert (column(table, "hidden, SSIM"), column(table, "inpainting, SSIM")) == (["0.310"], ["0.290"])
    assert "visible, SSIM" not in table.heads  # nothing is known of it


def test_a_map_s_agreement_with_small_errors_has_its_control_beside_it():
    """The control is the agreement of another image's map."""
    table = autoencoder_tables([PCA, MASKED], Footnotes())[3]
    assert [row[2:] for row in table.rows] == [("Grad-CAM", "-0.195", "-0.092"), ("layer 1", "0.035", "–")]


def test_the_probe_stands_beside_the_classifier_it_was_taken_from():
    table = autoencoder_tables([PCA, MASKED], Footnotes())[2]
    assert column(table, "linear probe, %") == ["41.0"]
    assert column(table, "its classifier, %") == ["68.0"]


def test_without_autoencoders_no_table_has_rows():
    assert not [table for table in autoencoder_tables([], Footnotes()) if table.rows]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("pca", "computed"),
        ("conv", "random weights"),
        ("scratch", "random weights"),
        ("frozen", "resnet9, frozen"),
        ("finetuned", "resnet9, fine-tuned"),
    ],
)
def test_what_an_encoder_starts_from_is_said_in_words(cell, says):
    settings: Autoencoder = load_params(REPOSITORY).autoencoders[cell]
    assert describe_start(settings) == says


def test_a_number_without_an_interval_stands_alone():
    assert decimal_with_interval(1.0, None, None) == "1.00"
    assert decimal_with_interval(None, None, None) == "–"
