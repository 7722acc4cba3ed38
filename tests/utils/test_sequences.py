"""`pad_sequences`, `timeseries_dataset_from_array` and `split_dataset`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hornbeam
from hornbeam.utils import Dataset, pad_sequences, split_dataset, timeseries_dataset_from_array
from signatures import parameters

NAMES = """audio_dataset_from_directory image_dataset_from_directory text_dataset_from_directory timeseries_dataset_from_array
split_dataset pad_sequences load_img save_img array_to_img img_to_array""".split()


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_keras(name):
    assert parameters(getattr(hornbeam.utils, name)) == parameters(getattr(keras.utils, name))


class TestPadSequences:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.lists(st.integers(-9, 9), max_size=6), min_size=1, max_size=5),
        st.one_of(st.none(), st.integers(1, 8)),
        st.sampled_from(["pre", "post"]),
        st.sampled_from(["pre", "post"]),
        st.sampled_from(["int32", "float32", "int64"]),
    )
    def test_is_that_of_keras(self, sequences, maxlen, padding, truncating, dtype):
        ours = pad_sequences(sequences, maxlen, dtype, padding, truncating, 7)
        theirs = keras.utils.pad_sequences(sequences, maxlen, dtype, padding, truncating, 7)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)

    def test_vectors_texts_tensors(self):
        vectors = [[[1, 2]], [], [[3, 4], [5, 6]]]
        assert np.array_equal(pad_sequences(vectors), keras.utils.pad_sequences(vectors))
        texts = pad_sequences([["a"], ["b", "c"]], dtype=object, padding="post", value="")
        assert texts.tolist() == [["a", ""], ["b", "c"]]
        assert pad_sequences([torch.tensor([1]), torch.tensor([1, 2])]).tolist() == [[0, 1], [1, 2]]
        assert pad_sequences([]).shape == (0, 0)
        assert pad_sequences([[1, 2]], maxlen=0).shape == (1, 0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([[1]], None, "int32", "front"), "`padding` must be 'pre' or 'post'. Received: padding='front'"),
            (([[1]], None, "int32", "pre", "pst"), r"`truncating` must be .*Did you mean 'post'\?"),
            (([[1], 2],), r"Entry 1 is none: 2 \(int\)"),
            ((3,), r"takes a list of sequences. Received: 3 \(int\)"),
            (([["a"]], None, "int32", "pre", "pre", "x"), "Use dtype=object"),
            (([[1]], -1), "`maxlen` must not be negative"),
            (([[[1, 2]], [[1, 2, 3]]],), r"sequence 1 has shape \(3,\), those before it \(2,\)"),
        ],
    )
    def test_mistakes(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            pad_sequences(*arguments)


def windows(dataset):
    return [[part.tolist() for part in b] if isinstance(b, tuple) else b.tolist() for b in dataset]


class TestTimeseries:
    data = np.arange(10)

    @pytest.mark.parametrize(
        ("targets", "arguments", "expected"),
        [  # read off Keras 3.15.1
            (None, {"batch_size": 5}, [[[i, i + 1, i + 2] for i in range(5)], [[i, i + 1, i + 2] for i in range(5, 8)]]),
            (data[:2] * 10, {}, [[[[0, 1, 2], [1, 2, 3]], [0, 10]]]),
            (data * 10, {"sequence_stride": 2, "sampling_rate": 2}, [[[[0, 2, 4], [2, 4, 6], [4, 6, 8]], [0, 20, 40]]]),
            (data * 10, {"start_index": 2, "end_index": 6}, [[[[2, 3, 4], [3, 4, 5]], [20, 30]]]),
            (data * 10, {"start_index": 6, "batch_size": None}, [[[6, 7, 8], 60], [[7, 8, 9], 70]]),
        ],
    )
    def test_windows(self, targets, arguments, expected):
        dataset = timeseries_dataset_from_array(self.data, targets, 3, **arguments)
        assert windows(dataset) == expected
        assert len(dataset) == len(expected)
        assert windows(dataset.skip(1)) == expected[1:]

    def test_shuffled_windows_keep_their_targets(self):
        dataset = timeseries_dataset_from_array(np.arange(100), np.arange(100) * 2, 4, shuffle=True, seed=1, batch_size=10)
        passes = [[(x[:, 0].tolist(), y.tolist()) for x, y in dataset] for _ in range(2)]
        assert passes[0] != passes[1]
        for batches in passes:
            assert all([2 * i for i in starts] == goals for starts, goals in batches)
            assert sorted(i for starts, _ in batches for i in starts) == list(range(97))
        again = timeseries_dataset_from_array(np.arange(100), None, 4, shuffle=True, seed=1, batch_size=10)
        assert [x[:, 0].tolist() for x in again] == [starts for starts, _ in passes[0]]

    def test_more_axes_and_kinds_of_data(self):
        series = torch.rand(20, 3, 2)
        x, y = next(iter(timeseries_dataset_from_array(series, np.random.rand(20, 4), 5)))
        assert x.shape == (16, 5, 3, 2)
        assert torch.equal(x[3], series[3:8])
        assert y.dtype is torch.float32
        assert windows(timeseries_dataset_from_array([1, 2, 3], None, 2)) == [[[1, 2], [2, 3]]]

    def test_fit_takes_it(self):
        model = hornbeam.Sequential([hornbeam.layers.GRU(3), hornbeam.layers.Dense(1)])
        model.compile("adam", "mse")
        history = model.fit(timeseries_dataset_from_array(np.random.rand(40, 2), np.random.rand(40), 5), epochs=2, verbose=0)
        assert len(history.history["loss"]) == 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"sequence_length": 0}, "`sequence_length` must be a positive integer. Received: sequence_length=0"),
            ({"sequence_stride": 0}, "`sequence_stride` must be a positive integer"),
            ({"sampling_rate": 1.5}, "`sampling_rate` must be a positive integer"),
            ({"batch_size": 0}, "`batch_size` must be a positive integer"),
            ({"start_index": -1}, "`start_index` must lie from 0 to 9"),
            ({"start_index": 10}, "`start_index` must lie from 0 to 9"),
            ({"end_index": 11}, "`end_index` must lie from 1 to 10"),
            ({"start_index": 5, "end_index": 5}, "`end_index` must lie from 6 to 10, after `start_index`"),
            ({"sequence_length": 11}, "No window fits: it spans 11 time steps, and there are 10 from 0 to 10"),
            ({"sampling_rate": 5}, "it spans 11 time steps"),
            ({"targets": [1.0], "start_index": 2}, "with 1 targets"),
            ({"seed": -1}, "`seed` must be an integer not below 0"),
            ({"format": "torch"}, "`format` must be 'tf' or 'grain'"),
        ],
    )
    def test_mistakes(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            timeseries_dataset_from_array(**{"data": self.data, "targets": None, "sequence_length": 3, **arguments})
        with pytest.raises(TypeError, match="`start_index` must be an integer"):
            timeseries_dataset_from_array(self.data, None, 3, start_index=0.5)


def plain(dataset):
    return [int(v) for v in dataset]


class TestSplit:
    @pytest.mark.parametrize(
        ("sizes", "left", "right"),
        [
            ({"left_size": 0.7}, range(7), range(7, 10)),
            ({"left_size": 3}, range(3), range(3, 10)),
            ({"right_size": 0.33}, range(7), range(7, 10)),
            ({"left_size": 2, "right_size": 3}, range(2), range(7, 10)),
            ({"left_size": 2, "right_size": 0.3}, range(2), range(7, 10)),
        ],
    )
    def test_sizes(self, sizes, left, right):
        kinds = [np.arange(10), torch.arange(10), list(range(10)), Dataset.from_tensor_slices(np.arange(10))]
        for kind in [*kinds, torch.utils.data.Subset(range(10), range(10))]:
            parts = split_dataset(kind, **sizes)
            assert [plain(p) for p in parts] == [list(left), list(right)]
            assert [len(p) for p in parts] == [len(left), len(right)]

    def test_random_order_is_that_of_keras(self):
        left, right = split_dataset(np.arange(10), 0.7, shuffle=True, seed=3)
        assert plain(left)[:3] == [1, 5, 6]
        assert plain(right) == [2, 8, 3]
        assert plain(left) == plain(left)
        parts = split_dataset(Dataset.from_tensor_slices(np.arange(10)), 0.7, shuffle=True, seed=3)
        assert plain(parts[1]) == [2, 8, 3]

    def test_nests(self):
        for nest in ((np.arange(4), np.ones((4, 2))), [np.arange(4), np.ones((4, 2))]):
            left, _ = split_dataset(nest, 0.5)
            x, y = next(iter(left.batch(2)))
            assert (x.tolist(), y.shape) == ([0, 1], (2, 2))
        left, _ = split_dataset({"a": np.arange(4), "b": ["p", "q", "r", "s"]}, 1)
        assert next(iter(left)) == {"a": torch.tensor(0), "b": "p"}

    def test_parts_of_a_shuffled_dataset_are_disjoint_at_every_pass(self):
        batches = Dataset.from_tensor_slices(np.arange(20)).shuffle(20, seed=1).batch(2)
        left, right = split_dataset(batches, 0.5)
        for _ in range(2):
            found = [v for part in (left, right) for batch in part for v in batch.tolist()]
            assert sorted(found) == list(range(20))

    def test_datasets_of_unknown_length(self):
        even = Dataset.from_tensor_slices(np.arange(8)).filter(lambda x: x % 2 == 0)
        assert [plain(p) for p in split_dataset(even, 0.5)] == [[0, 2], [4, 6]]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "give `left_size` or `right_size`"),
            ({"left_size": 0}, "`left_size` must be an integer from 1 to 9, or a share between 0 and 1. Received: left_size=0"),
            ({"left_size": 10}, "`left_size` must be an integer from 1 to 9"),
            ({"right_size": 1.0}, "`right_size` must be an integer from 1 to 9, or a share"),
            ({"left_size": 0.01}, "leave the left part of 10 elements empty"),
            ({"left_size": 0.99}, "leave the right part of 10 elements empty"),
            ({"left_size": 8, "right_size": 3}, "ask for 8 and 3 of 10 elements"),
        ],
    )
    def test_mistakes(self, arguments, message):
        for kind in (np.arange(10), Dataset.from_tensor_slices(np.arange(10))):
            with pytest.raises(ValueError, match=message):
                split_dataset(kind, **arguments)

    def test_types(self):
        with pytest.raises(TypeError, match=r"`left_size` must be an integer, a float or None. Received: left_size='a'"):
            split_dataset(np.arange(10), "a")
        with pytest.raises(TypeError, match=r"split_dataset takes a Dataset.*anything that can be read more than once"):
            split_dataset(iter([1, 2]), 0.5)
        with pytest.raises(TypeError, match="is infinite"):
            split_dataset(Dataset.from_tensor_slices(np.arange(10)).repeat(), 0.5)
        with pytest.raises(ValueError, match="same number of rows"):
            split_dataset((np.arange(10), np.arange(9)), 0.5)
