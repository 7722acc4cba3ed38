"""Each optimizer over 20 steps, its state and its config, against Keras on torch."""

from __future__ import annotations

import json
import re
from typing import Any

import keras
import numpy as np
import pytest
import torch

from hornbeam import optimizers

SHAPES = [(5, 7), (7,), (3, 3, 2, 4), (1,), (7, 2)]
SURROUNDINGS = [
    {"weight_decay": 0.01, "clipnorm": 1.0},
    {"global_clipnorm": 0.7, "loss_scale_factor": 4.0},
    {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3, "clipvalue": 0.5},
    {"gradient_accumulation_steps": 3},
    {"gradient_accumulation_steps": 3, "use_ema": True, "ema_overwrite_frequency": 2, "weight_decay": 0.1},
]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, *SURROUNDINGS],
    "Adam": [{}, {"amsgrad": True}, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.01}, *SURROUNDINGS],
    "AdamW": [{}, {"weight_decay": 0.1, "amsgrad": True}],
    "RMSprop": [{}, {"momentum": 0.9}, {"centered": True, "rho": 0.7}, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}],
    "Adagrad": [{}, {"initial_accumulator_value": 0.0, "weight_decay": 0.1}],
    "Adadelta": [{"learning_rate": 1.0}, {"rho": 0.5, "epsilon": 1e-3}],
    "Adamax": [{}, {"weight_decay": 0.1}],
    "Nadam": [{}, {"gradient_accumulation_steps": 2}],
    "Ftrl": [
        {},
        {"learning_rate_power": -0.3},
        {"l1_regularization_strength": 0.1, "l2_regularization_strength": 0.2, "beta": 0.4},
        {"l2_shrinkage_regularization_strength": 0.3},
    ],
    "Lion": [{"learning_rate": 0.001}, {"weight_decay": 0.1}],
    "Lamb": [{}, {"weight_decay": 0.1}],
    "Adafactor": [{}, {"relative_step": False, "weight_decay": 0.1, "clip_threshold": 0.5}],
    "Muon": [{}, {"nesterov": False, "rms_rate": None, "adam_lr_ratio": 2.0, "weight_decay": 0.2, "ns_steps": 3}],
    "ScheduleFreeAdamW": [{}, {"beta_1": 0.5, "warmup_steps": 7, "weight_decay": 0.1}],
}
CASES = [pytest.param(name, options, id=f"{name}-{i}") for name, sets in OPTIONS.items() for i, options in enumerate(sets)]


def weights_and_gradients(steps: int = 20) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s).astype("float32") for s in SHAPES]
    return weights, [[(rng.normal(size=s) * 10.0 ** -(i % 4)).astype("float32") for s in SHAPES] for i in range(steps)]


def both(name: str, options: dict[str, Any]) -> tuple[Any, Any, list[Any], list[torch.nn.Parameter]]:
    options = {"learning_rate": 0.01, "name": "it", **options}
    theirs, ours = getattr(keras.optimizers, name)(**options), getattr(optimizers, name)(**options)
    weights, gradients = weights_and_gradients()
    variables = [keras.Variable(w, name=f"v{i}") for i, w in enumerate(weights)]
    parameters = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    for step in gradients:
        theirs.apply([torch.tensor(g) for g in step], variables)
        ours.apply([torch.tensor(g) for g in step], parameters)
    return theirs, ours, variables, parameters


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "options"), CASES)
def test_weights_state_and_config_are_those_of_keras(name: str, options: dict[str, Any]) -> None:
    theirs, ours, variables, parameters = both(name, options)
    start, _ = weights_and_gradients()
    for before, expected, got in zip(start, variables, parameters, strict=True):
        torch.testing.assert_close(got.detach(), expected.value.detach(), rtol=2e-6, atol=2e-6)
        assert np.abs(before - got.detach().numpy()).max() > 1e-5
    assert int(ours.iterations) == int(theirs.iterations)
    assert [tuple(v.shape) for v in ours.variables] == [tuple(v.shape) for v in theirs.variables]
    for expected, got in zip(theirs.variables, ours.variables, strict=True):
        # Keras takes 1 - 0.999 in float32, which is 1.3e-5 off
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=3e-5, atol=1e-6)
    assert ours.get_config() == theirs.get_config()


