"""hornbeam.fit, evaluate and predict on plain torch modules, and TorchModuleWrapper."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hornbeam
from hornbeam.layers import Dense, Input, TorchModuleWrapper
from hornbeam.models import Model, Sequential, TorchModel
from hornbeam.models.any_module import evaluate, fit, predict

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(40, 3, 8, 8)).astype("float32")
CLASSES = RNG.integers(0, 4, 40)


def net():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )


def batches():
    return zip(torch.from_numpy(IMAGES).split(10), torch.from_numpy(CLASSES).split(10), strict=True)


@pytest.mark.parametrize("mode", [True, False])
def test_a_module_is_trained_in_place_as_by_a_hand_written_loop(mode):
    module = net().train(mode)
    module[3].p = 0.0
    twin = copy.deepcopy(module).train()
    run = fit(
        module, IMAGES, CLASSES, optimizer=torch.optim.Adam(module.parameters(), lr=0.01), loss=nn.CrossEntropyLoss(),
        metrics=["accuracy"], epochs=2, batch_size=10, shuffle=False, verbose=0,
    )  # fmt: skip
    assert list(run.history) == ["accuracy", "loss"]
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(2):
        for x, y in batches():
            optimizer.zero_grad()
            F.cross_entropy(twin(x), y).backward()
            optimizer.step()
    for (name, a), b in zip(module.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    assert all(m.training is mode for m in module.modules())
    assert type(module[0].weight) is nn.Parameter


def test_dropout_works_in_training_only_and_modes_come_back_one_by_one():
    seen = []

    class Noted(nn.Dropout):
        def forward(self, x):
            if len(x) in (4, 8):  # a batch of the data, no look at shapes
                seen.append(self.training)
            return super().forward(x)

    module = nn.Sequential(nn.Linear(3, 4), Noted(), nn.Sequential(nn.BatchNorm1d(4)), nn.Linear(4, 1))
    module[2].eval()
    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    fit(module, x, y, loss="mse", batch_size=4, verbose=0, validation_data=(x, y))
    assert seen == [True, True, False, False]
    del seen[:]
    evaluate(module, x, y, loss="mse", verbose=0)
    predict(module, x)
    assert seen == [False, False]
    assert [m.training for m in module.modules()] == [True, True, True, False, False, True]


def test_evaluate_and_predict_are_those_of_the_module():
    module = net().eval()
    with torch.no_grad():
        y_pred = module(torch.from_numpy(IMAGES))
    assert np.array_equal(predict(module, IMAGES, batch_size=40), y_pred.numpy())
    result = evaluate(
        module, IMAGES, CLASSES, loss=nn.CrossEntropyLoss(), metrics=["accuracy"], return_dict=True, batch_size=7, verbose=0
    )
    assert result["loss"] == pytest.approx(float(F.cross_entropy(y_pred, torch.from_numpy(CLASSES))), rel=1e-5)
    assert result["accuracy"] == pytest.approx(float((y_pred.argmax(1).numpy() == CLASSES).mean()))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(5, 2)

    def forward(self, a, b):
        if a.sum() > 1e9:  # no graph can be made of this
            raise ValueError
        return {"sum": self.left(a) + self.right(b), "left": self.left(a)}


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_inputs_are_arguments_and_outputs_have_their_names(as_dict):
    a, b = np.ones((8, 3), "float32"), np.ones((8, 5), "float32")
    x = {"b": b, "a": a} if as_dict else [a, b]
    y = {"sum": np.ones((8, 2)), "left": np.zeros((8, 2))}
    module = Pair()
    history = fit(module, x, y, optimizer=torch.optim.SGD, loss="mse", metrics={"left": ["mae"]}, verbose=0).history
    assert list(history) == ["left_loss", "left_mae", "loss", "sum_loss"]
    assert set(predict(module, x)) == {"sum", "left"}


def test_a_loader_gives_the_batches():
    data = torch.utils.data.TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(CLASSES))
    history = fit(net(), torch.utils.data.DataLoader(data, 10), loss=nn.CrossEntropyLoss(), optimizer="adam", verbose=0).history
    assert len(history["loss"]) == 1


def test_frozen_weights_stay_and_gradients_are_gone_at_the_end():
    module = net()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    fit(module, IMAGES, CLASSES, optimizer="adam", loss=nn.CrossEntropyLoss(), verbose=0)
    assert torch.equal(module[0].weight, before)
    assert all(p.grad is None for p in module.parameters())


def test_a_module_in_float64_trains_in_float64():
    module = nn.Linear(3, 1).double()
    fit(module, np.ones((8, 3)), np.ones((8, 1)), loss="mse", verbose=0)
    assert module.weight.dtype is torch.float64
    assert predict(module, np.ones((2, 3))).dtype == np.float64


def test_training_goes_on_with_a_torch_model():
    module = nn.Linear(3, 1)
    model = TorchModel(module)
    model.compile("adam", "mse")
    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    for _ in range(2):
        model.fit(x, y, verbose=0)
    assert int(model.optimizer.iterations) == 2
    assert model.name == "linear"
    assert [p is q for p, q in zip(model.parameters(), module.parameters(), strict=True)] == [True, True]


def test_models_that_are_compiled_are_taken_as_they_are():
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    assert list(fit(model, x, y, verbose=0).history) == ["loss", "mae"]
    assert evaluate(model, x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    fit(model, x, y, loss="mae", verbose=0)
    assert model.loss == "mae"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fit(nn.Linear(3, 1), IMAGES, CLASSES, loss="mse", epoch=3),
            TypeError,
            "`hornbeam.fit` got an argument .*'epochs'",
        ),
        (lambda: fit(nn.Linear(3, 1), IMAGES, CLASSES, optimiser="sgd"), TypeError, "'optimiser'. Did you mean 'optimizer'"),
        (
            lambda: fit(nn.Linear(3, 1), IMAGES, CLASSES),
            ValueError,
            r"needs a loss, for example hornbeam.fit\(module, x, y, loss=",
        ),
        (lambda: evaluate(nn.Linear(3, 1), IMAGES), ValueError, "`hornbeam.evaluate` needs a loss"),
        (lambda: predict(nn.Linear(3, 1), IMAGES, batchsize=3), TypeError, "Did you mean 'batch_size'"),
        (lambda: fit(len, IMAGES, CLASSES, loss="mse"), TypeError, "TorchModel takes a torch.nn.Module"),
        (lambda: TorchModuleWrapper("linear"), TypeError, "TorchModuleWrapper wraps a torch.nn.Module"),
        (lambda: Model().compile(loss="mse", metric=["mae"]), TypeError, "`compile` got an argument.*Did you mean 'metrics'"),
    ],
)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- TorchModuleWrapper


def test_the_wrapper_is_a_layer_of_every_style():
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
    layer = TorchModuleWrapper(module, name="conv")
    assert layer.name == "conv"
    assert module.training
    x = Input((3, 8, 8))
    model = Model(x, layer(x))
    assert model.output_shape == (None, 2, 6, 6)
    assert model.get_layer("conv") is layer
    assert [w.shape for w in layer.trainable_weights] == [p.shape for p in module.parameters()]
    module.eval()
    torch.testing.assert_close(torch.from_numpy(model.predict(IMAGES)), module(torch.from_numpy(IMAGES)).detach())
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.ones((40, 2, 6, 6), "float32"), verbose=0)
    assert int(module[1].num_batches_tracked) == 2


def test_a_given_output_shape_spares_the_look():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.from_numpy(np.repeat(x.numpy(), 2, 1))  # NumPy cannot be looked at

    x = Input((3,))
    y = TorchModuleWrapper(Odd(), output_shape=(None, 6))(x)
    assert y.shape == (None, 6)
    assert Model(x, y)(torch.ones(2, 3)).shape == (2, 6)


def test_the_wrapper_has_no_config():
    with pytest.raises(NotImplementedError, match="holds a Linear, which has no config"):
        TorchModuleWrapper(nn.Linear(1, 1)).get_config()


def test_the_front_door_has_them():
    assert (hornbeam.fit, hornbeam.evaluate, hornbeam.predict) == (fit, evaluate, predict)
