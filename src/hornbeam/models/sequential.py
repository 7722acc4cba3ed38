"""Sequential: a chain of layers, each taking what the one before returned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from hornbeam.core.layer import Layer
from hornbeam.core.module import enclosing
from hornbeam.core.registry import custom_object_scope, deserialize_keras_object, public, serialize_keras_object
from hornbeam.graph import symbolic
from hornbeam.graph.context import context, setting
from hornbeam.graph.errors import boundary, trim
from hornbeam.graph.graph import Graph
from hornbeam.layers.input import InputLayer
from hornbeam.models.functional import GraphModel


@public("keras.Sequential")
class Sequential(GraphModel):
    """A chain of layers.

    Args:
        layers: list of layers or plain torch modules; an `Input` first, or `input_shape=` on the first layer, fixes the shapes,
            else the first call does.
        trainable: whether the weights learn.
        name: a name.

    >>> from hornbeam.layers import Dense
    >>> model = Sequential([Dense(4, activation="relu"), Dense(2)])
    >>> model(torch.ones(1, 3)).shape
    torch.Size([1, 2])
    """

    config_exclude = ("layers", *Layer.config_exclude)
    _hides_inputs = True
    _builds_itself = True

    def __init__(self, layers: Sequence[Any] | None = None, trainable: bool = True, name: str | None = None) -> None:
        super().__init__(trainable=trainable, name=name)
        self.__dict__.update(_chain=[], _stale=True, _symbols=None, _last=None)
        if layers is not None and not isinstance(layers, (list, tuple)):
            raise TypeError(f"Sequential takes a list of layers. Received: {type(layers).__name__}. Write Sequential([layer]).")
        try:
            for layer in layers or ():
                self._append(layer)
            self._refresh()
        except Exception as error:
            trim(error)
            raise

    # -- the chain

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Adds a layer at the end.

        Raises:
            TypeError: it is no layer or module.
            ValueError: a layer of that name is there already, or its input does not fit.
        """
        try:
            self._append(layer)
        except Exception as error:
            trim(error)
            raise

    def append(self, layer: Any) -> Sequential:
        """Adds a layer at the end and returns the model, as torch's Sequential does."""
        self._append(layer)
        return self

    def pop(self, rebuild: bool = True) -> Any:
        """Takes the last layer away and returns it."""
        if not self._layers():
            raise ValueError(f"Sequential {self.name!r} has no layers to pop.")
        layer = self._modules.pop(self._chain.pop())
        self._change()
        before = symbolic.symbol_for(self._last.node.args[0]) if self._last is not None and self._last.node.args else None
        self.__dict__.update(_stale=True, _last=before, _graph=None, _symbols=None, built=False)
        return layer

    def _append(self, layer: Any) -> None:
        if isinstance(layer, symbolic.SymbolicTensor) and isinstance(layer.node.target, InputLayer):
            layer = layer.node.target
        if not isinstance(layer, nn.Module):
            hint = " Pass the layer itself, without calling it." if isinstance(layer, symbolic.Symbol) else (
                f" Wrap a function: Lambda({getattr(layer, '__name__', 'f')})." if callable(layer) and not isinstance(layer, type)
                else f" Make an instance: {layer.__name__}(...)." if isinstance(layer, type) else "")  # fmt: skip
            raise TypeError(
                f"Sequential {self.name!r} takes layers and torch modules. Received: {layer!r} ({type(layer).__name__}).{hint}"
            )
        name = getattr(layer, "name", None)
        if name is not None and any(getattr(m, "name", None) == name for m in self._all()):
            raise ValueError(f"Sequential {self.name!r} has a layer named {name!r} already. Give each layer a name of its own.")
        if isinstance(layer, InputLayer) and self._chain:
            raise ValueError(f"Sequential {self.name!r} has an input already: an Input can only stand first.")
        shape = layer.__dict__.get("_input_shape_arg")
        if not self._chain and shape is not None and not isinstance(layer, InputLayer):
            self._append(InputLayer(batch_shape=shape, dtype=getattr(layer, "_input_dtype", None)))
        key = self._add_child(layer)
        self._chain.append(key)
        self._change()
        self.__dict__.update(_stale=True, _symbols=None)
        try:
            self._extend(layer)
        except Exception:
            self._modules.pop(self._chain.pop())
            raise

    def _change(self) -> None:
        self.__dict__["_ready"] = False
        self.__dict__.pop("forward", None)

    def _extend(self, layer: Any) -> None:
        """Records the new layer's call at once where shapes are known, so that a misfit shows at the user's line."""
        if isinstance(layer, InputLayer):
            self.__dict__["_last"] = layer.output
        elif (
            self._last is None
            and len(self._chain) == 1
            and isinstance(layer, GraphModel)
            and layer._graph is not None
            and len(layer.inputs) == 1
        ):
            first = layer.inputs[0]
            self._start(first.shape, first.dtype)
        elif self._last is not None:
            self.__dict__["_last"] = self._call_next(layer, self._last)

    def _call_next(self, layer: Any, x: Any) -> Any:
        with setting(names=enclosing(self)):
            result = layer(x)
        if not isinstance(result, symbolic.SymbolicTensor):
            raise ValueError(
                f"Layer {getattr(layer, 'name', layer)!r} returns {type(result).__name__}, but a Sequential is a chain of single "
                f"tensors. Use Model(inputs, outputs)."
            )
        return result

    def _start(self, shape: Any, dtype: str) -> None:
        """Records the whole chain from an input of a shape."""
        source = InputLayer(batch_shape=shape, dtype=dtype)
        self._modules[self._key_for_input()] = source
        x = source.output
        for layer in self._layers():
            x = self._call_next(layer, x)
        self.__dict__.update(_last=x, _stale=True)

    def _key_for_input(self) -> str:
        old = [k for k, m in self._modules.items() if isinstance(m, InputLayer) and k not in self._chain]
        return old[0] if old else "input_layer"

    def _refresh(self) -> None:
        """Makes the graph anew where the chain has changed and shapes are known."""
        if self._stale and self._last is not None and self._layers():
            self.__dict__["_stale"] = False
            inputs = next(m for m in self._modules.values() if isinstance(m, InputLayer)).output
            self._take(Graph.trace(inputs, self._last))
            self.__dict__["_symbols"] = inputs, self._last
            self.__dict__["_makes_mask"] = getattr(self._last, "_keras_mask", None) is not None

    def _known_graph(self) -> Graph:
        self._refresh()
        if self._graph is None:
            raise AttributeError(f"Sequential {self.name!r} knows no shapes yet: call it, build it, or start it with an Input.")
        return self._graph

    def _all(self) -> list[Any]:
        return [self._modules[k] for k in self._chain]

    def _layers(self) -> list[Any]:
        return [m for m in self._all() if not isinstance(m, InputLayer)]

    @property
    def graph(self) -> Graph | None:  # type: ignore[override]
        """The graph the model runs from; None while shapes are not known."""
        self._refresh()
        return self._graph

    @property
    def layers(self) -> list[Any]:
        """The layers of the chain, without the input."""
        return self._layers()

    def _rekey(self, wanted: dict[int, str]) -> None:
        chain = self._all()
        super()._rekey(wanted)
        keys = {id(m): k for k, m in self._modules.items()}
        self._chain[:] = [keys[id(m)] for m in chain]

    # -- building and running

    @property
    def built(self) -> bool:  # type: ignore[override]
        """Whether shapes are known."""
        self._refresh()
        return self.__dict__.get("built", False)

    @built.setter
    def built(self, value: bool) -> None:
        self.__dict__["built"] = value

    def build(self, input_shape: Any = None) -> None:
        """Builds the chain for inputs of a shape with the batch axis."""
        if input_shape is None or self._last is not None:
            self._refresh()
            known = self.input_shape if input_shape is not None and self._graph is not None else None
            if known is not None and not _agree(known[1:], tuple(input_shape)[1:]):
                raise ValueError(f"Sequential {self.name!r} is made for inputs of shape {known}. Received: {tuple(input_shape)}")
            return
        if not isinstance(input_shape, (tuple, list)):
            raise ValueError(
                f"Sequential {self.name!r} needs a tuple with the batch axis to be built, such as (None, 3). "
                f"Received: {input_shape!r}"
            )
        self._start(tuple(input_shape), self._input_kind())
        self._refresh()

    def _input_kind(self) -> str:
        first = self._layers()[0] if self._layers() else None
        return getattr(first, "_takes_ids", None) or (self.compute_dtype if "float" in self.compute_dtype else "float32")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Runs the chain."""
        if self._stale:
            self._check_filled()
            if self._last is None or torch.compiler.is_compiling() or context.scratch:
                return self._run_chain(inputs)
            self._refresh()
        return GraphModel.call(self, inputs, training, mask)

    call._runs_graph = True  # type: ignore[attr-defined]
    forward = call

    def _check_filled(self) -> None:
        if not self._layers():
            raise ValueError(f"Sequential {self.name!r} has no layers: add some before it is called.")

    def _run_chain(self, x: Any) -> Any:
        for layer in self._layers():
            x = layer(x)
        return x

    def _build_for(self, x: Any) -> None:
        if self._last is None and not torch.compiler.is_compiling() and hasattr(x, "shape"):
            self._check_filled()
            from hornbeam.core.dtype import standardize_dtype

            dtype = x.dtype if isinstance(x, symbolic.SymbolicTensor) else standardize_dtype(x.dtype)
            if "float" in dtype:
                dtype = self.compute_dtype
            self._start((None, *tuple(x.shape)[1:]), dtype)
        self._refresh()

    def compute_output_spec(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic outputs for symbolic inputs."""
        self._build_for(inputs)
        return super().compute_output_spec(inputs, *args, **kwargs)

    # -- as a sequence

    def __len__(self) -> int:
        return len(self._layers())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._layers())

    @boundary
    def __getitem__(self, index: Any) -> Any:
        """One layer by place or name, or a Sequential of a slice that shares the layers.

        A slice by places leaves its end out, `model[:2]`; one by names has both ends in it, `model["conv2":"logits"]`.
        """
        if isinstance(index, str):
            return self.get_layer(index)
        if isinstance(index, slice) and (isinstance(index.start, str) or isinstance(index.stop, str)):
            return super().__getitem__(index)
        if isinstance(index, slice):
            return Sequential(self._layers()[index])
        return self._layers()[index]

    @property
    def code(self) -> str:
        """The model as the Python function that runs it."""
        self._refresh()
        if self._graph is None:
            raise ValueError(f"Sequential {self.name!r} has no graph yet: call it, build it, or start it with an Input.")
        return super().code

    def get_config(self) -> dict[str, Any]:
        """Returns the model's config in Keras's form."""
        self._refresh()
        inputs = [m for m in self._modules.values() if isinstance(m, InputLayer)][:1]
        config = {
            **super().get_config(),
            "dtype": self._config_value("dtype"),
            "layers": [serialize_keras_object(m) for m in (*inputs, *self.layers)],
        }
        return {**config, "build_input_shape": inputs[0].batch_shape} if inputs else config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes a model from what `get_config` returned."""
        with custom_object_scope(custom_objects or {}):
            layers = [deserialize_keras_object(c) for c in config["layers"]]
        made = cls(layers, name=config.get("name"), trainable=config.get("trainable", True))
        shape = config.get("build_input_shape")
        if shape and not made.built:
            made.build(tuple(shape))
        return made

    def __getstate__(self) -> dict[str, Any]:
        self._refresh()
        state = super().__getstate__()
        if not self._stale:
            state["_last"] = None
        return state


def _agree(known: tuple[int | None, ...], shape: tuple[int | None, ...]) -> bool:
    return len(known) == len(shape) and all(None in (a, b) or a == b for a, b in zip(known, shape, strict=True))
