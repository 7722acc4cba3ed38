"""Optimizers: how weights follow their gradients."""

from __future__ import annotations

from typing import Any

from hornbeam.core import registry as _registry
from hornbeam.core.errors import describe as _describe
from hornbeam.optimizers import schedules as schedules
from hornbeam.optimizers.adafactor import Adafactor as Adafactor
from hornbeam.optimizers.adagrad import Adadelta as Adadelta
from hornbeam.optimizers.adagrad import Adagrad as Adagrad
from hornbeam.optimizers.adam import Adam as Adam
from hornbeam.optimizers.adam import Adamax as Adamax
from hornbeam.optimizers.adam import AdamW as AdamW
from hornbeam.optimizers.adam import Nadam as Nadam
from hornbeam.optimizers.base import Optimizer as Optimizer
from hornbeam.optimizers.from_torch import TorchOptimizer as TorchOptimizer
from hornbeam.optimizers.from_torch import is_torch as _is_torch
from hornbeam.optimizers.ftrl import Ftrl as Ftrl
from hornbeam.optimizers.lamb import Lamb as Lamb
from hornbeam.optimizers.lion import Lion as Lion
from hornbeam.optimizers.loss_scale import LossScaleOptimizer as LossScaleOptimizer
from hornbeam.optimizers.multi import MultiOptimizer as MultiOptimizer
from hornbeam.optimizers.multi import OptimizerMap as OptimizerMap
from hornbeam.optimizers.muon import Muon as Muon
from hornbeam.optimizers.rmsprop import RMSprop as RMSprop
from hornbeam.optimizers.schedule_free import ScheduleFreeAdamW as ScheduleFreeAdamW
from hornbeam.optimizers.sgd import SGD as SGD

_known = _registry.Registry("optimizer", "keras.optimizers", Optimizer)
for _cls in (
    Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Ftrl, Lamb, Lion, LossScaleOptimizer, MultiOptimizer, Muon, Nadam, RMSprop,
    SGD, ScheduleFreeAdamW,
):  # fmt: skip
    _known.add(_registry.public(f"keras.optimizers.{_cls.__name__}")(_cls))
_registry.public("keras.optimizers.OptimizerMap")(OptimizerMap)


def get(identifier: Any) -> Any:
    """Returns the optimizer for a name, a config, a class or an optimizer; None stays None.

    Args:
        identifier: such as "adam", {"class_name": "Adam", "config": {...}}, `Adam`, `Adam(0.01)`; or an optimizer of torch, its
            class, or a function that makes one of a list of weights, such as `lambda weights: torch.optim.SGD(weights, lr=0.1)`.

    >>> get("rmsprop")
    <RMSprop learning_rate=0.001, iterations=0>
    """
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if _is_torch(identifier):
        return TorchOptimizer(identifier)
    if isinstance(identifier, str) and identifier not in _known.names():
        lower = identifier.lower()
        identifier = lower if lower in _known.names() else identifier
    found = _known.get(identifier)
    if found is None or isinstance(found, Optimizer):
        return found
    raise ValueError(f"Could not read {_describe(identifier)} as optimizer: a name, a config or an Optimizer is expected.")


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Returns an optimizer's config.

    >>> serialize(SGD(0.5))["class_name"]
    'SGD'
    """
    return _registry.serialize_keras_object(optimizer)


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes an optimizer from its config.

    Args:
        config: what `serialize` returned, or Keras's; class names may be in lower case.
        custom_objects: classes by name, for this call.

    >>> deserialize({"class_name": "sgd", "config": {"learning_rate": 0.5}})
    <SGD learning_rate=0.5, iterations=0>
    """
    name = config.get("class_name")
    if isinstance(name, str) and name not in (custom_objects or {}) and name.lower() in _known.names():
        config = {**config, "class_name": _known.find(name.lower()).__name__, "module": "keras.optimizers"}
    return _registry.deserialize_keras_object(config, custom_objects)
