"""What Keras does not say about losses: errors, fused kernels, custom losses, compilation."""

import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hornbeam import losses

ELEMENTWISE = [
    "MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError", "CosineSimilarity",
    "Huber", "LogCosh", "KLDivergence", "Poisson", "Hinge", "SquaredHinge", "CategoricalHinge", "BinaryCrossentropy",
    "BinaryFocalCrossentropy", "CategoricalCrossentropy", "CategoricalFocalCrossentropy", "Dice", "Tversky",
]  # fmt: skip


@pytest.mark.parametrize("shape", [(64, 1), (64,)])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_one_target_for_several_outputs_does_not_broadcast(name, shape):
    cause = rf"\({shape[0]},.*\) and predictions of shape \(64, 3\).*one value per sample where the model predicts 3"
    with pytest.raises(ValueError, match=cause) as error:
        getattr(losses, name)()(torch.ones(shape), torch.rand(64, 3))
    assert type(getattr(losses, name)()).fn.__name__ in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.mean_squared_error(torch.ones(4, 5), torch.ones(4, 3)),
            "'mean_squared_error' got .*The last layer should have 5",
        ),
        (lambda: losses.mean_squared_error(torch.ones(5, 3), torch.ones(4, 3)), "The numbers of samples differ"),
        (lambda: losses.mean_squared_error(torch.ones(4, 2, 3), torch.ones(4, 3)), "Reshape the target"),
        (lambda: losses.MeanSquaredError(reduction="summ"), "reduction='summ'. Did you mean 'sum'"),
        (lambda: losses.get("mean_squard_error"), "Unknown loss: 'mean_squard_error'. Did you mean 'mean_?squared_?error'"),
        (lambda: losses.get(3), r"Could not read 3 \(int\) as loss"),
        (lambda: losses.CategoricalGeneralizedCrossEntropy(q=1.5), "`q` between 0 and 1, both excluded. Received: q=1.5"),
        (lambda: losses.Loss()(torch.ones(2), torch.ones(2)), r"Loss has no `call\(y_true, y_pred\)`"),
        (lambda: losses.ctc(torch.ones(2, 3), torch.ones(2, 4)), r"'ctc' needs targets of shape \(batch, target length\)"),
        (lambda: losses.circle(torch.ones(3), torch.ones(2, 4)), r"'circle' needs class numbers"),
        (
            lambda: losses.SparseCategoricalCrossentropy(True)(torch.eye(3), torch.rand(3, 3)),
            "target looks one-hot: use 'categorical_crossentropy'",
        ),
        (
            lambda: losses.SparseCategoricalCrossentropy(True)(torch.ones(4), torch.rand(3, 3)),
            r"Class numbers of shape \(3,\) are expected",
        ),
        (
            lambda: losses.MeanSquaredError()(torch.ones(4, 3, 2), torch.ones(4, 3, 2), sample_weight=torch.ones(5)),
            r"sample_weight of shape \(5,\) for values of shape \(4, 3\)",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises((ValueError, NotImplementedError), match=message):
        call()


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("weight", [None, torch.ones(3)])
@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1, 3], "0 to 3.* needs 4 units"), ([0, 1, -100], "Pass `ignore_class=-100`")]
)
def test_labels_outside_the_classes(from_logits, weight, labels, message):
    loss = losses.SparseCategoricalCrossentropy(from_logits)
    with pytest.raises(ValueError, match=f"class numbers from .*3 classes.*{message}|class numbers from {message}"):
        loss(torch.tensor(labels), torch.rand(3, 3), sample_weight=weight)


@pytest.mark.parametrize(
    ("name", "options", "kernel", "y_true"),
    [
        ("SparseCategoricalCrossentropy", {"from_logits": True}, "cross_entropy", torch.arange(4)),
        ("CategoricalCrossentropy", {"from_logits": True}, "cross_entropy", torch.eye(4)),
        ("MeanSquaredError", {}, "mse_loss", torch.eye(4)),
        ("MeanAbsoluteError", {}, "l1_loss", torch.eye(4)),
        ("Huber", {}, "huber_loss", torch.eye(4)),
        ("BinaryCrossentropy", {"from_logits": True}, "binary_cross_entropy_with_logits", torch.eye(4)),
    ],
)
def test_one_kernel_where_nothing_is_weighted(name, options, kernel, y_true):
    with mock.patch.object(F, kernel, wraps=getattr(F, kernel)) as called:
        getattr(losses, name)(**options)(y_true, torch.rand(4, 4))
    assert called.call_count == 1


def test_sparse_loss_makes_no_other_aten_call():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    loss, y_true, y_pred = losses.SparseCategoricalCrossentropy(True), torch.arange(4), torch.rand(4, 4)
    counts = []
    for call in (lambda: loss(y_true, y_pred), lambda: F.cross_entropy(y_pred, y_true)):
        seen = []
        with Count():
            call()
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_functions_by_name_use_the_kernel_too():
    wrapped = losses.LossFunctionWrapper(losses.get("mse"))
    with mock.patch.object(F, "mse_loss", wraps=F.mse_loss) as called:
        assert float(wrapped([[1.0]], [[3.0]])) == 4.0
    assert called.call_count == 1