@pytest.mark.oracle
@pytest.mark.parametrize("name", OPTIONS)
def test_default_config_and_variable_names_are_those_of_keras(name: str) -> None:
    theirs, ours = getattr(keras.optimizers, name)(name="it"), getattr(optimizers, name)(name="it")
    assert ours.get_config() == theirs.get_config()
    again = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(ours))))
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
    assert optimizers.deserialize(keras.optimizers.serialize(theirs)).get_config() == ours.get_config()
    theirs.build([keras.Variable(np.zeros((2, 3), "float32"), name="k"), keras.Variable(np.zeros(3, "float32"), name="b")])
    from hornbeam.core.weights import Variable

    ours.build([Variable(np.zeros((2, 3), "float32"), name="k"), Variable(np.zeros(3, "float32"), name="b")])
    if name == "Adafactor":  # Keras leaves the names of row and column means empty
        assert [v.name for v in ours.variables][2:5] == ["k_r", "k_c", "k_velocity"]
    else:
        names = [re.sub(r"^variable_\d+$", "variable", v.name) for v in theirs.variables]  # Nadam's product is numbered
        assert [v.name for v in ours.variables] == names


@pytest.mark.oracle
def test_loss_scale_optimizer_skips_and_scales_as_keras_does() -> None:
    def make(library: Any) -> Any:
        return library.LossScaleOptimizer(library.SGD(0.1), initial_scale=8.0, dynamic_growth_steps=3)

    theirs, ours = make(keras.optimizers), make(optimizers)
    variable, parameter = keras.Variable(np.ones(2, "float32")), torch.nn.Parameter(torch.ones(2))
    for step in range(8):
        gradient = torch.full((2,), float("inf") if step == 4 else 8.0)
        theirs.apply([gradient], [variable])
        ours.apply([gradient], [parameter])
        np.testing.assert_allclose(parameter.detach().numpy(), variable.numpy(), rtol=1e-6)
        assert ours.dynamic_scale == float(theirs.dynamic_scale)
        assert int(ours.iterations) == int(theirs.iterations)
    assert float(ours.scale_loss(torch.tensor(1.0))) == float(theirs.scale_loss(torch.tensor(1.0)))
    assert [v.numpy().tolist() for v in ours.variables] == [v.numpy().tolist() for v in theirs.variables]
    assert set(ours.get_config()) == set(theirs.get_config())
    assert optimizers.LossScaleOptimizer.from_config(ours.get_config()).get_config() == ours.get_config()
    ours.learning_rate = 0.5
    assert ours.inner_optimizer.learning_rate == 0.5


@pytest.mark.oracle
def test_multi_optimizer_is_that_of_keras() -> None:
    from hornbeam.core.weights import Variable

    def make(library: Any) -> Any:
        mapping = library.OptimizerMap(library.SGD(0.1, name="sgd"), {"k.*": library.Adam(0.2, name="adam")})
        return library.MultiOptimizer(mapping, name="it")

    theirs, ours = make(keras.optimizers), make(optimizers)
    values = [np.ones((2, 2), "float32"), np.ones(2, "float32")]
    variables = [keras.Variable(v, name=n) for v, n in zip(values, "kb", strict=True)]
    parameters = [Variable(v, name=n) for v, n in zip(values, "kb", strict=True)]
    for _ in range(3):
        theirs.apply([torch.ones(2, 2), torch.ones(2)], variables)
        ours.apply([torch.ones(2, 2), torch.ones(2)], parameters)
    for expected, got in zip(variables, parameters, strict=True):
        # at a rate of 0.2 Keras's float32 bias correction shows: 4e-6 after three steps
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=2e-5)
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]
    assert int(ours.iterations) == 3
    again = optimizers.MultiOptimizer.from_config(ours.get_config())
    assert again.get_config() == ours.get_config()
    with pytest.raises(AttributeError, match="its `optimizers`"):
        ours.learning_rate = 1.0


@pytest.mark.oracle
def test_muon_gives_embeddings_and_excluded_layers_to_adam() -> None:
    from hornbeam.core.weights import Variable

    optimizer = optimizers.Muon(exclude_layers=["^out"])
    names = ["embedding", "dense_kernel", "out_kernel", "dense_bias"]
    optimizer.build([Variable(np.ones((2, 3) if n != "dense_bias" else 3, "float32"), name=n) for n in names])
    has_velocity = [v.name.removesuffix("_velocity") for v in optimizer.variables if v.name.endswith("_velocity")]
    assert has_velocity == ["embedding", "out_kernel", "dense_bias"]
