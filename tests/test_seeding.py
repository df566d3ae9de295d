"""Seeds are split by name, the same everywhere."""

from seesay.seeding import derive_seed, numpy_generator, torch_generator


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(0, "split", "tiny30") == 6045023550577351704


def test_names_seeds_and_order_all_matter() -> None:
    seeds = {
        derive_seed(0, "a"),
        derive_seed(0, "b"),
        derive_seed(1, "a"),
        derive_seed(0, "a", "b"),
        derive_seed(0, "b", "a"),
    }
    assert len(seeds) == 5


def test_a_seed_fits_numpy_and_torch() -> None:
    for number in range(50):
        assert 0 <= derive_seed(number) < 2**63
    assert numpy_generator(3, "x").integers(10**9) == numpy_generator(3, "x").integers(10**9)
    assert torch_generator(3, "x").initial_seed() == derive_seed(3, "x")
