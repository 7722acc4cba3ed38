"""Every loss against Keras: values, gradients, weights, masks, reductions, configs."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch

from hornbeam import losses

pytestmark = pytest.mark.oracle
RNG = np.random.default_rng(7)
REDUCTIONS = ("sum", "sum_over_batch_size", "mean", "mean_with_sample_weight", "none")


def uniform(*shape):
    return RNG.uniform(0.02, 0.98, shape).astype("float32")


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def softmax(x):
    e = np.exp(x)
    return (e / e.sum(-1, keepdims=True)).astype("float32")


def one_hot(*shape):
    return np.eye(shape[-1], dtype="float32")[RNG.integers(0, shape[-1], shape[:-1])]


BITS, PROBS = (RNG.random((6, 4)) > 0.5).astype("float32"), uniform(6, 4)
CASES = [
    ("MeanSquaredError", {}, normal(6, 4), normal(6, 4)),
    ("MeanAbsoluteError", {}, normal(6, 4), normal(6, 4)),
    ("MeanAbsolutePercentageError", {}, normal(6, 4), normal(6, 4)),
    ("MeanSquaredLogarithmicError", {}, normal(6, 4), normal(6, 4)),
    ("CosineSimilarity", {}, normal(6, 4), normal(6, 4)),
    ("CosineSimilarity", {"axis": 1}, normal(6, 4, 3), normal(6, 4, 3)),
    ("Huber", {}, normal(6, 4), normal(6, 4)),
    ("Huber", {"delta": 0.3}, normal(6, 4), normal(6, 4)),
    ("LogCosh", {}, 9 * normal(6, 4), 9 * normal(6, 4)),
    ("KLDivergence", {}, softmax(normal(6, 4)), softmax(normal(6, 4))),
    ("Poisson", {}, uniform(6, 4), uniform(6, 4)),
    ("Hinge", {}, BITS, normal(6, 4)),
    ("Hinge", {}, 2 * BITS - 1, normal(6, 4)),
    ("SquaredHinge", {}, BITS, normal(6, 4)),
    ("CategoricalHinge", {}, one_hot(6, 4), normal(6, 4)),
    ("BinaryCrossentropy", {}, BITS, PROBS),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, BITS, np.where(PROBS > 0.9, 1, np.where(PROBS < 0.1, 0, PROBS))),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, BITS, normal(6, 4)),
    ("BinaryCrossentropy", {"from_logits": True}, BITS[:, 0], normal(6, 1)),
    ("BinaryFocalCrossentropy", {}, BITS, PROBS),
    (
        "BinaryFocalCrossentropy",
        {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5, "from_logits": True, "label_smoothing": 0.1},
        BITS,
        normal(6, 4),
    ),
    ("CategoricalCrossentropy", {}, one_hot(6, 4), softmax(normal(6, 4))),
    ("CategoricalCrossentropy", {}, one_hot(6, 4), uniform(6, 4)),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, one_hot(6, 4), normal(6, 4)),
    ("CategoricalCrossentropy", {"from_logits": True}, one_hot(6, 2, 4), normal(6, 2, 4)),
    ("CategoricalCrossentropy", {"from_logits": True, "axis": 1}, np.moveaxis(one_hot(6, 2, 4), -1, 1), normal(6, 4, 2)),
    ("CategoricalFocalCrossentropy", {}, one_hot(6, 4), softmax(normal(6, 4))),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "gamma": 1.5, "label_smoothing": 0.1}, one_hot(6, 4), normal(6, 4)),
    ("CategoricalFocalCrossentropy", {"alpha": [0.1, 0.2, 0.3, 0.4]}, one_hot(6, 4), softmax(normal(6, 4))),
    ("SparseCategoricalCrossentropy", {}, RNG.integers(0, 4, 6), uniform(6, 4)),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, RNG.integers(0, 4, 6), normal(6, 4)),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, RNG.integers(0, 4, (6, 1)).astype("float32"), normal(6, 4)),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, RNG.integers(0, 4, (6, 3)).astype("uint8"), normal(6, 3, 4)),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": -1}, np.array([0, 1, -1, 2, -1, 3]), normal(6, 4)),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}, np.array([0, 1, 2, 2, 2, 3]), uniform(6, 4)),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "axis": 1}, RNG.integers(0, 4, (6, 3)), normal(6, 4, 3)),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.7}, RNG.integers(0, 4, 6), softmax(normal(6, 4))),
    ("Dice", {}, BITS, PROBS),
    ("Dice", {"axis": (1,)}, BITS, PROBS),
    ("Tversky", {"alpha": 0.3, "beta": 0.7}, BITS, PROBS),
    ("Tversky", {"axis": (1, 2)}, uniform(6, 3, 2), uniform(6, 3, 2)),
    ("Circle", {}, np.array([0, 1, 0, 1, 2, 2]), normal(6, 4)),
    ("Circle", {"gamma": 8.0, "margin": 0.2, "remove_diagonal": False}, np.array([0, 1, 0, 1, 2, 3]), normal(6, 4)),
    ("Circle", {}, np.array([0, 0, 1, 2, 3, 3]), normal(6, 4)),
    ("CTC", {}, np.array([[1, 2], [3, 0], [1, 1], [2, 3], [3, 3], [1, 3]]), normal(6, 7, 4)),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]


def same(ours, theirs, **tolerance):
    tolerance = {"rtol": 2e-5, "atol": 2e-6, **tolerance}
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(ours.detach().numpy(), theirs, **tolerance)
    assert tuple(ours.shape) == np.shape(theirs)


def both(name, options, y_true, y_pred, reduction="sum_over_batch_size", sample_weight=None, mask=None):
    """Values and gradients of our loss and of Keras's."""
    found = []
    for module in (losses, keras.losses):
        pred = torch.tensor(y_pred, requires_grad=True)
        if mask is not None:
            pred._keras_mask = torch.tensor(mask)
        value = getattr(module, name)(reduction=reduction, **options)(y_true, pred, sample_weight=sample_weight)
        value.sum().backward()
        found += [value, pred.grad]
    return found


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "options", "y_true", "y_pred"), CASES, ids=IDS)
def test_values_and_gradients(name, options, y_true, y_pred, reduction):
    value, grad, keras_value, keras_grad = both(name, options, y_true, y_pred, reduction)
    same(value, keras_value)
    same(grad, keras_grad, rtol=1e-4, atol=1e-5)
    assert value.dtype is torch.float32


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options", "y_true", "y_pred"), [c for c in CASES if np.ndim(c[3]) == 2], ids=lambda v: str(v)[:20]
)
def test_sample_weights(name, options, y_true, y_pred, reduction):
    if options.get("axis", -1) is None or (name in ("Dice", "Tversky") and "axis" not in options):
        weights = [np.float32(1.7)]
    else:
        weights = [uniform(6), np.zeros(6, "float32")]
        if "ignore_class" not in options and name != "Circle":  # Keras cannot multiply a number by a mask
            weights.append(np.float32(1.7))
    for weight in weights:
        value, grad, keras_value, keras_grad = both(name, options, y_true, y_pred, reduction, sample_weight=weight)
        same(value, keras_value)
        same(grad, keras_grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kept", ["some", "none", "all"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["MeanSquaredError", "SparseCategoricalCrossentropy", "BinaryCrossentropy"])
def test_masks(name, kept, weighted, reduction):
    options = {} if name == "MeanSquaredError" else {"from_logits": True}
    y_true = RNG.integers(0, 3, (5, 4)) if name.startswith("Sparse") else (RNG.random((5, 4, 3)) > 0.5).astype("float32")
    mask = {"some": RNG.random((5, 4)) > 0.4, "none": np.zeros((5, 4), bool), "all": np.ones((5, 4), bool)}[kept]
    weight = uniform(5, 4) if weighted else None
    value, grad, keras_value, keras_grad = both(name, options, y_true, normal(5, 4, 3), reduction, weight, mask)
    same(value, keras_value)
    same(grad, keras_grad)


def test_mask_and_ignored_class_work_together():
    y_true, y_pred = np.array([[0, 1, 9], [2, 9, 1]]), normal(2, 3, 4)
    mask = np.array([[True, False, True], [True, True, True]])
    options = {"from_logits": True, "ignore_class": 9}
    value, *_ = both("SparseCategoricalCrossentropy", options, y_true, y_pred, mask=mask)
    plain = losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    kept = [(0, 0), (1, 0), (1, 2)]
    expected = [float(plain(y_true[i : i + 1, j], y_pred[i : i + 1, j])) for i, j in kept]
    assert value.item() == pytest.approx(np.mean(expected), rel=1e-5)


FUNCTIONS = [
    "mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_logarithmic_error",
    "cosine_similarity", "huber", "log_cosh", "kl_divergence", "poisson", "hinge", "squared_hinge", "categorical_hinge",
    "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "dice", "tversky",
]  # fmt: skip


@pytest.mark.parametrize("shape", [(5,), (5, 3), (4, 2, 3)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_arrays_and_tensors(name, shape):
    y_true, y_pred = (uniform(*shape) > 0.5).astype("float32"), uniform(*shape)
    expected = getattr(keras.losses, name)(y_true, y_pred)
    same(getattr(losses, name)(y_true, y_pred), expected)
    same(getattr(losses, name)(torch.tensor(y_true).int(), torch.tensor(y_pred)), expected)
    assert getattr(losses, name)(y_true, y_pred.astype("float64")).dtype is torch.float64


def test_circle_with_references():
    y_true, y_pred = np.array([0, 1, 0, 1]), normal(4, 3)
    for remove in (True, False):
        options = {"ref_labels": np.array([0, 1, 2]), "ref_embeddings": normal(3, 3), "gamma": 2.0, "remove_diagonal": remove}
        same(losses.circle(y_true, y_pred, **options), keras.losses.circle(y_true, y_pred, **options))


@pytest.mark.parametrize(("true", "pred"), [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3, 1), (4, 3)), ((4, 3), (4, 3, 1))])
def test_trailing_axis_of_one(true, pred):
    y_true, y_pred = uniform(*true), uniform(*pred)
    same(losses.mean_squared_error(y_true, y_pred), keras.losses.mean_squared_error(y_true, y_pred))
    same(losses.MeanSquaredError()(y_true, y_pred), keras.losses.MeanSquaredError()(y_true, y_pred))


CLASSES = sorted({c[0] for c in CASES})


@pytest.mark.parametrize("name", CLASSES)
def test_configs(name):
    ours, theirs = getattr(losses, name)(), getattr(keras.losses, name)()
    assert ours.get_config() == theirs.get_config()
    assert losses.serialize(ours) == keras.losses.serialize(theirs)
    assert (ours.name, ours.dtype) == (theirs.name, theirs.dtype)
    changed = getattr(losses, name)(reduction="sum", name="mine", dtype="float64")
    assert changed.get_config() == {
        **getattr(keras.losses, name)(reduction="sum", name="mine").get_config(),
        "dtype": changed.dtype,
    }
    again = losses.deserialize(losses.serialize(changed))
    assert type(again) is type(changed)
    assert again.get_config() == changed.get_config()
    assert again.dtype == "float64"


def test_configs_keep_what_keras_loses():
    assert losses.get(losses.serialize(losses.Huber(delta=3.0))).delta == 3.0
    assert losses.get(losses.serialize(losses.CosineSimilarity(axis=1))).axis == 1
    assert losses.get(losses.serialize(losses.SparseCategoricalCrossentropy(axis=1))).axis == 1


def test_every_public_name_and_alias():
    public = [n for n in dir(keras.losses) if not n.startswith("_")]
    assert [n for n in public if not hasattr(losses, n)] == []
    for alias in ("mse", "MSE", "mae", "MAE", "mape", "MAPE", "msle", "MSLE", "bce", "BCE", "kld", "KLD", "huber", "dice", "ctc"):
        assert losses.get(alias).__name__ == keras.losses.get(alias).__name__
    for name in CLASSES:
        assert type(losses.get(name)) is getattr(losses, name)
    assert losses.serialize(losses.mean_squared_error) == keras.losses.serialize(keras.losses.mean_squared_error)
    assert losses.deserialize(losses.serialize(losses.tversky)) is losses.tversky


@pytest.mark.parametrize("magnitude", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extreme_logits_give_finite_losses_and_gradients(magnitude, dtype):
    logits = torch.tensor([[magnitude, 0.0, -magnitude]] * 3, dtype=dtype)
    targets = {
        "BinaryCrossentropy": torch.eye(3), "BinaryFocalCrossentropy": torch.eye(3), "CategoricalCrossentropy": torch.eye(3),
        "CategoricalFocalCrossentropy": torch.eye(3), "SparseCategoricalCrossentropy": torch.arange(3),
    }  # fmt: skip
    for name, y_true in targets.items():
        for from_logits in (True, False):
            x = logits.clone().requires_grad_()
            pred = x if from_logits else (x.sigmoid() if name.startswith("Binary") else x.softmax(-1))
            loss = getattr(losses, name)(from_logits=from_logits)(y_true, pred)
            loss.backward()
            assert loss.isfinite(), (name, from_logits)
            assert x.grad.isfinite().all(), (name, from_logits)


def test_float16_loss_and_mixed_inputs():
    y_true, y_pred = normal(4, 3), normal(4, 3)
    assert losses.Huber(dtype="float16")(y_true, y_pred).dtype is torch.float16
    half = losses.MeanSquaredError()(y_true.astype("float64"), torch.tensor(y_pred, dtype=torch.bfloat16))
    same(half, keras.losses.MeanSquaredError()(y_true.astype("float64"), torch.tensor(y_pred, dtype=torch.bfloat16)))
