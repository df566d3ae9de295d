import pytest

from seesay.captioning.compare import KINDS, choose_shared_cases, describe_shared_rule

# Images 0 to 11: the mean rises with the number; image 5 is where the two differ most, then image 6.
FIRST = {image: image / 10 for image in range(12)} | {5: 1.0, 6: 1.0}
SECOND = {image: image / 10 for image in range(12)} | {5: 0.1, 6: 0.2}


def chosen_as(chosen, kind):
    return [image for which, image in chosen if which == kind]


def test_cases_are_the_best_the_worst_those_that_differ_and_random_others():
    chosen = choose_shared_cases({"a": FIRST, "b": SECOND}, {}, 8, seed=0)
    assert chosen_as(chosen, "best") == [11, 10]
    assert chosen_as(chosen, "worst") == [0, 1]
    assert chosen_as(chosen, "disagreeing") == [5, 6]  # 0.9 and 0.8 apart, the others not at all
    assert len(chosen_as(chosen, "random")) == 2
    assert not set(chosen_as(chosen, "random")) & {0, 1, 5, 6, 10, 11}


def test_a_captioner_alone_disagrees_with_its_own_alternatives():
    alternatives = {image: [0.5, 0.5] for image in range(12)} | {7: [0.1, 0.9]}
    chosen = choose_shared_cases({"a": dict(FIRST)}, alternatives, 4, seed=0)
    assert chosen_as(chosen, "disagreeing") == [7]


@pytest.mark.parametrize("count", [1, 3, 4, 7, 100])
def test_no_image_is_a_case_twice_and_there_are_as_many_as_asked_for(count):
    same = dict.fromkeys(range(9), 0.0)
    images = [image for _, image in choose_shared_cases({"a": same, "b": same}, {}, count, seed=0)]
    assert len(images) == len(set(images)) == min(count, 9)


def test_the_choice_does_not_depend_on_the_order_of_captioners_or_images():
    backwards = [dict(reversed(scores.items())) for scores in (FIRST, SECOND)]
    assert choose_shared_cases({"b": backwards[1], "a": backwards[0]}, {}, 8, seed=3) == choose_shared_cases(
        {"a": FIRST, "b": SECOND}, {}, 8, seed=3
    )


def test_another_seed_draws_other_random_cases_only():
    one, two = (choose_shared_cases({"a": FIRST, "b": SECOND}, {}, 8, seed=seed) for seed in (0, 4))
    assert one != two
    assert [case for case in one if case[0] != "random"] == [case for case in two if case[0] != "random"]


def test_the_rule_counts_each_kind():
    rule = describe_shared_rule([(kind, number) for number, kind in enumerate((*KINDS, "random"))], 2, seed=5)
    assert "2 drawn at random" in rule
    assert "seed 5" in rule
    assert "the 1 with the highest mean CIDEr-D of the captioners" in rule
