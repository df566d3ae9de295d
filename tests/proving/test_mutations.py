"""Proofs can fail: each change of behaviour below moves the proofs that cover it, and no others."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seesay.proving.running import TOLERANCE, moves

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "schedules": "training/optim.py",
    "average": "training/optim.py",
    "optimizers": "training/optim.py",
    "loop": "training/loop.py",
    "resuming": "training/resume.py",
    "classification": "classification/training/fit.py",
    "captioning": "captioning/training/fit.py",
    "scheduled_sampling": "captioning/training/fit.py",
    "self_critical": "captioning/training/reward.py",
    "encoder_finetuning": "captioning/training/experiments.py",
    "reconstruction": "autoencoding/training/fit.py",
    "augmentation": "images/augment/pipeline.py",
    "batches": "images/batches.py",
    "geometry": "images/augment/geometry.py",
    "colour": "images/augment/colour.py",
    "mixing": "images/augment/mixing.py",
    "trivial_augment": "images/augment/trivial_augment.py",
    "patch_masks": "autoencoding/training/masks.py",
    "features": "captioning/features/store.py",
    "image_views": "captioning/features/views.py",
    "components": "captioning/features/components.py",
    "pretrained": "classification/networks/pretrained.py",
    "local_response": "classification/networks/alexnet.py",
    "resnet9": "classification/networks/resnets.py",
    "lstm": "captioning/networks/recurrent.py",
    "recurrence": "captioning/networks/attention.py",
    "attention": "captioning/networks/attention.py",
    "words": "captioning/networks/layers.py",
    "feature_encoders": "captioning/features/encoders.py",
    "trainable_encoders": "captioning/features/trainable.py",
    "cider": "captioning/metrics/cider.py",
}
"""The files of the changed lines, as paths below the package's folder."""

MLP, CNN, CONV, LSTM = "classifiers/mlp", "classifiers/plain_cnn", "autoencoders/conv_autoencoder", "captioners/lstm"
ON_BACKBONE = "autoencoders/backbone_autoencoder"
SMALL_CNN, SEEN, TUNED = "features/small_cnn", "features/classifier", "encoders/classifier"


class Mutation(NamedTuple):
    file: str
    old: str
    new: str
    moves: tuple[str, ...]
    stays: tuple[str, ...] = ()


