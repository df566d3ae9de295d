from seesay.report.readme import headlines_markdown
from seesay.report.results import Results


def classifier(cell, top1, *, architecture="mlp", substitutes=()):
    interval = {"test/top1": top1, "test/top1_low": top1 - 0.01, "test/top1_high": top1 + 0.01}
    names = {"cell": cell, "dataset": "ten", "architecture": architecture}
    return {**names, **interval, "substitutes": list(substitutes)}


def captions(cell, kind, cider_d):
    interval = {"cider_d": cider_d, "cider_d_low": cider_d - 0.1, "cider_d_high": cider_d + 0.1}
    return {"cell": cell, "dataset": "dots", "set": kind, "bleu4": 0.2, **interval, "substitutes": []}


def test_the_best_classifier_stands_beside_its_baselines():
    rows = [
        classifier("small", 0.5),
        classifier("tuned", 0.8, architecture="pretrained", substitutes=["weights.pth"]),
        {"cell": "low paper", "dataset": "ten", "source": "a", "test/top1": 0.3, "substitutes": []},
        {"cell": "high paper", "dataset": "ten", "source": "b", "test/top1": 0.4, "substitutes": []},
        {"cell": "chance", "dataset": "ten", "test/top1": 0.1, "substitutes": []},
    ]
    data = [{"dataset": "ten", "num_images": {"test": 1500}}]
    lines = headlines_markdown(Results(rows, [], [], data)).splitlines()
    assert lines[-3] == (
        "| ten, 1,500 images | tuned | 80.0 (79.0 to 81.0) | 50.0 (small) | 40.0 (high paper) | 10.0 "
        "| `dvc repro evaluate_classifier@tuned` |"
    )
    assert lines[-1] == "Substitutes, files of a mirror that differ from the official ones: `weights.pth`."


def test_a_published_result_of_another_dataset_is_no_headline():
    rows = [
        classifier("small", 0.5),
        {"cell": "paper", "dataset": "two hundred", "source": "a", "test/top1": 0.7, "substitutes": []},
    ]
    text = headlines_markdown(Results(rows, [], [], []))
    assert "paper" not in text
    assert "| ten | small | 50.0 (49.0 to 51.0) | 50.0 (small) | – | – |" in text


def test_the_best_captioner_stands_beside_its_own_floors_and_people():
    rows = [
        captions("a", "test", 0.4),
        captions("a", "floor_constant", 0.1),
        captions("b", "test", 0.5),
        captions("b", "floor_constant", 0.12),
        captions("b", "human", 0.9),
    ]
    line = headlines_markdown(Results([], [], rows, [])).splitlines()[-1]
    assert line == "| dots | b | 0.500 (0.400 to 0.600) | 20.0 | – | 0.120 | 0.900 | `dvc repro score_captions@b` |"


def test_the_best_mean_over_seeds_is_named_where_there_is_one():
    seeds = {"seeds/num": 3, "seeds/test/top1_mean": 0.7, "seeds/test/top1_std": 0.01}
    rows = [classifier("ensemble", 0.8), classifier("long", 0.71) | seeds]
    text = headlines_markdown(Results(rows, [], [], []))
    assert "| chance | best mean over seeds | reproduce |" in text
    assert "| – | 70.0 ± 1.0 (long, 3 seeds) | `dvc repro evaluate_classifier@ensemble` |" in text


def test_a_task_without_results_has_no_table():
    assert headlines_markdown(Results([], [], [], [])) == ""
