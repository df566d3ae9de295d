"""Compare all classifiers: accuracy, cost, chance level and published results."""

from pathlib import Path

from seesay.core.stage import run
from seesay.classification.compare import compare_classifiers
from seesay.classification.figures.comparison import draw_comparison
from seesay.compute import configure
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import read_packed_images
from seesay.params.classification import Classifier
from seesay.params.results import Comparison
from seesay.params.training import Runtime
from seesay.plotting.table import with_equal_keys
from seesay.tracking.recorder import record_stage

STAGE = "compare_classifiers"


def main(root: Path = Path()) -> None:
    classifiers = read_section(root, "classifiers", dict[str, Classifier])
    settings = read_section(root, "comparison", Comparison)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    names = dict.fromkeys(classifier.dataset for classifier in classifiers.values())
    datasets = {name: read_packed_images(paths.images(name)) for name in names}
    with record_stage(root, STAGE, params=settings, compute=compute) as log:
        comparison = compare_classifiers(classifiers, datasets, paths, settings, compute=compute)
        write_json(paths.metrics(STAGE), {"rows": with_equal_keys(comparison.rows)})
        draw_comparison(paths.figures(STAGE), comparison.rows, datasets, classifiers, paths, settings=settings)
        log.measurement(comparison.throughput)  # varies between runs: never in the metrics file
        log.artifact(paths.metrics(STAGE))
        log.artifact(paths.figures(STAGE))


if __name__ == "__main__":
    run(main)
