"""Models that are graphs: what Functional and Sequential share, and Functional itself."""

from __future__ import annotations

import inspect
import types
from inspect import Parameter
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy

from hornbeam.core import calls
from hornbeam.core.errors import describe
from hornbeam.core.layer import Layer
from hornbeam.core.registry import custom_object_scope, public, snake_case
from hornbeam.core.tracking import CONTAINERS, identifier
from hornbeam.core.weights import raw
from hornbeam.graph import symbolic, tree
from hornbeam.graph.errors import boundary, trim
from hornbeam.graph.graph import Graph
from hornbeam.graph.lower import Lowered, failing_call, lower
from hornbeam.graph.node import Held
from hornbeam.graph.verify import verify
from hornbeam.layers.input import InputLayer
from hornbeam.models.config import graph_config, graph_from_config
from hornbeam.models.failures import given_wrongly, note_call
from hornbeam.models.model import Model


class GraphModel(Model):
    """A model that runs from a graph: the graph names children by key, and is lowered to a Python function."""

    _carries_masks = True
    _graph: Graph = None  # type: ignore[assignment]

    # -- taking a graph over

    def _take(self, graph: Graph) -> None:
        """Makes a graph this model's own: its modules become children, its tensors parameters and buffers."""
        d = self.__dict__
        keys = {id(m): k for k, m in self._child_keys()}
        for node in graph.nodes:
            if node.kind == "input" and not isinstance(node.target, InputLayer):
                node.target = InputLayer(batch_shape=node.outputs[0].shape, dtype=node.outputs[0].dtype, name=node.name)
            if node.kind in ("module", "input") and not node.implicit:
                if id(node.target) not in keys:
                    keys[id(node.target)] = self._add_child(node.target)
                node.target = keys[id(node.target)]
                node.name = _display_name(self._child(node.target), node.target)
        self._name_masking(graph)
        _number_functions(graph)
        self._hold_captured(graph)
        d["_graph"], d["_symbols"], d["_masked"] = graph, None, {}
        d["_makes_mask"] = False
        verify(graph)
        self._lower()
        self._mark_built((self._shapes(),))

    def _name_masking(self, graph: Graph) -> None:
        """Names the modules that only mask arithmetic calls: mostly layers inside nested models."""
        nodes = [n for n in graph.calls() if n.kind == "module" and isinstance(n.target, nn.Module)]
        paths = {id(m): path for path, m in self.named_modules()} if nodes else {}
        for node in nodes:
            node.target = paths.get(id(node.target)) or self._add_child(node.target)

    def _child_keys(self) -> list[tuple[str, nn.Module]]:
        """Key and module of every child, those in lists and dicts by their dotted key."""
        return [(k, m) for k, m in self.named_modules() if k and not isinstance(m, CONTAINERS) and _is_child(self, k)]

    def _child(self, key: str) -> Any:
        module: Any = self
        for part in key.split("."):
            module = module._modules[part]
        return module

    def _add_child(self, module: Any) -> str:
        named = getattr(module, "_named", False)
        base = identifier(module.name if named else snake_case(type(module).__name__))
        counts = self.__dict__.setdefault("_key_counts", {})
        count = counts.get(base, 0)
        key = base if not count else f"{base}_{count}"
        while key in self._modules or hasattr(type(self), key) or key in self.__dict__ or key in _RESERVED:
            count += 1
            key = f"{base}_{count}"
        counts[base] = count + 1
        self.add_module(key, module)
        return key

    def _hold_captured(self, graph: Graph) -> None:
        """Registers the real tensors that calls take: parameters as they are, other tensors as buffers outside the state_dict."""
        if not any(isinstance(v, torch.Tensor) for n in graph.calls() for v in tree.leaves((n.args, n.kwargs))):
            return
        known = self._tensor_paths()

        def hold(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) not in known:
                kind = "parameter" if isinstance(value, nn.Parameter) else "constant"
                key = f"{kind}_{sum(k.startswith(kind) for k in (*raw(self, '_parameters'), *raw(self, '_buffers')))}"
                if isinstance(value, nn.Parameter):
                    self.register_parameter(key, value)
                else:
                    self.register_buffer(key, value, persistent=False)
                known[id(value)] = key
            return Held(known[id(value)])

        for node in graph.calls():
            node.args, node.kwargs = tree.map_leaves(hold, node.args), tree.map_leaves(hold, node.kwargs)

    def _held(self, path: str) -> torch.Tensor:
        module, _, key = path.rpartition(".")
        return getattr(self.get_submodule(module), key)

    def _tensor_paths(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for prefix, module in self.named_modules():
            for slot in ("_parameters", "_buffers"):
                for key, value in raw(module, slot).items():
                    found.setdefault(id(value), f"{prefix}.{key}" if prefix else key)
        return found

    def _lower(self) -> None:
        lowered = lower(self._graph, self.name)
        self.__dict__["_lowered"] = lowered
        self.__dict__.pop("forward", None)
        if lowered.forward is not None and getattr(type(self).call, "_runs_graph", False):
            self.__dict__["forward"] = types.MethodType(lowered.forward, self)
        _ = lowered.run  # written now: a compiler could not look at how

    # -- running

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Runs the graph on real inputs, or records it anew on symbolic ones."""
        if mask is not None and not isinstance(mask, Proxy) and any(m is not None for m in tree.leaves(mask)):
            return self._call_masked(inputs, mask)
        return self._lowered.run(self, *self._flatten(inputs))

    call._runs_graph = True  # type: ignore[attr-defined]
    forward = call

    def _flatten(self, inputs: Any) -> list[Any]:
        """The inputs as a flat list in the graph's order, whatever nest of the same size they came in."""
        nest, refs = self._graph.input_nest, self._graph.inputs
        if isinstance(inputs, dict):
            names = self._input_names()
            wanted = list(nest) if isinstance(nest, dict) else names
            missing = [n for n in wanted if n not in inputs]
            if missing and isinstance(nest, dict) and not [n for n in names if n not in inputs]:
                wanted, missing = names, []
            if missing:
                raise ValueError(
                    f"Model {self.name!r} is missing input {missing[0]!r}. It takes: {', '.join(map(repr, wanted))}. "
                    f"Received keys: {', '.join(map(repr, inputs))}."
                )
            flat = (
                tree.leaves({n: inputs[n] for n in wanted})
                if isinstance(nest, dict) and wanted == list(nest)
                else [inputs[n] for n in wanted]
            )
        else:
            flat = [inputs] if isinstance(inputs, torch.Tensor) else tree.leaves(inputs)
            if isinstance(nest, dict) and len(flat) == len(refs) > 1 and list(nest) != tree.sorted_keys(nest):
                raise ValueError(
                    f"Model {self.name!r} takes a dictionary with the keys {', '.join(map(repr, nest))}. Received: a "
                    f"{type(inputs).__name__}, which leaves open what belongs to which key."
                )
        if len(flat) != len(refs):
            raise ValueError(
                f"Model {self.name!r} takes {len(refs)} input(s) ({', '.join(map(repr, self._input_names()))}). "
                f"Received: {len(flat)}{' in a ' + type(inputs).__name__ if not isinstance(inputs, torch.Tensor) else ''}."
            )
        return [self._fitted(x, ref) for x, ref in zip(flat, refs, strict=True)]

    def _fitted(self, x: Any, ref: Any) -> Any:
        """An input as the graph expects it: floating where the Input is, with or without an axis of size 1 at the end."""
        if x is None and not self._child(ref.node.target).optional:
            raise ValueError(f"Model {self.name!r} was given None for its input {ref.node.name!r}, which is not optional.")
        if not isinstance(x, (torch.Tensor, symbolic.Symbol)):
            if isinstance(x, (str, bytes, bool, int, float)):
                raise TypeError(f"Model {self.name!r} takes tensors or arrays. Received for {ref.node.name!r}: {describe(x)}")
            return x
        fitted: Any = x
        shape = ref.spec.shape
        if len(x.shape) == len(shape) + 1 and x.shape[-1] == 1:
            fitted = torch.squeeze(fitted, -1)
        elif len(x.shape) == len(shape) - 1 and shape[-1] == 1:
            fitted = torch.unsqueeze(fitted, -1)
        if isinstance(x, torch.Tensor) and not x.is_floating_point() and ref.spec.dtype.startswith(("float", "bfloat")):
            if x.is_complex():
                raise ValueError(
                    f"Model {self.name!r} takes {ref.spec.dtype} for its input {ref.node.name!r}, for which complex numbers lose "
                    f"their imaginary part. Pass their real part or absolute value, or declare Input(dtype='complex64'). "
                    f"Received: {describe(x)}"
                )
            fitted = fitted.to(self._compute)
        return fitted if fitted is x else calls.keep_mask(fitted, x)

    def _call_masked(self, inputs: Any, mask: Any) -> Any:
        """Runs the variant of the graph in which these inputs carry masks."""
        flat, masks = self._flatten(inputs), tree.leaves(mask)
        pattern = tuple(m is not None for m in masks)
        if pattern not in self._masked:
            self._masked[pattern] = self._lower_masked(pattern, masks)
        return self._masked[pattern].run(self, *flat, *(m for m in masks if m is not None))

    def _explain(self, error: Exception, args: Any) -> Exception:
        for lowered in (self._lowered, *self._masked.values()) if self._graph is not None else ():
            found = failing_call(lowered, error)
            if found is not None:
                note_call(self, error, *found)
                break
        return given_wrongly(self, error, args)

    def _lower_masked(self, pattern: tuple[bool, ...], masks: list[Any]) -> Lowered:
        inputs = self._fresh_symbols()
        carried = []
        for x, present, mask in zip(inputs, pattern, masks, strict=True):
            if present:
                x._keras_mask = symbolic.SymbolicTensor((*x.shape[:1], *mask.shape[1:]), "bool")
                carried.append(x._keras_mask)
        outputs = self._replay(inputs)
        used = Graph.trace([*inputs, *carried], outputs)
        self._name_masking(used)
        self._hold_captured(used)
        return lower(used, self.name + " masked")

    def _fresh_symbols(self) -> list[Any]:
        return [symbolic.SymbolicTensor(r.spec.shape, r.spec.dtype, name=r.node.name) for r in self._graph.inputs]

    def _replay(self, flat: list[Any]) -> Any:
        """Records the graph anew on symbolic inputs, leaving no trace in the layers."""
        children = {n.target: self._child(n.target) for n in self._graph.calls() if n.kind == "module"}
        before = {k: len(c._inbound_nodes) for k, c in children.items() if isinstance(c, Layer)}
        try:
            return self._graph.replay(flat, children.__getitem__, self._held, masks=True)
        finally:
            for key, count in before.items():
                del children[key]._inbound_nodes[count:]

    def compute_output_spec(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic outputs for symbolic inputs: the graph's own where the shapes are the same."""
        flat = self._flatten(inputs)
        own = self._graph.inputs
        if all(
            x.spec == r.spec and (x.spec.samples, x.spec.batches) == (r.spec.samples, r.spec.batches)
            for x, r in zip(flat, own, strict=True)
        ):
            return tree.map_leaves(lambda r: symbolic.symbol_for(r), self._graph.output_nest)
        return self._replay(flat)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the outputs' masks for symbolic inputs; real outputs carry theirs already."""
        if not symbolic.symbols_in(inputs):
            return None
        outputs = self._replay(self._flatten(inputs))
        return calls.masks_of(outputs)

    # -- looking

    @property
    def graph(self) -> Graph | None:  # type: ignore[override]
        """The graph the model runs from; None for a Sequential whose shapes are not known yet."""
        return self._graph

    @property
    def code(self) -> str:
        """The model as the Python function that runs it."""
        return self._lowered.code

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs, flat."""
        return tree.leaves(self._input_output()[0])

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs, flat."""
        return tree.leaves(self._input_output()[1])

    @property
    def input(self) -> Any:
        """The symbolic inputs in their nest."""
        return self._input_output()[0]

    @property
    def output(self) -> Any:
        """The symbolic outputs in their nest."""
        return self._input_output()[1]

    def _known_graph(self) -> Graph:
        """The graph, for who asks about inputs and outputs."""
        return self._graph

    def _input_output(self) -> tuple[Any, Any]:
        self._known_graph()
        if self._symbols is None:
            self.__dict__["_symbols"] = self._link()
        return self._symbols

    def _link(self) -> tuple[Any, Any]:
        """Symbols of a graph that was copied: recorded anew, so that each layer's `output` is known again."""
        flat = [self._child(n.target).output if n.kind == "input" else None for n in self._graph.nodes[: len(self._graph.inputs)]]
        outputs = self._graph.replay(flat, self._child, self._held, masks=True)
        return tree.pack(self._graph.input_nest, flat), outputs

    @property
    def input_shape(self) -> Any:
        """The input's shape with the batch axis, or a nest of shapes."""
        return tree.map_leaves(lambda r: r.spec.shape, self._known_graph().input_nest)

    @property
    def output_shape(self) -> Any:
        """The output's shape with the batch axis, or a nest of shapes."""
        return tree.map_leaves(lambda r: r.spec.shape, self._known_graph().output_nest)

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs."""
        return [r.node.name for r in self._known_graph().inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the calls that make the outputs."""
        return [r.node.name for r in self._known_graph().outputs]

    def _input_names(self) -> list[str]:
        return [r.node.name for r in self._graph.inputs]

    def _shapes(self) -> Any:
        return tree.map_leaves(lambda r: r.spec.shape, self._graph.input_nest)

    @property
    def layers(self) -> list[Any]:
        """The layers in the graph's order, then those that are only attached."""
        called = (n.target for n in self._graph.nodes if n.kind in ("module", "input") and not n.implicit)
        found = {id(m): m for m in map(self._child, called)}
        found.update({id(m): m for m in Model.layers.fget(self)})  # type: ignore[attr-defined]
        return list(found.values())

    @property
    def operations(self) -> list[Any]:
        """What the graph calls: layers and functions, in order."""
        return [self._child(n.target) if n.kind in ("module", "input") else n.target for n in self._known_graph().nodes]

    # -- changed copies, which share the layers

    @boundary
    def insert_after(self, name: str, layer: Any) -> Any:
        """Returns a model in which what `name` gives goes through `layer`: see `editing.insert_after`."""
        return _editing().insert_after(self, name, layer)

    @boundary
    def insert_before(self, name: str, layer: Any) -> Any:
        """Returns a model in which what `name` takes goes through `layer` first: see `editing.insert_before`."""
        return _editing().insert_before(self, name, layer)

    @boundary
    def replace(self, name: str, layer: Any, rebuild: bool = False) -> Any:
        """Returns a model in which `layer` stands in the place of `name`: see `editing.replace`."""
        return _editing().replace(self, name, layer, rebuild)

    @boundary
    def remove(self, name: str) -> Any:
        """Returns a model without a layer: see `editing.remove`."""
        return _editing().remove(self, name)

    @boundary
    def __getitem__(self, index: Any) -> Any:
        """One layer by name, or the model from one call to another, `model["block2":"block5"]`, both of them in it."""
        if isinstance(index, str):
            return self.get_layer(index)
        if not isinstance(index, slice) or index.step is not None or not _are_names(index):
            raise TypeError(f"Model {self.name!r} is indexed by names: model['a'], model['a':'b']. Received: {index!r}")
        from hornbeam.models.slicing import between  # it needs this module

        return between(self, index.start, index.stop)

    # -- copies and attributes

    def __setattr__(self, name: str, value: Any) -> None:
        graph = self.__dict__.get("_graph")
        if graph is not None and isinstance(value, nn.Module) and name not in self._modules:
            key = next((k for k, m in self._modules.items() if m is value), None)
            if key is not None:
                self._rename_child(key, name)
                return
        super().__setattr__(name, value)

    def _rename_child(self, key: str, name: str) -> None:
        self._rekey({id(self._modules[key]): name})

    def _rekey(self, wanted: dict[int, str]) -> None:
        """Holds children under wanted keys, by their ids; what else has such a key moves to a numbered one."""
        moved: dict[str, str] = {}
        taken = {wanted[id(m)] for m in self._modules.values() if id(m) in wanted}
        for key, module in self._modules.items():
            moved[key] = new = wanted.get(id(module), key)
            count = 0
            while id(module) not in wanted and moved[key] in taken:
                count += 1
                moved[key] = f"{new}_{count}"
            taken.add(moved[key])
        entries = [(moved[k], m) for k, m in self._modules.items()]
        self._modules.clear()
        self._modules.update(entries)
        if self._graph is None or all(k == new for k, new in moved.items()):
            return
        place = lambda path: ".".join((moved.get(path.split(".")[0], path.split(".")[0]), *path.split(".")[1:]))  # noqa: E731
        held = lambda v: Held(place(v.path)) if type(v) is Held else v  # noqa: E731
        for node in self._graph.nodes:
            if node.kind in ("module", "input"):
                node.target = place(node.target)
            node.args, node.kwargs = tree.map_leaves(held, node.args), tree.map_leaves(held, node.kwargs)
        self.__dict__["_masked"] = {}
        verify(self._graph)
        self._lower()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_lowered", "forward"):
            state.pop(name, None)
        state.update(_symbols=None, _masked={})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._graph is not None:
            self._lower()


def _editing() -> Any:
    from hornbeam.models import editing  # it needs this module, and is needed only here

    return editing


def _are_names(index: slice) -> bool:
    return all(v is None or isinstance(v, str) for v in (index.start, index.stop))


_RESERVED = frozenset(("training", "built", "name", "dtype", "optimizer", "loss", "stop_training", "history"))


def _is_child(model: nn.Module, key: str) -> bool:
    """Whether a dotted key goes through containers only: a list's or dict's Holder, not another layer."""
    module: Any = model
    for part in key.split(".")[:-1]:
        module = module._modules[part]
        if not isinstance(module, CONTAINERS):
            return False
    return True


def _display_name(module: Any, key: str) -> str:
    return module.name if isinstance(module, Layer) else key


def _number_functions(graph: Graph) -> None:
    """Gives the function calls of a graph names of their own: relu, relu_1, …"""
    counts: dict[str, int] = {}
    taken = {n.name for n in graph.nodes if n.kind != "function"}
    for node in graph.calls():
        if node.kind == "function":
            base, name = node.name, node.name
            while name in taken or name in counts:
                counts[base] = counts.get(base, 0) + 1
                name = f"{base}_{counts[base]}"
            counts.setdefault(name, 0)
            node.name = name


def _check_names(model: Functional, graph: Graph) -> None:
    named: dict[str, Any] = {}
    for node in graph.nodes:
        if isinstance(node.target, Layer) and named.setdefault(node.target.name, node.target) is not node.target:
            raise ValueError(
                f"Model {model.name!r} has two layers named {node.target.name!r}. Give each layer a name of its own."
            )


@public("keras.src.models.functional.Functional")
class Functional(GraphModel):
    """A model made from symbolic inputs and outputs: any graph, several inputs and outputs, shared layers.

    Args:
        inputs: a symbolic tensor, or a list, tuple, dict or nest of them.
        outputs: symbolic tensors computed from the inputs, in any nest.
        name: a name; "functional", numbered, unless given.

    >>> from hornbeam.layers import Dense, Input
    >>> a, b = Input((3,)), Input((3,))
    >>> model = Functional([a, b], torch.relu(Dense(2)(a) - b.mean(1, keepdim=True)))
    >>> model([torch.ones(1, 3), torch.ones(1, 3)]).shape
    torch.Size([1, 2])
    """

    config_exclude = ("inputs", "outputs", *Layer.config_exclude)

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any) -> None:
        trainable = kwargs.pop("trainable", None)
        Layer.__init__(self, name=name, **kwargs)
        try:
            graph = Graph.trace(inputs, outputs)
            _check_names(self, graph)
            self._take(graph)
        except Exception as error:
            trim(error)
            raise
        self.__dict__["_symbols"] = (inputs, outputs)
        self.__dict__["_makes_mask"] = any(getattr(v, "_keras_mask", None) is not None for v in tree.leaves(outputs))
        if trainable is False:
            self.trainable = False

    def get_config(self) -> dict[str, Any]:
        """Returns the model's config in Keras's form; a subclass that is not made from a graph answers with its arguments."""
        return graph_config(self) if takes_graph(type(self)) else super().get_config()

    def get_build_config(self) -> dict[str, Any]:
        """Returns no shape: the graph has them all."""
        return {"input_shape": None}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes a model from what `get_config` returned."""
        if "layers" not in config or "input_layers" not in config:
            return super().from_config(config, custom_objects)
        with custom_object_scope(custom_objects or {}):
            inputs, outputs = graph_from_config(config)
        more = {k: v for k, v in config.items() if k not in _OF_GRAPH}
        made = cls(inputs=inputs, outputs=outputs, name=config.get("name"), **more)
        if not config.get("trainable", True):
            made.trainable = False
        return made


_OF_GRAPH = frozenset(("name", "trainable", "layers", "input_layers", "output_layers", "dtype"))


def takes_graph(cls: type) -> bool:
    """Returns whether a class is made from `inputs` and `outputs`, or hands all its arguments on."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    kinds = {p.kind for p in parameters}
    return {"inputs", "outputs"} <= {p.name for p in parameters} or {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD} <= kinds


def become_functional(cls: type) -> None:
    """Puts Functional in Model's place among the bases of a subclass whose instances are made from inputs and outputs."""
    if issubclass(cls, GraphModel):
        return
    for base in cls.__bases__:
        if base is not Model and issubclass(base, Model):
            become_functional(base)
    if Model in cls.__bases__:
        cls.__bases__ = tuple(Functional if b is Model else b for b in cls.__bases__)
    Layer.__init_subclass__.__func__(cls)  # type: ignore[attr-defined]