def test_weights_belong_to_the_first_axes():
    values = torch.arange(9.0).reshape(3, 3, 1)
    loss = losses.MeanSquaredError(reduction="none")(torch.zeros(3, 3, 1), values, sample_weight=[1.0, 0.0, 0.0])
    assert loss[0].tolist() == [0, 1, 4]
    assert loss[1:].abs().sum() == 0


def test_masked_places_may_hold_anything():
    pred = torch.tensor([[1.0], [float("nan")]], requires_grad=True)
    seen = pred * 1
    seen._keras_mask = torch.tensor([True, False])
    loss = losses.MeanSquaredError()(torch.zeros(2, 1), seen)
    assert loss.item() == 1.0


def test_custom_loss_with_structures():
    class Sum(losses.Loss):
        def call(self, y_true, y_pred):
            return sum((y_true[k] - y_pred[k]) ** 2 for k in y_true)

    data = {"a": np.ones(3, "int64"), "b": np.zeros(3)}
    loss = Sum()(data, {"a": torch.zeros(3), "b": torch.ones(3)})
    assert float(loss) == 2.0
    assert loss.dtype is torch.float32
    assert Sum().name.startswith("sum")


def test_custom_loss_config():
    class Scaled(losses.Loss):
        def __init__(self, scale, name="scaled", **kwargs):
            super().__init__(name=name, **kwargs)
            self.scale = scale

        def call(self, y_true, y_pred):
            return self.scale * (y_true - y_pred)

    config = Scaled(2.0, reduction="sum").get_config()
    assert config == {"name": "scaled", "reduction": "sum", "scale": 2.0}
    assert Scaled.from_config(config).scale == 2.0


def test_wrapper_round_trip():
    loss = losses.LossFunctionWrapper(losses.huber, name="h", delta=2.0)
    again = losses.deserialize(losses.serialize(loss))
    assert again.fn is losses.huber
    assert again.get_config() == loss.get_config()
    assert float(again([[0.0]], [[3.0]])) == 4.0


def test_live_arguments_and_pickle():
    loss = losses.Huber()
    loss.delta = 2.0
    assert float(pickle.loads(pickle.dumps(loss))([[0.0]], [[3.0]])) == 4.0
    assert loss.get_config()["delta"] == 2.0


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_compile_without_graph_breaks(weighted):
    torch.compiler.reset()
    logits = torch.randn(5, 3)
    calls = [
        (losses.SparseCategoricalCrossentropy(True), torch.tensor([0, 1, 2, 1, 0])),
        (losses.SparseCategoricalCrossentropy(ignore_class=2), torch.tensor([0, 1, 2, 1, 0])),
        (losses.MeanSquaredError(), torch.rand(5, 3)),
        (losses.BinaryCrossentropy(), torch.rand(5, 3).round()),
        (losses.CategoricalCrossentropy(label_smoothing=0.1), F.one_hot(torch.tensor([0, 1, 2, 1, 0]), 3)),
        (losses.Hinge(), torch.rand(5, 3).round()),
        (losses.Circle(), torch.tensor([0, 1, 2, 1, 0])),
    ]
    weight = torch.rand(5) if weighted else None

    def total(pred):
        probs = pred.softmax(-1)
        probs._keras_mask = torch.tensor([True, True, False, True, True])
        return sum(loss(y, pred if i == 0 else probs, sample_weight=weight) for i, (loss, y) in enumerate(calls))

    compiled = torch.compile(total, fullgraph=True, backend="eager", dynamic=False)
    torch.testing.assert_close(compiled(logits), total(logits))


def test_class_numbers_may_keep_the_class_axis_anywhere():
    labels, scores = torch.randint(0, 5, (2, 4, 3)), torch.rand(2, 5, 4, 3).softmax(1)
    flat = losses.sparse_categorical_crossentropy(labels, scores, axis=1)
    torch.testing.assert_close(losses.sparse_categorical_crossentropy(labels.unsqueeze(1), scores, axis=1), flat)


def test_ctc_in_half_precision():
    y_true, y_pred = torch.tensor([[1, 2], [1, 0]]), torch.randn(2, 6, 4)
    half = losses.CTC(dtype="bfloat16")(y_true, y_pred)
    assert half.dtype is torch.bfloat16
    assert float(half) == pytest.approx(float(losses.CTC()(y_true, y_pred)), rel=2e-2)


def test_a_mask_may_be_an_array():
    y_pred = torch.tensor([[1.0], [5.0]])
    y_pred._keras_mask = np.array([True, False])
    assert float(losses.MeanSquaredError()(torch.zeros(2, 1), y_pred)) == pytest.approx(1.0)
