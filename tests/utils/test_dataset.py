"""`Dataset`: lazy, re-iterable, deterministic; its methods against plain lists."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hornbeam as keras
from hornbeam.utils import Dataset
from hornbeam.utils.dataset_ahead import ahead


def numbers(n: int) -> Dataset:
    return Dataset.from_tensor_slices(torch.arange(n))


def values(dataset) -> list:
    return [v.tolist() if isinstance(v, torch.Tensor) else v for v in dataset]


def test_rows_of_nests_become_elements():
    dataset = Dataset.from_tensor_slices(({"a": np.arange(3.0), "b": ["x", "y", "z"]}, [1, 2, 3]))
    assert len(dataset) == 3
    first = next(iter(dataset))
    assert first[0]["b"] == "x"
    assert first[0]["a"].dtype is torch.float32
    (inputs, labels), *_ = dataset.batch(3)
    assert inputs["a"].tolist() == [0, 1, 2]
    assert inputs["b"].tolist() == ["x", "y", "z"]
    assert labels.tolist() == [1, 2, 3]


def test_rows_must_agree():
    with pytest.raises(ValueError, match="same number of rows"):
        Dataset.from_tensor_slices((np.arange(3), np.arange(4)))


def test_batches_and_remainders():
    assert values(numbers(5).batch(2)) == [[0, 1], [2, 3], [4]]
    assert values(numbers(5).batch(2, drop_remainder=True)) == [[0, 1], [2, 3]]
    assert [len(numbers(5).batch(2)), len(numbers(5).batch(2, drop_remainder=True))] == [3, 2]
    assert values(numbers(5).batch(2).unbatch()) == [0, 1, 2, 3, 4]


def test_map_spreads_tuples_only():
    pairs = Dataset.from_tensor_slices((torch.arange(2), torch.arange(2)))
    assert values(pairs.map(lambda x, y: x + y)) == [0, 2]
    assert values(numbers(2).map(lambda x: x + 1)) == [1, 2]
    nested = pairs.map(lambda x, y: {"x": x}).map(lambda d: d["x"] * 3)
    assert values(nested) == [0, 3]


def test_filter_concatenate_repeat():
    even = numbers(5).filter(lambda x: x % 2 == 0)
    assert values(even) == [0, 2, 4]
    assert int(even.cardinality()) == -2
    assert values(numbers(2).concatenate(even)) == [0, 1, 0, 2, 4]
    assert values(even.concatenate(numbers(2)).skip(2)) == [4, 0, 1]
    assert values(numbers(2).repeat(2)) == [0, 1, 0, 1]
    assert values(numbers(2).repeat().take(5)) == [0, 1, 0, 1, 0]
    assert values(numbers(2).repeat(0)) == []
    assert values(even.filter(lambda x: x > 9).repeat()) == []


def test_lengths():
    assert len(numbers(7).batch(2).repeat(3)) == 12
    assert len(numbers(7).take(3).concatenate(numbers(2))) == 5
    assert len(numbers(7).skip(9)) == 0
    assert int(numbers(7).repeat().cardinality()) == -1
    assert numbers(7).batch(2).cardinality().numpy() == 4
    assert numbers(7).take(numbers(7).cardinality() // 2)._length == 3
    assert bool(numbers(2).repeat())
    with pytest.raises(TypeError, match=r"infinite.*steps_per_epoch"):
        len(numbers(7).repeat())
    with pytest.raises(TypeError, match="not known before it was read"):
        len(numbers(7).filter(bool))


def test_take_and_skip_of_everything():
    assert values(numbers(3).take(-1)) == [0, 1, 2]
    assert values(numbers(3).skip(-1)) == []
    with pytest.raises(ValueError, match="`count` must be an integer not below -1"):
        numbers(3).take(-2)
    with pytest.raises(TypeError, match=r"`batch_size` must be an integer. Received: batch_size=2.5"):
        numbers(3).batch(2.5)
    with pytest.raises(ValueError, match="`batch_size` must be an integer not below 1"):
        numbers(3).batch(0)


STEPS = {
    "batch": lambda d: d.batch(3).map(lambda x: x.sum()),
    "drop": lambda d: d.batch(2, drop_remainder=True).map(lambda x: x[0]),
    "map": lambda d: d.map(lambda x: x * 2 + 1),
    "threads": lambda d: d.map(lambda x: x - 1, num_parallel_calls=3),
    "filter": lambda d: d.filter(lambda x: x % 3 != 0),
    "shuffle": lambda d: d.shuffle(4, seed=5),
    "take": lambda d: d.take(9),
    "skip": lambda d: d.skip(2),
    "repeat": lambda d: d.repeat(2),
    "join": lambda d: d.concatenate(numbers(4)),
    "cache": lambda d: d.cache(),
    "prefetch": lambda d: d.prefetch(2),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=5), st.integers(0, 14))
def test_a_pass_can_begin_anywhere(steps, start):
    def pipeline():
        dataset = numbers(13)
        for step in steps:
            dataset = STEPS[step](dataset)
        return dataset

    whole, begun = values(pipeline()), pipeline()
    begun.load_state_dict({"pass": 0, "position": start})
    assert values(begun) == whole[start:]
    assert values(pipeline().skip(start)) == whole[start:]
    assert values(pipeline().take(start)) == whole[:start]
    if pipeline()._length is not None:
        assert len(pipeline()) == len(whole)


def test_shuffled_passes_differ_and_are_a_function_of_the_seed():
    first = numbers(50).shuffle(50, seed=3)
    passes = [values(first), values(first)]
    again = numbers(50).shuffle(50, seed=3)
    assert [values(again), values(again)] == passes
    assert passes[0] != passes[1]
    assert sorted(passes[0]) == list(range(50))
    fixed = numbers(50).shuffle(50, seed=3, reshuffle_each_iteration=False)
    assert values(fixed) == values(fixed)
    repeated = values(numbers(50).shuffle(50, seed=3).repeat(2))
    assert repeated[:50] != repeated[50:]


def test_an_unseeded_order_comes_from_the_global_seed():
    keras.utils.set_random_seed(4)
    first = values(numbers(50).shuffle(50))
    assert values(numbers(50).shuffle(50)) != first
    keras.utils.set_random_seed(4)
    assert values(numbers(50).shuffle(50)) == first


def test_a_small_buffer_draws_from_the_next_few():
    order = values(numbers(100).shuffle(5, seed=0))
    assert order != sorted(order)
    assert all(value <= place + 4 for place, value in enumerate(order))


def test_the_state_goes_on_in_the_middle_of_a_pass():
    def make():
        return numbers(20).shuffle(20, seed=1).batch(3)

    dataset, other = make(), make()
    assert dataset.state_dict() == {"pass": 0, "position": 0}
    values(dataset)
    running = iter(dataset)
    seen = [next(running).tolist() for _ in range(2)]
    state = dataset.state_dict()
    assert state == {"pass": 1, "position": 2}
    rest = values(running)
    other.load_state_dict(state)
    assert values(other) == rest
    assert seen + rest != values(make())
    assert dataset.state_dict() == other.state_dict() == {"pass": 2, "position": 0}
    assert values(dataset) == values(other)


def test_a_loop_that_was_left_is_over():
    dataset = numbers(9).shuffle(9, seed=2)
    for _ in dataset:
        break
    assert dataset.state_dict() == {"pass": 1, "position": 0}
    older, newer = iter(dataset), iter(dataset)
    next(older)
    assert dataset.state_dict() == {"pass": 2, "position": 0}
    assert len([*newer, *older]) == 17
    assert dataset.state_dict() == {"pass": 3, "position": 0}


def test_a_cache_is_filled_by_a_complete_pass():
    calls = []

    def count(x):
        calls.append(int(x))
        return x

    dataset = numbers(3).map(count).cache()
    values(dataset.take(2))
    assert calls == [0, 1]
    assert values(dataset) == values(dataset) == [0, 1, 2]
    assert calls == [0, 1, 0, 1, 2]


def test_numpy_elements():
    first = next(numbers(4).batch(2).map(lambda x: (x, {"t": x})).as_numpy_iterator())
    assert isinstance(first[0], np.ndarray)
    assert first[1]["t"].tolist() == [0, 1]


def test_elements_of_different_shapes_are_refused_in_words():
    dataset = Dataset(lambda number, start: iter([torch.zeros(2), torch.zeros(3)]), 2)
    with pytest.raises(ValueError, match=r"different shapes cannot be stacked: \(2,\) at 0, \(3,\) at 1.*map"):
        next(iter(dataset.batch(2)))


def test_what_user_functions_return_is_batched():
    dataset = numbers(2).map(lambda x: {"f": 0.5, "s": "t", "n": None, "a": np.ones(2)})
    batch = next(iter(dataset.batch(2)))
    assert batch["f"].dtype is torch.float32
    assert batch["s"].tolist() == ["t", "t"]
    assert batch["n"] is None
    assert batch["a"].shape == (2, 2)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_keep_the_order(threads):
    def slow(x):
        time.sleep(0.002 * (x % 3))
        return x

    assert list(ahead(slow, range(20), threads, depth=6)) == list(range(20))


def test_threads_stop_with_the_reader_and_pass_errors_on():
    def fail(x):
        if x == 3:
            raise ValueError("three")
        return x

    reader = ahead(fail, range(100), threads=2, depth=2)
    assert [next(reader), next(reader), next(reader)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(reader)
    reader = ahead(abs, range(100), threads=2, depth=4)
    next(reader)
    reader.close()
    deadline = time.monotonic() + 5
    while any(t.name.startswith("hornbeam-reader") for t in threading.enumerate()):
        assert time.monotonic() < deadline, "a reader's thread is still there"
        time.sleep(0.01)


def test_fit_evaluate_and_predict_take_it():
    x, y = torch.randn(24, 3), torch.randn(24, 1)
    batches = Dataset.from_tensor_slices((x, y)).batch(8)

    def trained(*args, **kwargs):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model, model.fit(*args, epochs=2, verbose=0, **kwargs).history["loss"]

    _, expected = trained(x, y, batch_size=8, shuffle=False)
    model, losses = trained(batches)
    assert losses == pytest.approx(expected, rel=1e-6)
    assert trained(batches.repeat(), steps_per_epoch=3)[1] == pytest.approx(expected, rel=1e-6)
    assert model.evaluate(batches, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    assert model.predict(batches.map(lambda x, y: x), verbose=0).shape == (24, 1)


def test_repr():
    assert repr(numbers(4).batch(2)) == "<Dataset, length: 2>"
    assert repr(numbers(4).repeat()) == "<Dataset, length: endless>"
    assert repr(Dataset(lambda number, start: iter(()), None, ["a"])) == "<Dataset, length: unknown, class_names=['a']>"
    assert math.isinf(numbers(4).repeat()._length)
