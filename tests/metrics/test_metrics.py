"""What Keras does not say about metrics: saturation, devices, synchronisation, custom metrics, errors."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hornbeam import metrics
from hornbeam.core.weights import Variable


class Aten(TorchDispatchMode):
    """Notes every aten call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Custom(metrics.Metric):
    """Written as Keras's guides write one."""

    def __init__(self, scale=1.0, name="custom", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = scale
        self.total = self.add_variable(shape=(), initializer="zeros", name="total")
        self.table = self.add_weight(shape=(3,), initializer="ones", name="table")
        self.inner = metrics.Mean(name="inner")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(y_pred.sum() * self.scale)
        self.table.assign(self.table + 1)
        self.inner.update_state(y_pred)

    def result(self):
        return {"total": self.total, "inner": self.inner.result()}


@pytest.mark.parametrize("make", [metrics.Mean, lambda: Custom().inner])
def test_counters_do_not_saturate(make):
    mean = make()
    mean.update_state(torch.ones(2**24))
    for _ in range(1000):
        mean.update_state(0.0)
    assert float(mean.result()) == pytest.approx(2**24 / (2**24 + 1000), abs=1e-7)


def test_custom_scalars_and_counts_do_not_saturate():
    metric, hits = Custom(), metrics.TruePositives()
    metric.total.assign(2**24)
    hits.accumulator.assign(torch.full((1,), 2**24))
    for _ in range(5):
        metric.update_state(None, torch.ones(1))
        hits.update_state([1], [1.0])
    assert float(metric.total) == 2**24 + 5
    assert float(hits.accumulator) == 2**24 + 5


def test_custom_metric():
    metric = Custom(scale=2.0)
    assert metric.get_config() == {"name": "custom", "dtype": "float32", "scale": 2.0}
    assert [v.path for v in metric.variables] == ["custom/total", "custom/table", "inner/total", "inner/count"]
    assert all(isinstance(v, Variable) and not v.trainable for v in metric.variables)
    assert metric.table.tolist() == [1, 1, 1]
    result = metric(None, torch.ones(4, requires_grad=True))
    assert (float(result["total"]), float(result["inner"])) == (8.0, 1.0)
    assert metric.table.tolist() == [2, 2, 2]
    assert not any(v.requires_grad for v in metric.variables)
    metric.reset_state()
    assert all((v == 0).all() for v in metric.variables)
    assert Custom.from_config(metric.get_config()).scale == 2.0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_whole_and_apart(duplicate):
    metric = Custom()
    metric.update_state(None, torch.ones(4))
    twin = duplicate(metric)
    twin.update_state(None, torch.ones(4))
    assert (float(metric.total), float(twin.total), float(twin.inner.result())) == (4.0, 8.0, 1.0)
    assert twin.total is twin.variables[0]
    assert twin.total.path == "custom/total"


def test_stateless_functions_leave_the_metric_alone():
    metric = metrics.Mean()
    metric.update_state([5.0])
    state = metric.stateless_update_state([1.0, 2.0], torch.tensor([4.0, 5.0]))
    assert [float(s) for s in state] == [10.0, 4.0]
    assert float(metric.stateless_result(state)) == 2.5
    assert [float(s) for s in metric.stateless_reset_state()] == [0.0, 0.0]
    assert float(metric.result()) == 5.0
    with pytest.raises(ValueError, match=r"'mean' has 2 variables\. Received: 1 values"):
        metric.stateless_result([1.0])


UPDATES = [
    (metrics.Mean(), (torch.rand(8),), 5),
    (metrics.SparseCategoricalAccuracy(), (torch.randint(0, 4, (8,)), torch.rand(8, 4)), 7),
    (metrics.CategoricalAccuracy(), (torch.eye(4), torch.rand(4, 4)), 8),
    (metrics.BinaryAccuracy(), (torch.ones(8, 1), torch.rand(8, 1)), 7),
    (metrics.Precision(), (torch.ones(8, 1), torch.rand(8, 1)), 14),
    (metrics.AUC(), (torch.ones(8, 1), torch.rand(8, 1)), 45),
    (metrics.MeanIoU(4), (torch.randint(0, 4, (8,)), torch.randint(0, 4, (8,))), 25),
    (metrics.F1Score(), (torch.eye(4), torch.rand(4, 4)), 30),
    (metrics.R2Score(), (torch.eye(4), torch.rand(4, 4)), 30),
    (metrics.MeanSquaredError(), (torch.eye(4), torch.rand(4, 4)), 9),
]
SYNCHRONISING = {"_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero", "masked_select", "unique2", "bincount"}


@pytest.mark.parametrize(("metric", "arguments", "most"), UPDATES, ids=lambda v: getattr(v, "name", ""))
def test_updates_are_few_calls_and_read_nothing(metric, arguments, most):
    metric.update_state(*arguments)
    with Aten() as aten:
        metric.update_state(*arguments)
    assert not SYNCHRONISING.intersection(aten.calls)
    assert len(aten.calls) <= most, aten.calls


def test_state_survives_inference_mode_and_meta_tensors():
    metric = metrics.Mean()
    with torch.inference_mode():
        metric.update_state(torch.ones(3))
    metric.update_state(torch.zeros(3))
    metric.update_state(torch.ones(3, device="meta"))
    assert float(metric.result()) == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_state_moves_to_the_data_without_synchronisation():
    custom, auc, accuracy = Custom(), metrics.AUC(), metrics.SparseCategoricalAccuracy()
    y, p, scores = torch.ones(8, device="cuda"), torch.rand(8, device="cuda"), torch.rand(8, 4, device="cuda")
    for repeat in range(2):
        torch.cuda.set_sync_debug_mode("error" if repeat else "default")
        custom.update_state(y, p)
        auc.update_state(y, p)
        accuracy.update_state(y.long(), scores)
    torch.cuda.set_sync_debug_mode("default")
    assert all(v.device.type == "cuda" for m in (custom, auc, accuracy) for v in m.variables)


def test_empty_metrics_are_zero():
    for metric in (
        metrics.Mean(),
        metrics.AUC(multi_label=True),
        metrics.Precision(),
        metrics.F1Score(),
        metrics.R2Score(),
        metrics.MeanIoU(3),
    ):
        assert float(metric.result()) == 0.0


def test_constant_vectors_have_no_correlation():
    assert metrics.pearson_correlation(torch.ones(2, 3), torch.rand(2, 3)).tolist() == [0.0, 0.0]


def test_weights_of_overlaps_are_not_cut_to_integers():
    weighted = metrics.IoU(2, [0])
    weighted.update_state([0, 0, 1, 1], [0, 1, 0, 1], sample_weight=[0.3, 0.3, 0.3, 0.1])
    assert float(weighted.result()) == pytest.approx(1 / 3)


def test_half_precision_predictions():
    y_true, y_pred = torch.rand(8, 3).round(), torch.rand(8, 3, dtype=torch.bfloat16)
    for name in ("MeanSquaredError", "BinaryCrossentropy", "BinaryAccuracy", "AUC", "Precision", "F1Score"):
        expected = getattr(metrics, name)()(y_true, y_pred.float())
        torch.testing.assert_close(getattr(metrics, name)()(y_true, y_pred), expected)


def test_large_class_numbers_are_not_rounded():
    assert float(metrics.Accuracy()([2**24 + 1], [2**24])) == 0.0


def test_users_can_build_on_built_in_metrics():
    class Shifted(metrics.Precision):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true, y_pred - 0.5, sample_weight)

    metric = Shifted(name="shifted")
    assert float(metric(torch.tensor([1.0, 0.0]), torch.tensor([1.2, 0.9]))) == 1.0
    assert metric.get_config()["name"] == "shifted"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.get("acuracy"), "Unknown metric: 'acuracy'. Did you mean 'accuracy'"),
        (lambda: metrics.AUC(curve="roc"), "AUC got curve='roc'. Did you mean 'ROC'"),
        (lambda: metrics.AUC(summation_method="mean"), "summation_method='mean'.* Expected one of 'interpolation'"),
        (lambda: metrics.AUC(num_thresholds=1), "`num_thresholds` above 1. Received: num_thresholds=1"),
        (lambda: metrics.AUC(num_labels=2), "`num_labels` only with `multi_label=True`"),
        (lambda: metrics.Precision(thresholds=[0.1, 2.0]), r"Precision needs thresholds between 0 and 1. Received: \[0.1, 2.0\]"),
        (lambda: metrics.RecallAtPrecision(1.5), "`precision` from 0 to 1. Received: precision=1.5"),
        (lambda: metrics.RecallAtPrecision(0.5, num_thresholds=0), "`num_thresholds` above 0"),
        (lambda: metrics.F1Score(average="mean"), "average=None, 'micro', 'macro' or 'weighted'. Received: average='mean'"),
        (lambda: metrics.FBetaScore(beta=-1.0), "`beta` above 0. Received: beta=-1.0"),
        (lambda: metrics.F1Score(threshold=3), "`threshold` above 0 and at most 1, or None. Received: threshold=3"),
        (lambda: metrics.F1Score()(torch.ones(3), torch.ones(3)), r"F1Score 'f1_score' needs .*\(batch, outputs\)"),
        (lambda: metrics.R2Score(class_aggregation="mean"), "class_aggregation='mean'"),
        (lambda: metrics.R2Score(num_regressors=-1), "num_regressors=-1"),
        (lambda: metrics.IoU(3, [5]), r"target_class_ids=\[5\]; classes go from 0 to 2"),
        (lambda: metrics.MeanIoU(3)(torch.ones(4), torch.rand(4, 3)), "Set `sparse_y_true` and `sparse_y_pred`"),
        (lambda: metrics.Metric().update_state(1), "Metric has no `update_state` method"),
        (lambda: metrics.Metric().result(), "Metric has no `result` method"),
        (lambda: metrics.MeanSquaredError()(torch.ones(4, 1), torch.ones(4, 3)), "'mean_squared_error' got targets of shape"),
        (lambda: metrics.BinaryAccuracy()(torch.ones(4, 1), torch.ones(4, 3)), r"'binary_accuracy' got .*\(4, 1\).*\(4, 3\)"),
        (lambda: metrics.Precision()(torch.ones(4, 1), torch.ones(4, 3)), r"'precision.*' got targets of shape \(4, 1\)"),
        (lambda: metrics.SparseCategoricalAccuracy()(torch.eye(3), torch.rand(3, 3)), "The target looks one-hot"),
        (lambda: metrics.SparseTopKCategoricalAccuracy()(torch.tensor([7]), torch.rand(1, 3)), "class numbers from 7 to 7"),
        (lambda: metrics.Mean()(torch.ones(4, 3), sample_weight=np.ones(5)), r"'mean' got sample_weight of shape \(5,\)"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises((ValueError, NotImplementedError), match=message):
        call()


def test_state_in_lists_and_dicts_counts():
    metric = metrics.Mean()
    metric.parts = [metrics.Sum(), {"more": metrics.Mean()}]
    metric.own = {"a": [Variable(torch.zeros(()), trainable=False)]}
    assert len(metric.variables) == 2 + 1 + 2 + 1


def test_a_subclass_of_a_built_in_metric_may_add_state():
    class Counting(metrics.MeanSquaredError):
        def __init__(self):
            super().__init__()
            self.batches = self.add_variable((), name="batches")

        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true, y_pred, sample_weight)
            self.batches.assign_add(1)

    metric = Counting()
    metric.update_state([1.0], [3.0])
    metric.update_state([1.0], [1.0])
    assert float(metric.result()) == 2.0
    assert float(metric.batches) == 2.0


@pytest.mark.parametrize("cls", [metrics.Precision, metrics.Recall])
def test_class_id_needs_a_class_axis(cls):
    with pytest.raises(
        ValueError, match=r"class_id=1 needs predictions of shape \(batch, classes\). Received: y_pred of shape \(3,"
    ):
        cls(class_id=1).update_state([0, 1, 1], [0.1, 0.9, 0.8])


def test_the_confusion_matrix_of_an_iou_is_public():
    metric = metrics.MeanIoU(2)
    metric.update_state([0, 1, 1], [0, 1, 0])
    assert metric.total_cm.tolist() == [[1, 0], [1, 1]]
