"""Small layers of general use: a function as a layer, masks from values, nothing at all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from hornbeam.core.errors import bad_argument
from hornbeam.core.layer import Layer
from hornbeam.core.registry import custom_object_scope, deserialize_keras_object, public, serialize_keras_object


@public("keras.layers.Identity")
class Identity(Layer):
    """Passes its input on.

    Args:
        kwargs: arguments of `Layer`.

    >>> Identity()(torch.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Returns the inputs."""
        return inputs


@public("keras.layers.Masking")
class Masking(Layer):
    """Masks time steps whose features all equal a value, and sets them to 0.

    Args:
        mask_value: the value that marks a step as missing.

    Input shape: `(batch, ..., features)`. The mask that later layers get has shape `(batch, ...)`.

    >>> x = torch.tensor([[[1.0, 2.0], [-1.0, -1.0]]])
    >>> Masking(-1.0)(x).tolist(), Masking(-1.0).compute_mask(x).tolist()
    ([[[1.0, 2.0], [0.0, 0.0]]], [[True, False]])
    """

    def __init__(self, mask_value: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the inputs with masked steps set to 0."""
        return inputs.masked_fill((inputs == self.mask_value).all(-1, keepdim=True), 0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns True for each step in which some feature differs from `mask_value`."""
        return (inputs != self.mask_value).any(-1)


@public("keras.layers.Lambda")
class Lambda(Layer):
    """A function as a layer. It holds no weights: write a `Layer` for a function that has some.

    Args:
        function: the function; it gets `mask` and `training` where it takes arguments of these names.
        output_shape: shape without the batch axis, or a function of the input shape; inferred unless given.
        mask: the output's mask, or a function `mask(inputs, previous_mask)`.
        arguments: dict of further keyword arguments for the function.

    A config names the function; to read it back, pass `custom_objects` or register the function. Anonymous functions
    cannot be read back from a config.

    >>> Lambda(lambda x: x**2)(torch.tensor([2.0, 3.0])).tolist()
    [4.0, 9.0]
    """

    config_exclude = ("function", "output_shape", "mask", "arguments", *Layer.config_exclude)

    def __init__(
        self, function: Callable[..., Any], output_shape: Any = None, mask: Any = None, arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if not callable(function):
            raise bad_argument(self, "function", "a callable", function, TypeError)
        if output_shape is not None and not callable(output_shape) and not isinstance(output_shape, (tuple, list)):
            raise bad_argument(self, "output_shape", "a tuple or a function", output_shape, TypeError)
        self.function, self.output_shape, self.mask = function, output_shape, mask
        self.arguments = dict(arguments or {})
        self.supports_masking = mask is not None
        self._takes = _names(function)
        self.__dict__["_own_output_shape"] = output_shape is not None

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Returns `function(inputs, **arguments)`."""
        offered = {"mask": mask, "training": training}
        return self.function(inputs, **{**self.arguments, **{k: offered[k] for k in self._takes}})

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns what `output_shape` says, else the shape of what the function returns."""
        if self.output_shape is None:
            return super().compute_output_shape(input_shape)
        if callable(self.output_shape):
            return self.output_shape(input_shape)
        batch = input_shape[0] if not input_shape or not isinstance(input_shape[0], (tuple, list)) else input_shape[0][0]
        return (batch, *self.output_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask that was given, or what the given function makes of the inputs and their mask."""
        return self.mask(inputs, previous_mask) if callable(self.mask) and not isinstance(self.mask, torch.Tensor) else self.mask

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, functions by their names."""
        own = {name: getattr(self, name) for name in ("function", "output_shape", "mask", "arguments")}
        written = {k: serialize_keras_object(v) if callable(v) and not isinstance(v, torch.Tensor) else v for k, v in own.items()}
        return {**super().get_config(), **{k: v for k, v in written.items() if v is not None}}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None, safe_mode: bool | None = None
    ) -> Lambda:  # fmt: skip
        """Makes a layer from what `get_config` returned. Code that a config holds is never run."""
        if isinstance(config.get("function"), dict) and config["function"].get("class_name") == "__lambda__":
            raise ValueError(
                f"Lambda layer {config.get('name')!r}: its config holds compiled Python code, which is not run. "
                f"Name the function, and pass it in `custom_objects` or register it with `register_keras_serializable`."
            )
        with custom_object_scope(custom_objects or {}):
            read = {k: deserialize_keras_object(v) if isinstance(v, dict) and k != "arguments" else v for k, v in config.items()}
        if isinstance(read.get("output_shape"), list):
            read["output_shape"] = tuple(read["output_shape"])
        return super().from_config(read)


def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Which of `mask` and `training` a function takes."""
    try:
        taken = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    return tuple(n for n in ("mask", "training") if n in taken)
