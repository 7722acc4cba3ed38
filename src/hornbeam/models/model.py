"""Model: a layer with a graph to look at and a training loop; subclassed, or made from inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from hornbeam.core.errors import did_you_mean
from hornbeam.core.layer import Layer, layer_name
from hornbeam.core.registry import custom_object_scope, public, serialize_keras_object
from hornbeam.core.tracking import CONTAINERS
from hornbeam.graph.errors import boundary
from hornbeam.models import state_tree
from hornbeam.training import compile as compiling
from hornbeam.training import functions, loop, on_batch, state, step


def _is_functional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return len(args) == 2 or (len(args) == 1 and "outputs" in kwargs) or ("inputs" in kwargs and "outputs" in kwargs)


@public("keras.Model")
class Model(Layer):
    """A model: `Model(inputs, outputs)` from symbolic tensors, or a subclass with its own `call` (or `forward`).

    Args:
        inputs: nest of symbolic tensors.
        outputs: nest of symbolic tensors computed from them.
        name: a name.

    >>> from hornbeam.layers import Dense, Input
    >>> x = Input((3,))
    >>> Model(x, Dense(2)(x)).count_params()
    8
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and _is_functional(args, kwargs):
            from hornbeam.models.functional import Functional  # a Model is its base

            return Functional.__new__(Functional, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _is_functional(args, kwargs):
            from hornbeam.models.functional import Functional, become_functional

            become_functional(type(self))
            Functional.__init__(self, *args, **kwargs)  # type: ignore[arg-type]
            return
        if args:
            raise TypeError(
                f"{type(self).__name__} takes `inputs` and `outputs`, or nothing where it is subclassed. "
                f"Received {len(args)} argument(s). A list of layers makes a Sequential."
            )
        if kwargs.keys() & {"inputs", "outputs"}:
            near = "".join(did_you_mean(k, ("inputs", "outputs")) for k in kwargs if k not in ("inputs", "outputs"))
            raise TypeError(
                f"{type(self).__name__} takes `inputs` and `outputs` together. Received only: {', '.join(kwargs)}.{near}"
            )
        super().__init__(**kwargs)

    graph: Any = None  # of a model that is a graph; others are recorded to be looked at
    _hides_inputs: bool = False

    # -- layers

    @property
    def layers(self) -> list[Any]:
        """The model's layers, those in lists and dicts too, in the order in which they were attached."""
        return list(_flat(self))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Returns a layer by its name or its place in `layers`.

        Raises:
            ValueError: there is none; close names are suggested.
        """
        layers = self.layers
        if index is not None and name is not None:
            raise ValueError(f"get_layer takes a name or an index, not both. Received: name={name!r}, index={index}")
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"Model {self.name!r} has {len(layers)} layers; there is none at index {index}.")
            return layers[index]
        if name is None:
            raise ValueError("get_layer needs a name or an index.")
        named = {layer_name(self, layer): layer for layer in layers}
        if name in named:
            return named[name]
        raise ValueError(
            f"Model {self.name!r} has no layer {name!r}.{did_you_mean(name, named)} Layers: {', '.join(map(repr, named))}."
        )

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes a model from what `get_config` returned."""
        if "input_layers" in config:
            from hornbeam.models.functional import Functional, become_functional, takes_graph

            if cls is Model:
                return Functional.from_config(config, custom_objects)
            if takes_graph(cls):
                become_functional(cls)
                return Functional.from_config.__func__(cls, config, custom_objects)  # type: ignore[attr-defined]
        with custom_object_scope(custom_objects or {}):
            return super().from_config(config)

    # -- weights and shapes

    def build(self, input_shape: Any) -> None:
        """Builds a subclassed model for inputs of a shape with the batch axis: it is run once on an empty batch.

        >>> class Net(Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv = nn.LazyLinear(2)
        ...     def call(self, x):
        ...         return self.conv(x)
        >>> Net().build((None, 3))
        """
        super().build(input_shape)

    build._by_running = True  # type: ignore[attr-defined]

    def summary(
        self, line_length: int | None = None, positions: Any = None, print_fn: Any = None, expand_nested: bool = False,
        show_trainable: bool = False, layer_range: Any = None, input_shape: Any = None, show: Any = (), batch_size: int = 1,
    ) -> None:  # fmt: skip
        """Prints a table of the layers: names, output shapes, parameters, connections, and what they cost.

        Args:
            line_length: width in characters.
            positions: column positions, as fractions of the width or in characters.
            print_fn: function that takes the text; printing unless given.
            expand_nested: whether nested models are opened.
            show_trainable: whether a column says which layers learn.
            layer_range: first and last layer, by name or regular expression.
            input_shape: for a model that was not built yet: the shape to build it for.
            show: further columns, such as "macs", "flops", "memory", "time": see `hornbeam.summary`.
            batch_size: for how many samples at once these are told.
        """
        from hornbeam.inspect.look import summary  # only needed here

        if input_shape is not None and not self.built:
            self.build(input_shape)
        table = line_length, positions, print_fn, expand_nested, show_trainable, layer_range
        summary(self, None, *table, show, batch_size)

    def cost(self, inputs: Any = None, batch_size: int = 1, training: bool = True, optimizer: Any = None) -> Any:
        """Returns multiply-adds, activations, weights, slots and peak memory, by call and in total: see `hornbeam.cost`."""
        from hornbeam.inspect.cost import cost_of

        return cost_of(self, inputs, batch_size, training, optimizer)

    def profile(self, x: Any = None, **kwargs: Any) -> Any:
        """Returns the cost with the measured time of each call, forward and backward: see `hornbeam.profile`."""
        from hornbeam.inspect.profile import profile

        return profile(self, x, **kwargs)

    def explore(self, to_file: Any = None, inputs: Any = None, batch_size: int = 1, cost: bool = True) -> Any:
        """Makes a page on which the model can be walked through; see `hornbeam.explore`."""
        from hornbeam.inspect.explorer import explore  # needed only here

        return explore(self, to_file, inputs, batch_size, cost)

    def _repr_html_(self) -> str:
        from hornbeam.inspect.reprs import html  # needed only here

        return html(self)

    def __rich__(self) -> Any:
        from hornbeam.inspect.reprs import rich_table  # needed only here

        return rich_table(self)

    @boundary
    def tap(self, names: Any, index: int | None = None, inputs: Any = None) -> Any:
        """Returns intermediate outputs as a model that shares the layers, `model.tap("backbone/block3")`: see `hornbeam.tap`."""
        from hornbeam.models.tapped import tap  # it needs this module

        return tap(self, names, index, inputs)

    def to_json(self, **kwargs: Any) -> str:
        """Returns the model's config as JSON text; `kwargs` go to `json.dumps`."""
        return json.dumps(serialize_keras_object(self), **kwargs)

    def to_source(self, style: str | None = None, training: bool = False, inputs: Any = None) -> Any:
        """Returns the model as source code: see `hornbeam.to_source`."""
        from hornbeam.export.source import to_source  # only needed here

        return to_source(self, inputs, style, training)

    def reset_states(self) -> None:
        """Sets the state of every stateful recurrent layer to zeros."""
        for module in self.modules():
            reset = getattr(module, "reset_states", None)
            if module is not self and callable(reset) and not isinstance(module, Model):
                reset()

    reset_state = reset_states

    # -- training: plain functions, so that no frame stands between `loop.fit` and the step

    compiled: bool = False
    stop_training: bool = False
    stop_evaluating: bool = False
    stop_predicting: bool = False
    run_eagerly: bool = False
    optimizer: Any = None
    loss: Any = None
    history: Any = None
    _compile_loss: Any = None
    _compile_metrics: Any = None
    _loss_tracker: Any = None
    _plan: Any = None

    compile = compiling.compile
    get_compile_config, compile_from_config = compiling.get_compile_config, compiling.compile_from_config
    metrics, metrics_names = property(compiling.metrics), property(compiling.metrics_names)
    reset_metrics, get_metrics_result = compiling.reset_metrics, compiling.get_metrics_result
    fit, evaluate, predict = boundary(loop.fit), boundary(loop.evaluate), boundary(loop.predict)
    train_on_batch, test_on_batch = boundary(on_batch.train_on_batch), boundary(on_batch.test_on_batch)
    predict_on_batch = boundary(on_batch.predict_on_batch)
    get_training_state, set_training_state = state.get_training_state, state.set_training_state
    make_train_function, make_test_function = functions.make_train_function, functions.make_test_function
    make_predict_function = functions.make_predict_function
    train_step, test_step, predict_step = step.train_step, step.test_step, step.predict_step
    compute_loss, compute_metrics = step.compute_loss, step.compute_metrics
    get_state_tree, set_state_tree = state_tree.get_state_tree, state_tree.set_state_tree

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that learn; a compiled step knows them already."""
        plan = self._plan
        return plan.weights if plan is not None and torch.compiler.is_compiling() else super().trainable_weights

    trainable_variables = trainable_weights

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in ("_plan", "_compiled_step", "_run", "_resumed")}


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, CONTAINERS):
            yield from _flat(child)
        else:
            yield child