MUTATIONS = {
    "warm-up one step shorter": Mutation(
        "schedules", "(step + 1) / (warmup_steps + 1)", "(step + 1) / warmup_steps", (MLP,)
    ),
    "linear for cosine": Mutation("schedules", "_cosine(peak, 0.0, share)", "peak * (1.0 - share)", (MLP, CONV)),
    "one-cycle's peak a step later": Mutation("schedules", "* num_steps - 1)", "* num_steps)", (MLP,)),
    "milestones a step later": Mutation("schedules", "step >= round(", "step > round(", (MLP,)),
    "moving average's ramp": Mutation("average", "/ (10 + num_updates)", "/ (11 + num_updates)", (MLP,)),
    "moving average's decay": Mutation("average", "min(self.settings.decay,", "min(0.9,", (MLP,)),
    "moving average at other steps": Mutation("average", "if step %", "if (step + 1) %", (MLP,)),
    "decay of norms and biases": Mutation("optimizers", "weight_decay if is_matrix else 0.0", "weight_decay", (CNN,)),
    "no nesterov": Mutation("optimizers", "nesterov=settings.nesterov", "nesterov=False", (MLP,)),
    "looser clipping": Mutation("optimizers", "(), max_gradient_norm)", "(), 1.2 * max_gradient_norm)", (MLP, LSTM)),
    "rate scales ignored": Mutation("optimizers", "rate * group[RATE_SCALE]", "rate", (TUNED,), (MLP,)),
    "gradients added up": Mutation("loop", "else loss / num_in_group", "else loss", (MLP,)),
    "an epoch more of patience": Mutation("resuming", ">= patience", "> patience", (MLP,)),
    "fewer flips": Mutation("augmentation", "< 0.5\n    flip &=", "< 0.4\n    flip &=", (MLP,), (LSTM,)),
    "crop a pixel off": Mutation(
        "augmentation",
        "images.device) - augmentation.crop_padding",
        "images.device) - augmentation.crop_padding + 1",
        (MLP,),
    ),
    "larger cutout": Mutation(
        "augmentation", "round(augmentation.cutout * image_size)", "round(augmentation.cutout * image_size + 1)", (MLP,)
    ),
    "labels of cutmix": Mutation(
        "mixing", "torch.where(mixes.is_cut, cut_share, mixes.own_share)", "mixes.own_share", (MLP,), (CONV,)
    ),
    "mixup's shares": Mutation("mixing", "(seed, kind).beta(alpha, alpha,", "(seed, kind).beta(alpha, 1.0,", (MLP,)),
    "jitter in another order": Mutation(
        "colour",
        "    brightness, contrast, saturation = factors.unbind(1)\n",
        "    brightness, contrast, saturation = factors.unbind(1)\n    images = adjust_saturation(images, saturation)\n"
        "    settings = settings.model_copy(update={'saturation': 0.0})\n",
        (CNN,),
    ),
    "larger angles": Mutation(
        "geometry", "angle, slope = rotation.deg2rad()", "angle, slope = (1.1 * rotation).deg2rad()", (CNN,)
    ),
    "window of a crop": Mutation(
        "geometry", "(place - 0.5) * (1.0 - sides)", "(place - 0.5) * sides", (CNN, SMALL_CNN)
    ),
    "weaker TrivialAugment": Mutation("trivial_augment", "/ (NUM_STRENGTHS - 1)", "/ NUM_STRENGTHS", (CNN,)),
    "no label smoothing": Mutation(
        "classification", "(logits, labels, label_smoothing=label_smoothing)", "(logits, labels)", (MLP,)
    ),
    "temperature not squared": Mutation(
        "classification", "* distillation.temperature**2", "* distillation.temperature", (MLP,)
    ),
    "labels of mixed images without class weights": Mutation(
        "classification", "weighted / of_image[:, None]", "shares / shares.sum(dim=1, keepdim=True)", (MLP,), (CNN,)
    ),
    "the first images of a class more often": Mutation(
        "batches", "members[torch.randperm(len(members), generator=generator)]", "members", (MLP,), (CNN,)
    ),
    "images grow later": Mutation("classification", "settings.until * num_epochs", "num_epochs", (CNN,), (MLP,)),
    "layer decay": Mutation(
        "pretrained", "layer_decay**depth", "layer_decay ** (depth + 1)", ("classifiers/pretrained",)
    ),
    "local response": Mutation("local_response", "= 5, 1e-4, 2.0", "= 5, 1e-4, 1.9", ("classifiers/alexnet_mini",)),
    "class in the loss": Mutation(
        "reconstruction", "loss.cross_entropy * F.", "0.9 * loss.cross_entropy * F.", (ON_BACKBONE,), (CONV,)
    ),
    "SSIM of hidden patches": Mutation(
        "patch_masks", "return squares[patches]", "return squares[~patches]", (ON_BACKBONE,), (CONV,)
    ),
    "scale of ResNet-9's logits": Mutation(
        "resnet9", "LOGIT_SCALE = 0.125", "LOGIT_SCALE = 0.15", ("classifiers/resnet9",)
    ),
    "whitening with less contrast": Mutation(
        "resnet9", "WHITENING_EPSILON = 1e-2", "WHITENING_EPSILON = 0.1", ("classifiers/resnet9",), (MLP,)
    ),
    "a longer way to the sharpest point": Mutation(
        "optimizers", "scale = radius /", "scale = 2.0 * radius /", ("classifiers/resnet9",), (MLP,)
    ),
    "lookahead a step later": Mutation(
        "optimizers", "k=every_steps)", "k=every_steps + 1)", ("classifiers/resnet9",), (MLP,)
    ),
    "norms' biases no faster": Mutation(
        "optimizers", "* settings.norm_bias_rate", "* 1.0", ("classifiers/resnet9",), (MLP,)
    ),
    "flips that alternate every third epoch": Mutation(
        "batches", "epoch % 2 == 0", "epoch % 3 == 0", ("classifiers/resnet9",), (MLP,)
    ),
    "deviation of the first state": Mutation(
        "lstm", "return hidden.tanh(), cell", "return hidden, cell", (LSTM,), ("captioners/gru",)
    ),
    "dropout behind the image": Mutation(
        "lstm",
        "self.image(self.dropout(self.scale(features)))",
        "self.dropout(self.image(self.scale(features)))",
        (LSTM,),
    ),
    "bias of the forget gate": Mutation(
        "recurrence",
        "addcmul(input_gate * candidate, forget_gate, cell)",
        "addcmul(input_gate * candidate, (forget_gate + 1.0) / 2.0, cell)",
        ("captioners/updown",),
        ("captioners/att2in",),
    ),
    "flatter attention": Mutation(
        "attention",
        "scores.float().softmax(dim=2)",
        "(0.8 * scores.float()).softmax(dim=2)",
        ("captioners/soft_attention",),
        (LSTM,),
    ),
    "tied weights without bias": Mutation(
        "words", "self.vectors.weight, self.bias)", "self.vectors.weight, None)", (LSTM,), (TUNED,)
    ),
    "share of own words": Mutation(
        "scheduled_sampling", "(epoch - 1) / (num_epochs - 1)", "epoch / num_epochs", (LSTM,), (TUNED,)
    ),
    "baseline with the caption itself": Mutation(
        "self_critical", "/ (rewards.shape[1] - 1)", "/ rewards.shape[1]", (LSTM,), (TUNED,)
    ),
    "deviation of CIDEr-D": Mutation("cider", "SIGMA = 6.0", "SIGMA = 4.0", (LSTM,), (MLP,)),
    "worst epoch for best": Mutation(
        "captioning", '"val/cider_d", highest=True', '"val/cider_d", highest=False', ("captioners/gru",)
    ),
    "views never the first": Mutation(
        "features", "self.index.num_views + 1, len(rows)", "self.index.num_views, len(rows)", (LSTM,)
    ),
    "one patch more hidden": Mutation("patch_masks", "order < count", "order <= count", (CONV,)),
    "floor of the logarithm": Mutation("reconstruction", "LOG_FLOOR = 1e-5", "LOG_FLOOR = 2e-4", (CONV,)),
    "pixels not centred": Mutation(
        "feature_encoders", "/ 255.0 - self.mean) / self.std", "/ 255.0) / self.std", (SEEN,), (SMALL_CNN,)
    ),
    "grid of largest values": Mutation(
        "feature_encoders", "F.adaptive_avg_pool2d(grid", "F.adaptive_max_pool2d(grid", (SEEN,)
    ),
    "views moved": Mutation(
        "image_views", "width * float(crop[0, 2] + 0.5)", "width * float(crop[0, 2] + 0.45)", (SMALL_CNN,)
    ),
    "sign of components": Mutation("components", "axes *= np.sign(", "axes *= -np.sign(", (SMALL_CNN,), (SEEN,)),
    "frozen blocks": Mutation("trainable_encoders", "blocks[frozen_blocks:]", "blocks[0:]", (TUNED,)),
    "encoder at full rate": Mutation(
        "encoder_finetuning", ": settings.encoder_rate for", ": 1.0 for", (TUNED,), (LSTM,)
    ),
}


pytestmark = pytest.mark.timeout(2400)  # a hundred seconds on an idle core, many times that on a busy machine


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The proofs of each changed copy, by the name of its mutation."""
    target = tmp_path_factory.mktemp("mutations") / "found.json"
    tasks = [(FILES[one.file], one.old, one.new, one.moves, one.stays) for one in MUTATIONS.values()]
    path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("mutating.py")), str(target)],
        input=json.dumps(tasks),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "SEESAY_TRACKING": "off"},
        text=True,
        check=True,
    )
    return dict(zip(MUTATIONS, json.loads(target.read_text()), strict=True))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_of_behaviour_moves_its_proofs_and_no_other(found: dict[str, Any], name: str) -> None:
    assert "error" not in found[name], found[name]["error"]
    for proof, cases in found[name].items():
        committed = json.loads((ROOT / f"proofs/{proof}.json").read_text())
        if proof in MUTATIONS[name].moves:  # its cases end with the one that moved
            committed = {case: committed[case] for case in cases}
        largest = max(moves(committed, cases), key=lambda move: move.size)
        assert (largest.size > TOLERANCE) == (proof in MUTATIONS[name].moves), f"{proof}: {largest}"
