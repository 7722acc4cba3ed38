"""Nests, as keras.tree has them."""

import keras
import pytest

from hornbeam import backend, tree

NEST = {"b": 1, "a": [2, (3, [])]}


@pytest.mark.oracle
def test_nests_are_taken_apart_as_keras_does():
    for nest in (NEST, 5, [], [1, {"z": 2, "y": (3,)}]):
        assert tree.flatten_with_path(nest) == keras.tree.flatten_with_path(nest)
        assert tree.lists_to_tuples(nest) == keras.tree.lists_to_tuples(nest)
    shapes = {"a": (2, 3), "b": [(None, 4), (5, 6)]}
    more = lambda shape: (*shape, 1)  # noqa: E731
    assert tree.map_shape_structure(more, shapes) == keras.tree.map_shape_structure(more, shapes)
    pair = lambda a, b: (a, b)  # noqa: E731
    nests = ([[1, 2], 3], [{"a": 1}, 5])
    assert tree.map_structure_up_to([0, 0], pair, *nests) == keras.tree.map_structure_up_to([0, 0], pair, *nests)


def test_none_takes_a_place_where_a_function_says_so():
    assert tree.traverse(lambda x: tree.MAP_TO_NONE if x == 1 else None, [1, 2]) == [None, 2]
    assert tree.traverse(lambda x: tree.MAP_TO_NONE if x == 1 else None, [1, 2], top_down=False) == [None, 2]


def test_nests_that_differ_are_told():
    tree.assert_same_paths([1, 2], (3, 4))
    with pytest.raises(ValueError, match=r"only `a` has the paths \[\('a',\)\], only `b` \[\('b',\)\]"):
        tree.assert_same_paths({"a": 1}, {"b": 1})
    with pytest.raises(ValueError, match=r"nest 0 has nothing at \(2,\)"):
        tree.map_structure_up_to([0, 0, 0], lambda x: x, [1, 2])
    with pytest.raises(ValueError, match="a nest of shapes holds 'x'"):
        tree.map_shape_structure(tuple, {"a": "x"})


@pytest.mark.oracle
@pytest.mark.parametrize("pair", [("int32", "float16"), ("uint8", "int8"), ("bool", "int32"), ("bfloat16", "float16")])
def test_dtypes_meet_as_in_keras(pair):
    assert backend.result_type(*pair) == keras.backend.result_type(*pair)
    for dtype in pair:
        assert backend.is_int_dtype(dtype) == keras.backend.is_int_dtype(dtype)
        assert backend.is_float_dtype(dtype) == keras.backend.is_float_dtype(dtype)
