"""What `compile` takes, against Keras: nests of losses, metrics and weights along nests of outputs, their names and order."""

from __future__ import annotations

import os
import re

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch

import hornbeam

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3)).astype("float32")
Y = [RNG.uniform(0.1, 0.9, size=(20, 1)).astype("float32") for _ in range(3)]
W = RNG.uniform(0.5, 2, 20).astype("float32")
FORMS = {
    "one": lambda o: o[0],
    "list of one": lambda o: [o[0]],
    "dict of one": lambda o: {"p": o[0]},
    "list": lambda o: [o[0], o[1]],
    "tuple": lambda o: (o[0], o[1]),
    "dict": lambda o: {"p": o[0], "q": o[1]},
    "reversed dict": lambda o: {"q": o[0], "p": o[1]},
    "dict in dict": lambda o: {"m": {"u": o[0], "v": o[1]}, "n": o[2]},
    "list in dict": lambda o: {"m": [o[0], o[1]], "n": o[2]},
    "dicts in list": lambda o: [{"u": o[0]}, {"v": o[1]}],
    "longer dicts in list": lambda o: [{"u": o[0], "v": o[1]}, {"u": o[2]}],
    "list in list": lambda o: [[o[0], o[1]], o[2]],
}
PAIRS = {"list": "ab", "tuple": "ab", "dict": "pq", "reversed dict": "qp"}


def functional(k, form):
    x = k.Input((3,))
    return k.Model(x, FORMS[form]([k.layers.Dense(1, name=n, activation="sigmoid")(x) for n in "abc"]))


def subclassed(k, form):
    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = [k.layers.Dense(1, activation="sigmoid") for _ in range(3)]

        def call(self, x):
            return FORMS[form]([d(x) for d in self.dense])

    model = Net()
    model(torch.tensor(X[:2]))
    return model


