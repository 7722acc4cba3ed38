"""What `fit` is fed with: tables, datasets, streams, awkward arrays; every mistake in them by name."""

import itertools
import re
import subprocess
import sys
from collections import namedtuple
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

import hornbeam as keras
from hornbeam.training import data
from hornbeam.training.arrays import as_nest, as_tensor
from hornbeam.training.randomness import stream_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3)).astype("float32")
Y = RNG.normal(size=(20, 1)).astype("float32")


def batches(*args, batch_size=8, **kwargs):
    source = data.make_source(*args, batch_size=batch_size, **kwargs)
    return list(next(data.epochs(source, None, None, nullcontext)))


def joined(*args, **kwargs):
    """All rows of x and y, put together again."""
    parts = batches(*args, **kwargs)
    return tuple(torch.cat([p[i] for p in parts]) for i in range(2))


def model(width=3):
    made = keras.Sequential([keras.Input((width,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    made.compile("sgd", "mse")
    return made


# -- tables


def test_a_pandas_frame_is_an_array_and_a_series_a_column():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    assert as_tensor(frame).tolist() == [[1.0, 0.5, 1.0], [2.0, 1.5, 0.0]]
    assert as_tensor(frame).dtype is torch.float32
    assert as_tensor(frame[["a"]]).dtype is torch.int64
    assert as_tensor(frame["a"]).tolist() == [[1], [2]]
    assert as_tensor(frame["c"]).dtype is torch.bool
    assert as_nest({"a": frame["a"], "f": frame}, "x")["a"].shape == (2, 1)
    columns = {"i": pd.array([1, 2], "Int64"), "f": pd.array([1.5, 2], "Float32"), "b": pd.array([True, False], "boolean")}
    nullable = pd.DataFrame(columns)
    assert as_tensor(nullable).tolist() == [[1.0, 1.5, 1.0], [2.0, 2.0, 0.0]]
    assert as_tensor(nullable["i"]).dtype is torch.int64
    assert as_tensor(pd.Series(pd.arrays.SparseArray([0, 0, 3]))).tolist() == [[0], [0], [3]]
    assert as_tensor(pd.Series([1, 2.5], dtype=object)).tolist() == [[1.0], [2.5]]
    assert as_tensor(frame.iloc[::-1]).tolist() == [[2.0, 1.5, 0.0], [1.0, 0.5, 1.0]]


def pandas_mistakes(pd):
    yield pd.DataFrame({"a": [1, 2], "k": pd.Categorical(["u", "v"])}), r"`x['k']` holds categories. Turn it into numbers first"
    yield pd.DataFrame({"a": [1, 2], "k": ["u", "v"]}), r"`x['k']` holds no numbers (str"
    yield pd.Series(pd.to_datetime(["2020-01-01"])), "`x` holds dates (datetime64"
    yield pd.DataFrame({"k": pd.array([1, None, None], "Int64")}), "`x['k']` has 2 missing values, the first in row 1. Fill by"
    yield pd.Series([1.5, None, "u"], dtype=object), "`x` holds no numbers"


@pytest.mark.parametrize("number", range(5))
def test_what_a_pandas_frame_cannot_be_fed_with_is_named(number):
    pd = pytest.importorskip("pandas")
    frame, message = list(pandas_mistakes(pd))[number]
    with pytest.raises(ValueError, match=re.escape(message).replace(re.escape("(str"), r"\((str|object)")):
        as_tensor(frame, "x")


def test_polars_frames_and_series():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    assert as_tensor(frame).tolist() == [[1.0, 0.5, 1.0], [2.0, 1.5, 0.0]]
    assert as_tensor(frame["a"]).tolist() == [[1], [2]]
    assert as_tensor(pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2))).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert as_tensor(pl.DataFrame({"i": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int16, 2))})).dtype is torch.int16
    for column, message in (
        (pl.Series("k", ["u", "v"], dtype=pl.Categorical), r"`x\['k'\]` holds categories. .*to_physical"),
        (pl.Series("k", ["u", "v"]), r"`x\['k'\]` holds no plain numbers \(String\)"),
        (pl.Series("k", [[1], [2, 3]]), r"`x\['k'\]` holds no plain numbers \(List"),
        (pl.Series("k", [1, None]), r"`x\['k'\]` has 1 missing value, the first in row 1. Fill by `fill_null`"),
        (pl.Series("k", [[1, 2], [3, 4]], dtype=pl.Array(pl.Int16, 2)), r"Column 'k' of `x` holds arrays of shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            as_tensor(pl.DataFrame([pl.Series("a", [1, 2]), column]), "x")


def test_arrow_tables_and_arrays():
    pa = pytest.importorskip("pyarrow")
    pairs = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2, 3, 4], pa.float32()), 2)
    table = pa.table({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    assert as_tensor(table).tolist() == [[1.0, 0.5, 1.0], [2.0, 1.5, 0.0]]
    assert as_tensor(table.to_batches()[0]).tolist() == as_tensor(table).tolist()
    assert as_tensor(table["a"]).tolist() == as_tensor(pa.array([1, 2])).tolist() == [[1], [2]]
    assert as_tensor(pairs).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert as_tensor(pa.chunked_array([pairs, pairs])).shape == (4, 2)
    for column, message in (
        (pa.array(["u", "v"]), r"`x\['k'\]` holds no plain numbers \(string\)"),
        (pa.array(["u", "v"]).dictionary_encode(), r"`x\['k'\]` holds categories"),
        (pa.array([None, 2]), r"`x\['k'\]` has 1 missing value, the first in row 0"),
        (pa.array([[1], [2, 3]]), r"`x\['k'\]` holds no plain numbers \(list"),
    ):
        with pytest.raises(ValueError, match=message):
            as_tensor(pa.table({"a": [1, 2], "k": column}), "x")


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_table_trains_as_the_array_that_it_holds(library):
    module = pytest.importorskip(library)
    columns = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}
    make = module.table if library == "pyarrow" else module.DataFrame
    table, whole = make(columns), make({**columns, "y": Y[:, 0]})
    expected = model().fit(X, Y, shuffle=False, validation_split=0.25, verbose=0).history
    assert model().fit(table, make({"y": Y[:, 0]}), shuffle=False, validation_split=0.25, verbose=0).history == expected
    assert model().fit(whole, "y", shuffle=False, validation_split=0.25, verbose=0).history == expected
    assert model().fit(whole, "y", shuffle=False, verbose=0, validation_data=(whole, "y")).history.keys() == expected.keys()
    with pytest.raises(ValueError, match=r"`y`='yy' is no column of `x`. Did you mean 'y'\? Its columns: 'a', 'b', 'c', 'y'"):
        model().fit(whole, "yy", verbose=0)
    assert model().predict(table, verbose=0).shape == (20, 1)


def test_hub_datasets_are_read_by_column():
    hub = pytest.importorskip("datasets")
    table = hub.Dataset.from_dict({"a": X[:, :1].tolist(), "b": X[:, 1:].tolist(), "label": Y[:, 0].tolist()})
    assert [sorted(b) for b in batches(table)] == [["a", "b", "label"]] * 3
    x, y = batches(table, "label")[0]
    assert x["b"].numpy().tolist() == pytest.approx(X[:8, 1:])
    assert y.tolist() == pytest.approx(Y[:8, 0].tolist())
    assert batches(table.with_format("torch", columns=["a"]))[0]["a"].shape == (8, 1)
    x, y = batches(table.select_columns(["b", "label"]).with_format("torch"), "label")[2]
    assert x.shape == (4, 2)
    stream = table.to_iterable_dataset()
    assert torch.cat([y for _, y in batches(stream, "label")]).tolist() == pytest.approx(Y[:, 0].tolist())
    source = data.make_source(stream, "label", batch_size=8)
    first = next(next(data.epochs(source, None, None, nullcontext)))
    again = data.make_source(stream, "label", batch_size=8)
    again.seek(source.position())
    rest = list(next(data.epochs(again, None, None, nullcontext)))
    assert torch.cat([first[1], *[y for _, y in rest]]).tolist() == pytest.approx(Y[:, 0].tolist())
    with pytest.raises(ValueError, match=r"`x` holds several datasets: pass one, for example x\['train'\]"):
        data.make_source(hub.DatasetDict({"train": table}))
    with pytest.raises(ValueError, match=r"`y`='lable' is no column of `x`\. Did you mean 'label'"):
        data.make_source(table, "lable")
    with pytest.raises(ValueError, match=r"batch\['t'\]` holds text"):
        batches(hub.Dataset.from_dict({"t": ["u", "v"]}))


def test_no_library_of_tables_is_loaded_for_plain_arrays():
    code = (
        "import sys, numpy as np, hornbeam\nfrom hornbeam.training import data\n"
        "data.make_source({'a': np.ones((2, 1))}, [np.ones(2)])\n"
        "print(sorted({'pandas', 'polars', 'pyarrow', 'datasets', 'torch._dynamo'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- torch's datasets


class Squares(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, i):
        return X[i], Y[i]


class Noise(Squares):
    def __getitem__(self, i):
        return X[i] + torch.rand(()).item() + np.float32(np.random.rand()), Y[i]


class Lines(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


def test_a_tensor_dataset_is_sliced_not_read_row_by_row():
    whole = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    assert isinstance(data.make_source(whole), data.Arrays)
    assert torch.equal(joined(whole)[0], whole.tensors[0])
    part = Subset(whole, [3, 5, 7])
    assert joined(part)[0].tolist() == X[[3, 5, 7]].tolist()
    first, second = random_split(whole, [12, 8], torch.Generator().manual_seed(1))
    assert joined(Subset(first, [0, 2]))[0].tolist() == X[[first.indices[0], first.indices[2]]].tolist()
    assert data.make_source(second).rows == 8
    assert isinstance(data.make_source(TensorDataset(torch.ones(3, 1))).head(), torch.Tensor)


@pytest.mark.parametrize("kwargs", [{"batch_size": None}, {"batch_size": 5}, {}])
def test_a_loader_of_unknown_length_trains(kwargs):
    class Pairs(IterableDataset):
        def __iter__(self):
            whole = kwargs.get("batch_size", 1) is None
            return iter([(X[:4], Y[:4]), (X[4:8], Y[4:8])]) if whole else zip(X, Y, strict=True)

    history = model().fit(DataLoader(Pairs(), **kwargs), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array"])
def test_sparse_matrices_are_dense_arrays(kind):
    sparse = getattr(pytest.importorskip("scipy.sparse"), kind)(np.where(X > 0, X, 0))
    assert torch.equal(joined(sparse, Y)[0], torch.from_numpy(np.where(X > 0, X, 0)))
    one = model()
    assert len(one.fit(sparse, Y, verbose=0).history["loss"]) == 1
    np.testing.assert_array_equal(one.predict(sparse, verbose=0), one.predict(sparse.toarray(), verbose=0))
    batches = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    batches.compile("sgd", "mse")
    batches.fit(((sparse, Y) for _ in range(2)), verbose=0)


@pytest.mark.parametrize("kind", ["to_sparse", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_sparse_tensors_are_dense_arrays(kind):
    sparse = getattr(torch.from_numpy(X), kind)()
    assert torch.equal(joined(sparse, Y)[0], torch.from_numpy(X))
    assert model().predict(sparse, verbose=0).shape == (20, 1)


def test_tensors_are_data_without_the_graph_that_made_them():
    maker = torch.nn.Linear(3, 3)
    leaf, made = torch.from_numpy(X).requires_grad_(), maker(torch.from_numpy(X))
    for x in (leaf, made):
        one = model()
        assert len(one.fit(x, torch.from_numpy(Y), epochs=2, batch_size=8, verbose=0).history["loss"]) == 2
        one.fit(((x, torch.from_numpy(Y)) for _ in range(2)), verbose=0)
        one.train_on_batch(x, Y)
    assert leaf.grad is None
    assert maker.weight.grad is None


def test_lists_of_lists_are_arrays():
    assert np.array_equal(joined(X.tolist(), Y.tolist())[0], X)
    one = model()
    assert len(one.fit(X.tolist(), Y.tolist(), validation_data=(X.tolist(), Y.tolist()), verbose=0).history["val_loss"]) == 1
    np.testing.assert_array_equal(one.predict(X.tolist(), verbose=0), one.predict(X, verbose=0))
    assert as_nest([[[1], [2]], [[3], [4]]], "x").shape == (2, 2, 1)
    assert [t.shape for t in as_nest([[X, X], [Y]], "x")[0]] == [(20, 3), (20, 3)]
    assert as_nest([[], []], "x") == [[], []]


@pytest.mark.parametrize("read", [lambda d, name: d[name], lambda d, name: d.with_format("torch")[name]])
def test_columns_of_hub_datasets_are_arrays(read):
    hub = pytest.importorskip("datasets").Dataset.from_dict({"x": X.tolist(), "y": list(range(20))})
    x, y = joined(read(hub, "x"), read(hub, "y"))
    assert np.array_equal(x, X)
    assert y.tolist() == list(range(20))
    assert y.dtype is torch.int64


def test_a_hub_dataset_without_targets_is_told_how_to_name_them():
    hub = pytest.importorskip("datasets").Dataset.from_dict({"x": X.tolist(), "label": Y.tolist()})
    with pytest.raises(ValueError, match=r"needs targets: name their column, for example y='label'. Columns: 'x', 'label'\."):
        model().fit(hub, verbose=0)
    assert len(model().fit(hub, "label", verbose=0).history["loss"]) == 1


class Pairs(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


@pytest.mark.parametrize("make", [Pairs, lambda: DataLoader(Pairs(), 8), lambda: DataLoader(Pairs(), 8, num_workers=1)])
def test_iterable_datasets_are_trained_on_evaluated_and_predicted(make):
    one = model()
    assert len(one.fit(make(), epochs=2, batch_size=8, verbose=0, validation_data=make()).history["val_loss"]) == 2
    assert one.evaluate(make(), verbose=0) == pytest.approx(one.evaluate(X, Y, verbose=0), rel=1e-6)
    np.testing.assert_allclose(one.predict(make(), verbose=0), one.predict(X, verbose=0), rtol=1e-6)


def test_a_dataset_without_a_length_is_endless():
    class Endless(keras.utils.PyDataset):
        def __getitem__(self, index):
            return X[:2] + index, Y[:2]

    assert [float(x[0, 0] - X[0, 0]) for x, _ in itertools.islice(Endless(), 3)] == pytest.approx([0, 1, 2], abs=1e-6)
    with pytest.raises(NotImplementedError, match="num_batches"):
        model().fit(Endless(), verbose=0)


@pytest.mark.parametrize("make", [Squares, Lines, lambda: Subset(Squares(), range(20)), lambda: DataLoader(Squares(), 8)])
def test_torch_datasets_and_loaders_give_their_rows(make):
    x, y = joined(make())
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)
    assert [len(b[0]) for b in batches(make())] == [8, 8, 4]


def test_rows_of_a_dataset_are_shuffled_by_the_seed_and_the_pass():
    def run():
        keras.utils.set_random_seed(3)
        m = model()
        seen = []
        source = data.make_source(Noise(), batch_size=8)
        stream = data.orders(stream_of(m), source, True)
        for epoch in itertools.islice(data.epochs(source, stream, None, nullcontext), 2):
            seen.append(torch.cat([b[0] for b in epoch]).tolist())
        return seen

    first, second = run()
    assert first != second
    torch.rand(5)
    assert run() == [first, second]


# -- streams


class Eager:
    """An array of another library: only `__array__`."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array

    def numpy(self):
        return self.array


class LikeTensorFlow:
    """Looks like a tf.data.Dataset without end: no length, `__iter__`, elements with `.numpy()`."""

    def __len__(self):
        raise TypeError("The dataset is infinite.")

    def __iter__(self):
        return itertools.cycle([(Eager(X[:4]), Eager(Y[:4]))])


def test_streams_of_other_libraries():
    source = data.make_source(LikeTensorFlow())
    assert source.steps is None
    taken = list(next(data.epochs(source, None, 3, nullcontext)))
    assert [tuple(t.shape for t in b) for b in taken] == [((4, 3), (4, 1))] * 3
    assert model().fit(LikeTensorFlow(), epochs=2, steps_per_epoch=3, verbose=0).history["loss"]


def test_lists_and_dicts_and_named_tuples_of_batches():
    Pair = namedtuple("Pair", "a b")
    assert isinstance(batches(iter([[X[:2], Y[:2]]]))[0], tuple)
    found = batches(iter([({"u": X[:2], "v": [X[:2], X[:2]]}, Y[:2])]))[0]
    assert found[0]["v"][1].shape == (2, 3)
    assert batches(iter([(Pair(X[:2], Y[:2]), Y[:2])]))[0][0].b.shape == (2, 1)


def changing(change):
    def gen():
        for i in range(6):
            yield change({"a": X[:4], "b": X[:4]}, Y[:4]) if i == 3 else ({"a": X[:4], "b": X[:4]}, Y[:4])

    return gen()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: ({"a": x["a"]}, y), "Batch 3 has another form than the first one: x['b'] was float32 of shape (rows, 3)"),
        (lambda x, y: ({**x, "c": y}, y), "Batch 3 has another form than the first one: x['c'] was missing, is float32"),
        (lambda x, y: ({**x, "a": x["a"].astype(int)}, y), "x['a'] was float32 of shape (rows, 3), is int64 of shape (rows, 3)."),
        (lambda x, y: ({**x, "a": x["a"][:, 0]}, y), "x['a'] was float32 of shape (rows, 3), is float32 of shape (rows)."),
        (lambda x, y: ((x["a"], x["b"]), y), "than the first one: x['a'] was float32 of shape (rows, 3), is missing."),
        (lambda x, y: (x,), "Batch 3 has another form than the first one: y was float32 of shape (rows, 1), is missing."),
    ],
)
def test_a_change_of_form_names_batch_key_before_and_after(change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        batches(changing(change))
    assert "While batch 3 of pass 1 over the data was read." in error.value.__notes__


def test_a_change_of_width_is_allowed_and_blamed_where_the_model_cannot_take_it():
    wide = [(X[:4], Y[:4]), (X[:4], Y[:4]), (np.ones((4, 5), "float32"), Y[:4])]
    source = data.make_source(iter(wide))
    error = RuntimeError("mat1 and mat2")
    epoch = next(data.epochs(source, None, None, nullcontext))
    for width in (3, 3, 5):
        assert next(epoch)[0].shape[1] == width
    explained = source.explained(error)
    assert isinstance(explained, ValueError)
    assert str(explained) == (
        "Batch 2 has another form than the first one: x was float32 of shape (rows, 3), is float32 of shape (rows, 5). "
        "The model cannot take that: RuntimeError: mat1 and mat2"
    )
    assert data.make_source(X).explained(error) is error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: (X[:0], Y[:0]), "There is no data: `x`, `y` has no rows."),
        (lambda: (iter([]),), "There is no data: .*list_iterator.* gave no batch"),
        (lambda: (TensorDataset(torch.ones(0, 3)),), "There is no data: `x` has no rows."),
        (lambda: ([],), "There is no data: `x` holds no array."),
        (lambda: (X, Y[:15]), "`y` is too short. Rows: x: 20, y: 15."),
        (lambda: ({"a": X, "b": X[:7]}, Y), r"`x\['b'\]` is too short. Rows: x\['a'\]: 20, x\['b'\]: 7, y: 20."),
        (lambda: (np.float32(3),), "`x` needs a batch axis"),
        (lambda: (np.array(["u", "v"]),), "`x` holds text .for example 'u'.: an array of dtype <U1"),
        (lambda: (np.array([[1, 2], [3]], dtype=object),), r"`x` holds rows of different lengths \(2, …\)"),
        (lambda: ([[1.0, 2.0], [3.0]],), r"`x` holds rows of different lengths \(2, …\)"),
        (lambda: (np.ma.masked_less(X, 0), Y), r"`x` is a masked array with \d+ masked values"),
        (lambda: (Squares,), r"`x` is the class Squares. Make an instance of it: Squares\(...\)"),
        (lambda: (object(),), "`x` must be arrays, tensors, or something that gives batches"),
        (lambda: (iter([X]), Y), "`y` must not be given where x is"),
        (lambda: (None,), "`x` is missing"),
    ],
)
def test_what_cannot_be_trained_on_is_named(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        data.make_source(*given()).head()


@pytest.mark.parametrize("given", [(X, Y), (iter([(X, Y)]),), (TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),)])
def test_batches_go_to_the_device_as_they_come(given):
    source = data.make_source(*given)
    source.to(torch.device("meta"))
    batch = next(next(data.epochs(source, None, None, nullcontext)))
    assert [t.device.type for t in batch] == ["meta", "meta"]


# -- awkward arrays


def awkward(folder):
    plain = RNG.normal(size=(12, 4)).astype("float32")
    file = folder / "rows.npy"
    np.save(file, plain)
    locked = plain.copy()
    locked.flags.writeable = False
    return plain, {
        "negative strides": plain[::-1][::-1],
        "reversed columns": plain[:, ::-1].copy()[:, ::-1],
        "Fortran order": np.asfortranarray(plain),
        "big-endian": plain.astype(">f4"),
        "read-only": locked,
        "memory-mapped": np.load(file, mmap_mode="r"),
        "double": plain.astype("float64"),
        "long double": plain.astype("longdouble"),
        "objects": plain.astype(object),
        "every second row": np.repeat(plain, 2, axis=0)[::2],
        "requires no copy": plain,
    }


def test_an_awkward_array_is_as_good_as_a_plain_copy(tmp_path):
    plain, arrays = awkward(tmp_path)
    for kind, array in arrays.items():
        before = np.array(array)
        assert torch.equal(as_tensor(array), torch.from_numpy(plain)), kind
        for batch in batches(array, batch_size=5):
            if not array.flags.writeable:
                batch += 1.0
        assert np.array_equal(np.array(array), before), kind


def test_a_masked_array_without_masked_values_is_a_plain_one():
    assert np.array_equal(as_tensor(np.ma.array(X)), X)


def test_complex_numbers_stay_complex():
    x = X.astype("complex64") * 1j
    one = keras.Sequential([keras.Input((3,), dtype="complex64"), keras.layers.Lambda(torch.abs), keras.layers.Dense(1)])
    one.compile("sgd", "mse")
    one.fit(x, Y, verbose=0)
    np.testing.assert_allclose(one.predict(x, verbose=0), one.predict(np.abs(x).astype("complex64"), verbose=0), rtol=1e-6)
    for call in (lambda: model().fit(x, Y, verbose=0), lambda: model().predict(x, verbose=0), lambda: model()(torch.tensor(x))):
        with pytest.raises(ValueError, match=r"takes float32 for its input .* complex numbers lose their imaginary part"):
            call()


def test_halves_and_bytes_keep_their_values():
    assert as_tensor(np.array([[1.5]], "float16")).dtype is torch.float32
    assert as_tensor(np.array([200], "uint8")).tolist() == [200]
    assert as_tensor(np.array([40000], "uint16")).tolist() == [40000]
    assert as_tensor(np.array([[1, 2], [3, 4]], ">i4")).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match=r"`y` holds 9223372036854775808 at index \(1,\), which is too large for int64"):
        as_tensor(np.array([1, 2**63], "uint64"), "y")
    with pytest.raises(ValueError, match=r"`x` holds 1e\+300 at index \(0, 1\), which torch.float32 cannot hold"):
        as_tensor(np.array([[1.0, 1e300]]), "x")


def test_class_weights_of_numbers_that_are_no_classes_are_questioned():
    rows = np.ones((4, 2), "float32")
    with pytest.warns(UserWarning, match="`class_weight` goes by class numbers, but `y` holds other numbers"):
        data.make_source(rows, np.array([0.0, 0.5, 1.0, 2.0]), class_weight={0: 2.0})
    source = data.make_source(rows, np.array([0.0, 1.0, 1.0, 2.0]), class_weight={0: 2.0})
    assert source.flat[2].tolist() == [2.0, 1.0, 1.0, 1.0]
