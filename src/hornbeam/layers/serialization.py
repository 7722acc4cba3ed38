"""Layers to configs and back."""

from __future__ import annotations

from typing import Any

from hornbeam.core.errors import describe
from hornbeam.core.layer import Layer
from hornbeam.core.operation import Operation
from hornbeam.core.registry import deserialize_keras_object, public, serialize_keras_object


@public("keras.layers.serialize")
def serialize(layer: Any) -> dict[str, Any]:
    """Returns the config of a layer with its class, as Keras writes it.

    >>> from hornbeam.layers.dense import Dense
    >>> serialize(Dense(2))["class_name"]
    'Dense'
    """
    return serialize_keras_object(layer)


@public("keras.layers.deserialize")
def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes the layer that `serialize` described.

    Args:
        config: what `serialize` returned.
        custom_objects: classes and functions by name.

    Raises:
        ValueError: the config describes something else, or a class that is not known.

    >>> from hornbeam.layers.dense import Dense
    >>> deserialize(serialize(Dense(2))).units
    2
    """
    made = deserialize_keras_object(config, custom_objects=custom_objects)
    if not isinstance(made, (Layer, Operation)):
        raise ValueError(f"layers.deserialize takes the config of a layer. Received: {describe(config)}")
    return made