def run(k, make, form, compile_args, fit_args):
    model = make(k, form)
    values = np.random.default_rng(3)
    model.set_weights([values.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    model.compile("sgd", **compile_args)
    y = FORMS[form](Y)
    history = model.fit(X, y, batch_size=8, epochs=2, shuffle=False, verbose=0, **fit_args).history
    listed = np.asarray(model.evaluate(X, y, verbose=0))
    by_name = model.evaluate(X, y, verbose=0, return_dict=True)
    return history, listed, by_name, model.metrics_names, [m.name for m in model.metrics]


def check(make, form, compile_args, fit_args):
    history, listed, by_name, names, metrics = run(hornbeam, make, form, compile_args, fit_args)
    theirs = run(keras, make, form, compile_args, fit_args)
    assert list(history) == list(theirs[0])
    for key, values in theirs[0].items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5, atol=1e-5, err_msg=key)
    np.testing.assert_allclose(listed, theirs[1], rtol=1e-5, atol=1e-5)
    assert list(by_name) == list(theirs[2])
    assert names == theirs[3]
    assert metrics == theirs[4]


def case(form, fit=None, **compile_args):
    name = re.sub(r" at 0x\w+", "", f"{form}: {compile_args}{' weights' if fit else ''}")
    return pytest.param(form, compile_args, fit or {}, id=name[:120])


def of_pairs():
    for form, (a, b) in PAIRS.items():
        partial = ["mse", None], [None, "mae"], {a: "mse", b: None}
        for loss in ("mse", ["mse", "mae"], ("mse", "mae"), {b: "mse", a: "mae"}, *partial):
            yield case(form, loss=loss)
        yield case(form, loss={a: "mse", b: "mae"}, loss_weights={a: 0.3, b: 2.0})
        yield case(form, loss=["mse", "mae"], loss_weights=[0.3, 2.0])
        yield case(form, loss="mse", metrics=["mae", "mse"])
        yield case(form, loss="mse", metrics=[["mae"], ["mse"]])
        yield case(form, loss="mse", metrics=[["mae", "mse"], None])
        yield case(form, loss="mse", metrics=[[], ["mae"]])
        yield case(form, loss="mse", metrics={a: "mae"})
        yield case(form, loss="mse", metrics={b: ["mae", "mae"], a: ["mae"]}, weighted_metrics={a: ["mae", "mse"]})
        yield case(form, loss="mse", weighted_metrics=[["mae"], ["mae"]])
        if form != "tuple":
            weights = [W, 2 * W] if form == "list" else {a: W, b: 2 * W}
            yield case(form, {"sample_weight": weights}, loss="mse", metrics={b: ["mae"]}, weighted_metrics={a: "mae"})
        if form != "list" and form != "tuple":
            yield case(form, loss={b: "mae"})


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("form", "compile_args", "fit_args"),
    [
        case("one", loss="mse", metrics=["mae", "mae"]),
        case("one", loss=["mse"], metrics=["mae"]),
        case("one", loss={"a": "mse"}, metrics={"a": ["mae", "mse"]}),
        case("one", loss="mse", metrics=[["mae", "mse"]]),
        case("one", loss="mse", metrics=[]),
        case("one", {"sample_weight": W}, loss="mse", metrics=["mse"], weighted_metrics=["mse"]),
        *[case("one", loss="mse", loss_weights=weights) for weights in (0.5, [0.5], {"a": 0.5})],
        case("one", loss="mse", metrics=["accuracy", "acc"]),
        case("one", loss="mse", metrics=["MSE", "MeanSquaredError", "mean_squared_error"]),
        case("one", loss="mse", metrics=[lambda t, p: abs(t - p), lambda t, p: abs(t - p) * 2]),
        *[case(form, loss="mse", metrics=["mae"]) for form in ("list of one", "dict of one")],
        case("list of one", loss={"a": "mse"}, metrics={"a": ["mae"]}),
        case("dict of one", loss={"p": "mse"}, metrics={"p": ["mae"]}),
        *of_pairs(),
        *[case(f, loss="mse") for f in FORMS if " in " in f],
        case("dict in dict", loss={"n": "mse", "m": {"v": "mse", "u": "mae"}}),
        case("dict in dict", loss={"m": {"u": "mse", "v": None}, "n": "mse"}),
        case("dict in dict", loss={"m": {"v": "mae"}}),
        case("dict in dict", loss={"m": {"u": "mse", "v": "mae"}, "n": "mse"}, loss_weights={"m": {"u": 0.2, "v": 3.0}, "n": 2}),
        case("list in dict", loss={"m": ["mse", "mae"], "n": "mse"}, loss_weights={"m": [0.2, 0.4], "n": 3.0}),
        case("list in dict", loss={"m": ["mse", None], "n": "mse"}),
        case("dicts in list", loss=[{"u": "mse"}, {"v": "mae"}], loss_weights=[{"u": 0.2}, {"v": 0.3}]),
        case("dicts in list", loss=[{"u": "mse"}, None]),
        case("dicts in list", loss=["mse", "mae"]),
        case("list in list", loss=[["mse", "mae"], "mse"]),
        case("list in list", loss=["mse", "mae", "mse"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no gradient:UserWarning")
def test_names_order_and_values_are_those_of_keras(form, compile_args, fit_args):
    check(functional, form, compile_args, fit_args)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:.*no gradient:UserWarning")
@pytest.mark.parametrize(
    ("form", "compile_args", "fit_args"),
    [
        case("reversed dict", loss="mse", metrics={"p": ["mae"], "q": ["mse"]}),
        case("dict", loss={"q": "mse", "p": "mae"}, metrics={"q": ["mae"], "p": ["mse"]}),
        case("list", loss=["mse", "mae"], metrics=[["mae"], ["mse"]]),
        case("dict in dict", loss={"n": "mse", "m": {"v": "mse", "u": "mae"}}),
        case("dicts in list", loss="mse"),
        case("longer dicts in list", loss="mse"),
    ],
)
def test_names_of_subclassed_models_are_those_of_keras(form, compile_args, fit_args):
    check(subclassed, form, compile_args, fit_args)


@pytest.mark.parametrize("make", [functional, subclassed])
def test_the_users_keys_are_the_keys_everywhere(make):
    model = make(hornbeam, "dict in dict")
    model.compile("sgd", "mse", metrics={"m": {"v": ["mae"]}, "n": ["mae", "mse"]}, weighted_metrics={"m": {"u": "mae"}})
    y = FORMS["dict in dict"](Y)
    expected = ["loss", "m/u_loss", "m/u_mae", "m/v_loss", "m/v_mae", "n_loss", "n_mae", "n_mse"]
    validation = (X, y, {"m": {"u": W, "v": W}, "n": W})
    history = model.fit(X, y, sample_weight=validation[2], validation_data=validation, verbose=0).history
    assert list(history) == [*expected, *(f"val_{k}" for k in expected)]
    predicted = model.predict(X, verbose=0)
    assert list(predicted) == ["m", "n"]
    assert history["val_m/u_mae"] == [pytest.approx(np.average(abs(predicted["m"]["u"] - Y[0])[:, 0], weights=W), rel=1e-5)]
    assert history["val_n_mae"] == [pytest.approx(abs(predicted["n"] - Y[2]).mean(), rel=1e-5)]


@pytest.mark.filterwarnings("ignore:.*no gradient:UserWarning")
def test_outputs_without_names_have_losses_of_their_own():
    model = subclassed(hornbeam, "list")
    model.compile("sgd", "mse")
    result = model.evaluate(X, Y[:2], verbose=0, return_dict=True)
    assert list(result) == ["loss", "mse_1_loss", "mse_loss"]
    assert result["loss"] == pytest.approx(result["mse_loss"] + result["mse_1_loss"])


def test_one_loss_for_a_part_holds_for_all_of_it():
    model = functional(hornbeam, "list in dict")
    model.compile("sgd", {"m": "mse", "n": "mae"})
    result = model.evaluate(X, FORMS["list in dict"](Y), verbose=0, return_dict=True)
    assert list(result) == ["loss", "m/a_loss", "m/b_loss", "n_loss"]


def test_weights_may_leave_losses_out():
    model = functional(hornbeam, "dict")
    model.compile("sgd", ["mse", "mae"], loss_weights={"q": 2.0})
    result = model.evaluate(X, FORMS["dict"](Y), verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(result["p_loss"] + 2 * result["q_loss"])


@pytest.mark.parametrize(
    ("form", "compile_args", "message"),
    [
        ("one", {"loss": ["mse", "mae"]}, "`loss` has 2 entries, but the model has 1 output"),
        ("one", {"loss": {"aa": "mse"}}, "`loss` has the key 'aa', which is no output. Did you mean 'a'"),
        ("one", {"loss": "mse", "metrics": {"zz": "mae"}}, "`metrics` has the key 'zz', which is no output"),
        ("list", {"loss": ["mse"]}, r"`loss` has 1 entries, but the model has 2 output\(s\) \('a', 'b'\)"),
        ("list", {"loss": "mse", "metrics": ["mae"]}, r"`metrics` has 1 entries, but the model has 2 output\(s\)"),
        ("dict", {"loss": {"P": "mse"}}, "`loss` has the key 'P', which is no output. Did you mean 'p'"),
        ("dict in dict", {"loss": {"m": {"w": "mse"}}}, "`loss` has the key 'w', which is no output"),
        ("one", {"loss": "mse", "metrics": "mae"}, r"`metrics` must be a list or a dictionary, such as metrics=\['mae'\]"),
        ("one", {"loss": "mse", "jit_compile": "yes"}, "`jit_compile` must be True, False or 'auto'"),
        ("one", {"loss": "mse", "steps_per_execution": 0}, "`steps_per_execution` must be a positive integer"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_what_would(form, compile_args, message):
    def try_it():
        model = functional(hornbeam, form)
        model.compile("sgd", **compile_args)
        model.evaluate(X, FORMS[form](Y), verbose=0)

    with pytest.raises(ValueError, match=message):
        try_it()
