"""Operations: pure computations that record when they meet a symbolic tensor; `Layer` is one with state."""

from __future__ import annotations

from typing import Any

from hornbeam.core.init_args import Configurable, is_builtin
from hornbeam.core.registry import auto_name, public, snake_case
from hornbeam.graph import symbolic, tree
from hornbeam.graph.context import context
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Out, Spec, user_source


def output_specs(result: Any) -> tuple[list[Spec], Any]:
    """Returns the Specs and the structure of a nest of symbolic tensors."""
    specs: list[Spec] = []

    def leaf(value: Any) -> Any:
        if not isinstance(value, symbolic.Symbol):
            return value
        specs.append(value.spec)
        return Out(len(specs) - 1)

    return specs, tree.map_leaves(leaf, result)


@public("keras.Operation")
class Operation(Configurable):
    """A named computation without weights. Subclasses write `call`, and `compute_output_spec` where shapes need help.

    Args:
        name: a name; the class's name in snake case, numbered, unless given.

    >>> class Double(Operation):
    ...     def call(self, x):
    ...         return 2 * x
    >>> Double()(symbolic.SymbolicTensor((None, 3))).shape
    (None, 3)
    """

    _inbound_nodes: Any = ()

    def __init__(self, name: str | None = None) -> None:
        self.name = name or auto_name(snake_case(type(self).__name__))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if symbolic.symbols_in((args, kwargs)):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the result; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no `call` method.")

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic tensors with the shapes and dtypes of the result; by default `call` itself is tried."""
        node = Node("operation", self, self.name, symbolic.to_refs(args), symbolic.to_refs(kwargs))
        return symbolic.record(node, self.call)

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Records the call in the graph and returns what stands for its result."""
        refs, kwrefs = symbolic.to_refs(args), symbolic.to_refs(kwargs)
        node = Node("operation", self, self.name, refs, kwrefs, user_source(), context.implicit)
        node.outputs, node.structure = output_specs(self.compute_output_spec(*args, **kwargs))
        self._inbound_nodes = [*self._inbound_nodes, node]
        return symbolic.emit(node)

    # -- place in a graph

    @property
    def output(self) -> Any:
        """What came out when this was called on symbolic tensors, where that was once."""
        return symbolic.emit(self._only_node("output"))

    @property
    def input(self) -> Any:
        """The symbolic tensors it was called on, where that was once."""
        node = self._only_node("input")
        found = [symbolic.symbol_for(r) for r in node.visible_refs()]
        return found[0] if len(found) == 1 else found

    def _only_node(self, what: str) -> Node:
        nodes = self._inbound_nodes
        if len(nodes) != 1:
            count = "has not been called on a symbolic tensor" if not nodes else f"was called {len(nodes)} times"
            raise AttributeError(f"{type(self).__name__} {self.name!r} {count}, so `{what}` means no single tensor.")
        return nodes[0]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_inbound_nodes"}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "name": self.name} if not is_builtin(type(self)) else super().get_config()


@public("keras.Function")
class Function(Operation):
    """The computation between some symbolic inputs and outputs, as one callable operation.

    Args:
        inputs: nest of symbolic tensors.
        outputs: nest of symbolic tensors that were computed from the inputs.
        name: a name.

    >>> x = symbolic.SymbolicTensor((None, 2))
    >>> Function(x, x * 2)(torch.ones(1, 2)).tolist()
    [[2.0, 2.0]]
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.graph = Graph.trace(inputs, outputs)
        self._inputs, self._outputs = inputs, outputs

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs, flat."""
        return tree.leaves(self._inputs)

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs, flat."""
        return tree.leaves(self._outputs)

    @property
    def operations(self) -> list[Any]:
        """What is called between inputs and outputs, in order: layers, operations, functions."""
        return [node.target for node in self.graph.calls()]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the outputs' shapes for a nest of input shapes."""
        single = isinstance(self._inputs, symbolic.Symbol)
        shapes = [input_shape] if single else [input_shape[k] for k in _places(input_shape)]
        given = [symbolic.SymbolicTensor(s, x.dtype) for s, x in zip(shapes, self.inputs, strict=True)]
        return tree.map_leaves(lambda v: v.shape, self.call(given))

    def call(self, inputs: Any) -> Any:
        """Computes the outputs for the inputs, real or symbolic."""
        flat = tree.leaves(inputs)
        if len(flat) != len(self.graph.inputs):
            raise ValueError(f"Function {self.name!r} takes {len(self.graph.inputs)} input(s). Received: {len(flat)}.")
        return self.graph.replay(flat)

    __call__ = call

    def get_config(self) -> dict[str, Any]:
        """Raises: a Function is part of a model's config."""
        raise NotImplementedError("A Function has no config of its own; make a Model of it.")


def _places(nest: Any) -> Any:
    """Keys of a dict, or indices of a list, in the order of `tree.leaves`."""
    return tree.sorted_keys(nest) if isinstance(nest, dict) else range(len(nest))


import torch  # noqa: E402, F401  (used by the doctest above)
