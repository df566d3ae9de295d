"""Compare all captioners: scores with intervals, floors, human captions, and captions of the same test images."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.compare import compare_captioners
from seesay.captioning.data.records import open_caption_images
from seesay.captioning.explain import read_attention
from seesay.captioning.figures.comparison import draw_captioner_comparison
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.captioning import Captioner
from seesay.params.results import Evaluation
from seesay.plotting.table import with_equal_keys
from seesay.tracking.recorder import record_stage

STAGE = "compare_captioners"


def main(root: Path = Path()) -> None:
    captioners = read_section(root, "captioners", dict[str, Captioner])
    settings = read_section(root, "evaluation", Evaluation)
    paths = Paths(root)
    with record_stage(root, STAGE, params=settings) as log:
        comparison = compare_captioners(captioners, paths, settings)
        write_json(paths.metrics(STAGE), {"rows": with_equal_keys(comparison.rows)})
        attention = {cell: read_attention(paths.attention(cell)) for cell in captioners}
        images = {name: open_caption_images(captions, paths) for name, captions in comparison.captions.items()}
        for name, captions in comparison.captions.items():
            log.dataset(name, digest=captions.digest, context="comparison", source=captions.source)
        draw_captioner_comparison(paths.figures(STAGE), comparison, attention, images, settings=settings)
        log.artifact(paths.metrics(STAGE))
        log.artifact(paths.figures(STAGE))


if __name__ == "__main__":
    run(main)
