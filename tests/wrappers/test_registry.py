"""The registry of parts: names, aliases, and an error that helps."""

import pytest

from wrappers.errors import InputError
from wrappers.registry import Registry


@pytest.fixture
def fruit() -> Registry[int]:
    registry: Registry[int] = Registry("fruit")
    registry.register("apple", 1, aliases=("pomme",))
    registry.register("pear", 2)
    return registry


def test_a_part_is_found_by_its_name_and_by_an_alias(fruit: Registry[int]) -> None:
    assert fruit.get("apple") == fruit.get("pomme") == 1
    assert fruit.name_of("pomme") == "apple"
    assert fruit.names() == tuple(fruit) == ("apple", "pear")
    assert "pomme" in fruit and "plum" not in fruit


def test_an_unknown_name_lists_the_choices_and_the_nearest(fruit: Registry[int]) -> None:
    with pytest.raises(InputError) as caught:
        fruit.get("Aple")
    assert str(caught.value) == (
        "there is no fruit 'Aple'; choose one of apple, pear (did you mean apple?)"
    )
    with pytest.raises(InputError, match=r"choose one of apple, pear$"):
        fruit.get("zzz")


@pytest.mark.parametrize("name", ["apple", "pomme"])
def test_a_name_that_is_taken_is_refused(fruit: Registry[int], name: str) -> None:
    with pytest.raises(ValueError, match="already a fruit"):
        fruit.register(name, 3)
    with pytest.raises(ValueError, match="already a fruit"):
        fruit.register("plum", 3, aliases=(name,))
    assert "plum" not in fruit


def test_a_forgotten_part_takes_its_aliases_with_it(fruit: Registry[int]) -> None:
    fruit.forget("apple")
    assert "apple" not in fruit and "pomme" not in fruit
    fruit.register("pomme", 4)
    assert fruit.get("pomme") == 4
