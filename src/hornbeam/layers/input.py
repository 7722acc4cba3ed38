"""Where a graph begins: `Input` and the layer behind it."""

from __future__ import annotations

from typing import Any

from hornbeam.core.dtype import standardize_dtype
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.graph.node import Node, Out, Ref, Spec, user_source
from hornbeam.graph.symbolic import SymbolicTensor


@public("keras.layers.InputLayer")
class InputLayer(Layer):
    """The place in a model where an input comes in.

    Args:
        shape: sizes without the batch axis; None where an axis varies.
        batch_size: size of the batch axis, where it is fixed.
        dtype: dtype name; `config.floatx()` unless given.
        sparse, ragged: must be False: torch models take dense tensors.
        batch_shape: sizes with the batch axis, in place of `shape` and `batch_size`.
        input_tensor: a symbolic tensor to stand for.
        optional: whether None may be passed for this input.
        name: a name.

    >>> InputLayer(shape=(3,)).output.shape
    (None, 3)
    """

    config_exclude = ("shape", "batch_size", "input_tensor", "trainable", *Layer.config_exclude)

    def __init__(
        self, shape: Any = None, batch_size: int | None = None, dtype: Any = None, sparse: bool | None = None,
        ragged: bool | None = None, batch_shape: Any = None, input_tensor: Any = None, optional: bool = False,
        name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        old = kwargs.pop("input_shape", None)
        shape = old if shape is None else shape
        super().__init__(name=name, **kwargs)
        if input_tensor is not None:
            batch_shape, dtype = _agreeing(self.name, input_tensor, shape, batch_size, batch_shape, dtype)
            shape = batch_size = None
        if batch_shape is None:
            batch_shape = (batch_size, *_checked(shape, self.name))
        elif shape is not None or batch_size is not None:
            raise ValueError(
                f"Input {self.name!r}: give `batch_shape` alone, or `shape` and `batch_size`. "
                f"Received: shape={shape}, batch_size={batch_size}, batch_shape={batch_shape}"
            )
        if sparse or ragged:
            raise ValueError(f"Input {self.name!r}: torch models take dense tensors. Received: sparse={sparse}, ragged={ragged}")
        self.batch_shape = _checked(batch_shape, self.name)
        self.optional, self.sparse, self.ragged = optional, False, False
        self.__dict__.update(_dtype=standardize_dtype(dtype), built=True)
        self._begin()

    def _begin(self) -> None:
        node = Node("input", self, self.name, source=user_source())
        node.outputs, node.structure = [Spec(self.batch_shape, self._dtype)], Out(0)
        self._inbound_nodes.append(node)

    def call(self, inputs: Any) -> Any:
        """Returns what comes in."""
        return inputs

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The dtype of the input."""
        return self._dtype

    @property
    def output(self) -> SymbolicTensor:
        """The symbolic tensor for the input."""
        if not self._inbound_nodes:
            self._begin()
        return SymbolicTensor(ref=Ref(self._inbound_nodes[0], 0), name=self.name)

    def _config_value(self, name: str) -> Any:
        return self._dtype if name == "dtype" else super()._config_value(name)


def _agreeing(name: str, tensor: Any, shape: Any, batch_size: Any, batch_shape: Any, dtype: Any) -> tuple[Any, str]:
    """The shape and dtype of a symbolic tensor, which what else is given must not contradict."""
    if not isinstance(tensor, SymbolicTensor):
        raise ValueError(f"Input {name!r}: `input_tensor` must be a symbolic tensor. Received: {type(tensor).__name__}")
    own = tuple(tensor.shape)
    given = {"shape": shape, "batch_size": batch_size, "batch_shape": batch_shape, "dtype": dtype}
    found = {"shape": own[1:], "batch_size": own[0] if own else None, "batch_shape": own, "dtype": tensor.dtype}
    for key, value in given.items():
        value = tuple(value) if key.endswith("shape") and value is not None else value
        if value is not None and (standardize_dtype(value) if key == "dtype" else value) != found[key]:
            raise ValueError(f"Input {name!r}: `input_tensor` has {key}={found[key]}. Received: {key}={value!r}")
    return own, tensor.dtype


def _checked(shape: Any, name: str) -> tuple[int | None, ...]:
    if isinstance(shape, int) or shape is None or isinstance(shape, str):
        hint = f" Write shape=({shape},)." if isinstance(shape, int) else ""
        raise ValueError(
            f"Input {name!r} needs `shape`, a tuple of sizes without the batch axis. Received: shape={shape!r}.{hint}"
        )
    sizes = tuple(shape)
    for size in sizes:
        if size is not None and (isinstance(size, bool) or not hasattr(size, "__index__") or int(size) < 0):
            raise ValueError(f"Input {name!r}: a shape holds sizes and None. Received: shape={shape!r}")
    return tuple(None if s is None else int(s) for s in sizes)


@public("keras.Input")
def Input(
    shape: Any = None, batch_size: int | None = None, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None,
    batch_shape: Any = None, name: str | None = None, tensor: Any = None, optional: bool = False,
) -> SymbolicTensor:  # fmt: skip
    """Returns a symbolic tensor: the beginning of a functional model.

    Args:
        shape: sizes without the batch axis; None where an axis varies.
        batch_size: size of the batch axis, where it is fixed.
        dtype: dtype name; `config.floatx()` unless given.
        sparse, ragged: must be False: torch models take dense tensors.
        batch_shape: sizes with the batch axis, in place of `shape` and `batch_size`.
        name: a name.
        tensor: a symbolic tensor to stand for.
        optional: whether None may be passed for this input.

    >>> Input((28, 28, 1)).shape
    (None, 28, 28, 1)
    """
    return InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name).output
