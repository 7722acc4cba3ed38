"""Layer: a torch module that builds itself at its first call, knows masks and modes, and records on symbolic tensors.

The way of a call: `__call__` (inputs, mode, masks) → torch's own `_call_impl` (hooks) → `call`, which is also `forward`:
a subclass writes either one. What is not the ordinary case of one tensor on a built layer is in `calls.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from hornbeam.core import calls, registry, stateless, tracking
from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import unknown_arguments
from hornbeam.core.init_args import is_builtin
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.operation import Operation
from hornbeam.core.random import make_default_seed
from hornbeam.core.weights import LazyDict, Variable, WeightSpec, become, dress, is_lazy, placeholder, raw, settle
from hornbeam.graph import symbolic, tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.infer import infer
from hornbeam.graph.node import Node

_OLD_ARGUMENTS = ("input_shape", "input_dim", "batch_input_shape", "batch_shape", "batch_size", "input_dtype", "weights", "implementation")


@registry.public("keras.layers.Layer")
class Layer(nn.Module, Operation):
    """Base of all layers. Subclasses write `__init__`, `build` (weights) and `call` or `forward` (the computation).

    Args:
        activity_regularizer: penalty on the output, by name or object.
        trainable: whether the weights learn.
        dtype: dtype or policy; the global policy unless given.
        autocast: whether floating inputs are cast to the compute dtype.
        name: a name; the class's name in snake case, numbered, unless given.

    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> Scale()(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    supports_masking: bool = False
    built: bool = False
    _ready: bool = False
    _foreign: bool = False
    _base_config = ("name", "trainable", "dtype")
    config_exclude: tuple[str, ...] = ("activity_regularizer", "autocast")
    _call_context_args: tuple[str, ...] = ()

    # -- making a layer

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        nn.Module.__init__(self)
        d = self.__dict__
        d["training"] = False
        d["_parameters"], d["_buffers"] = LazyDict(self, "_parameters"), LazyDict(self, "_buffers")
        d.update(_specs={}, _losses=[], _loss_owners=[], _inbound_nodes=[], _metrics=[], _moves=[], _trainable=True, _build_shapes=(), _build_specs=None)
        d.update(activity_regularizer=None, input_spec=None, autocast=True, _casts=False, _config=None)
        if not is_builtin(cls):
            d["_init_args"] = (args, kwargs)
        self.dtype_policy = None
        return self

    def __init__(
        self, *, activity_regularizer: Any = None, trainable: bool = True, dtype: Any = None, autocast: bool = True,
        name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        unknown = [k for k in kwargs if k not in _OLD_ARGUMENTS]
        if unknown:
            known = {n: None for n in (*_signature_names(type(self)), "trainable", "dtype", "name")}
            raise unknown_arguments(type(self).__name__, unknown, [k for k in known if k not in _OLD_ARGUMENTS])
        d = self.__dict__
        d["name"] = _checked_name(name, type(self)) if name is not None else registry.auto_name(registry.snake_case(type(self).__name__))
        d["_named"] = name is not None
        if dtype is not None:
            self.dtype_policy = dtype
        d["autocast"] = autocast
        d["_trainable"] = bool(trainable)
        d["activity_regularizer"] = None if activity_regularizer is None else registry.of_kind("regularizer").get(activity_regularizer)
        shape = _old_shape(kwargs)
        if shape is not None:
            d["_input_shape_arg"] = shape

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "call" in own and "forward" not in own:
            cls.forward = own["call"]  # type: ignore[method-assign]
        elif "forward" in own and "call" not in own:
            cls.call = own["forward"]  # type: ignore[method-assign]
        if "build" in own:
            cls.build = _building(own["build"])  # type: ignore[method-assign]
        cls._signature = calls.signature_of(cls.call)
        cls._makes_mask = cls.compute_mask is not Layer.compute_mask
        cls._own_output_spec = cls.compute_output_spec is not Layer.compute_output_spec
        cls._own_output_shape = cls.compute_output_shape is not Layer.compute_output_shape

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        c = context
        names = c.names
        if self._ready and len(args) == 1 and isinstance(args[0], torch.Tensor) and (not kwargs or kwargs.keys() <= _SIMPLE):
            x = args[0]
            if x.dtype is not self._compute and self.autocast and x.is_floating_point():
                x = calls.keep_mask(x.to(self._compute), x)
                args = (x,)
            if self.input_spec is not None:
                self.input_spec.check(x, self) if type(self.input_spec) is InputSpec else calls.check_inputs(self.input_spec, x, self)
            first_mask = self._signature.first_mask
            mask = getattr(x, "_keras_mask", None)
            if first_mask is not None and mask is not None and kwargs.get(first_mask) is None:
                kwargs[first_mask] = mask
        else:
            prepared = calls.prepare(self, args, kwargs)
            if type(prepared) is calls.Recorded:
                return prepared.result
            args, kwargs = prepared
            x = args[0] if args else None
            mask = calls.masks_of(x)
            c.names = _enclosing(self)
        signature = self._signature
        before = c.training
        training = kwargs.pop("training", None)
        if training is None:
            training = before if before is not None else self.training
        if signature.training:
            kwargs["training"] = training
        if mask is None and "mask" in kwargs:
            mask = kwargs["mask"] if signature.first_mask == "mask" else kwargs.pop("mask")
        elif "mask" in kwargs and signature.first_mask != "mask" and "mask" not in signature.keywords:
            kwargs.pop("mask")
        if c.depth == 0:
            self._clear_losses()
            c.root = self
        foreign = calls.set_foreign(self, bool(training)) if self._foreign else ()
        c.training = training
        c.depth += 1
        try:
            y = self._wrapped_call_impl(*args, **kwargs)
        except Exception as error:
            calls.note(self, error, args)
            raise
        finally:
            c.training, c.names = before, names
            c.depth -= 1
            if c.depth == 0:
                c.casts = None
            for module in foreign:
                module.training = not training
        if mask is not None or self._makes_mask or self.activity_regularizer is not None:
            calls.finish(self, x, y, kwargs if mask is None else {**kwargs, "mask": mask, signature.first_mask: mask})
        return y

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; to be overridden, under this name or as `forward`."""
        raise NotImplementedError(f"Layer {self.name!r} ({type(self).__name__}) has no `call` (or `forward`) method.")

    forward = call

    def stateless_call(
        self, trainable_variables: Sequence[Any], non_trainable_variables: Sequence[Any], *args: Any, return_losses: bool = False, **kwargs: Any
    ) -> Any:
        """Calls the layer with given values for its variables, without changing them.

        Returns:
            (outputs, non_trainable_variables), and the losses as a third where `return_losses` is set.
        """
        return stateless.stateless_call(self, trainable_variables, non_trainable_variables, args, kwargs, return_losses)

    # -- building

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs of a shape; to be overridden. A composite layer is run once on an empty batch.

        Args:
            input_shape: shape of the first input with the batch axis, None where an axis varies; or a nest of shapes.
        """
        if type(self).call is not Layer.call:
            inputs = symbolic.to_refs(_to_symbols(input_shape))
            infer(lambda x: symbolic.look_at(self, (x,), {}), (inputs,), {})
            self.__dict__["_build_specs"] = (tree.map_leaves(lambda r: r.spec, inputs),)
        self._mark_built((input_shape,))

    build._by_running = True  # type: ignore[attr-defined]

    def _mark_built(self, shapes: tuple[Any, ...]) -> None:
        self.__dict__["built"] = True
        if not self._build_shapes:
            self.__dict__["_build_shapes"] = shapes[0] if len(shapes) == 1 else shapes

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shapes the layer was built for, for `build_from_config`; None where it was not built."""
        return {"input_shape": self._build_shapes} if self.built and self._build_shapes else None

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer for the shapes that `get_build_config` returned."""
        if config.get("input_shape") is not None:
            self.build(tree_of_shapes(config["input_shape"]))

    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
        storage: tuple[int, ...] | None = None,
    ) -> Variable:
        """Adds a weight: a parameter, or a buffer where it is not trainable. It takes no memory before it is used.

        Args:
            shape: tuple of integers; () unless given.
            initializer: name, object or callable `f(shape, dtype)`; Glorot uniform for floats, zeros for other dtypes.
            dtype: dtype; the layer's variable dtype unless given.
            trainable: whether gradients are taken.
            autocast: whether it is cast to the compute dtype inside calls.
            regularizer, constraint: by name or object.
            name: its name; also its key in `state_dict` until it is assigned to an attribute.
            storage: order of its axes in memory, where a kernel wants another than the logical one.

        Returns:
            the weight.
        """
        if isinstance(shape, str):
            shape, name = (initializer if initializer is not None else ()), shape
            initializer = None
        spec = self._weight_spec(shape, initializer, dtype, name)
        spec.regularizer = registry.of_kind("regularizer").get(regularizer)
        spec.constraint = registry.of_kind("constraint").get(constraint)
        spec.autocast, spec.storage = autocast, storage
        slot = "_parameters" if trainable and spec.dtype.is_floating_point else "_buffers"
        held = self.__dict__[slot]
        existing = dict.get(held, spec.key)
        if existing is not None and is_lazy(existing):
            weight = become(existing, placeholder(spec, self._trainable), self._moves)
        elif existing is not None and spec.key not in self._specs and tuple(existing.shape) == tuple(spec.shape):
            weight = settle(existing, spec, self._trainable)
            dict.__setitem__(held, spec.key, weight)
        else:
            weight = placeholder(spec, trainable and self._trainable and slot == "_parameters")
            held = self._lazy_slot(slot)
            while spec.key in held or spec.key in self._specs:
                spec.key += "_"
            dict.__setitem__(held, spec.key, weight)
        self._specs[spec.key] = spec
        self.__dict__["_ready"] = False
        return weight

    def _weight_spec(self, shape: Any, initializer: Any, dtype: Any, name: str | None) -> WeightSpec:
        kind = dtypes.to_torch(dtype if dtype is not None else self.variable_dtype)
        if initializer is None:
            initializer = "glorot_uniform" if kind.is_floating_point else "zeros"
        made = registry.of_kind("initializer").get(initializer) if isinstance(initializer, (str, dict, type)) else initializer
        seed = None
        if callable(made) and not is_builtin(type(made)):
            seed = make_default_seed()
        elif hasattr(getattr(made, "seed", None), "next"):
            made = type(made).from_config({**made.get_config(), "seed": made.seed.next()})
        shape = tuple(int(d) for d in shape) if shape is not None and not isinstance(shape, int) else () if shape is None else (shape,)
        if any(d < 0 for d in shape):
            raise ValueError(f"Weight {name!r} of layer {self.name!r} cannot have shape {shape}.")
        name = name or f"variable_{len(self._specs)}" if len(self._specs) else name or "variable"
        device = torch.get_default_device()
        path = "/".join((*_enclosing(self), name))
        return WeightSpec(key=tracking.identifier(name), name=name, path=path, shape=shape, dtype=kind, initializer=made, seed=seed,
                          device=None if device.type in ("cpu", "meta") else device)  # fmt: skip

    def _lazy_slot(self, slot: str) -> Any:
        held = self.__dict__[slot]
        if type(held) is not LazyDict:
            lazy = LazyDict(self, slot)
            for k, v in held.items():
                dict.__setitem__(lazy, k, v)
            self.__dict__[slot] = held = lazy
        return held

    def _declared_weights(self) -> tuple[str, ...]:
        """Names of the weights that `build` will add: an optimizer made before it can hold them already."""
        return ()

    def reset_parameters(self) -> None:
        """Writes initial values into the weights, on whatever device they are."""
        for slot in ("_parameters", "_buffers"):
            for key, weight in self.__dict__[slot].items():
                spec = self._specs.get(key)
                if spec is not None:
                    with torch.no_grad():
                        weight.copy_(spec.make())

    # -- attributes

    def __getattr__(self, name: str) -> Any:
        d = self.__dict__
        held = d["_parameters"]
        weight = held.get(name) if name in held else None
        if weight is not None:
            if type(weight) is not Variable:
                weight = dress(weight, d["_specs"].get(name))
            if d["_casts"] and context.depth and not is_lazy(weight):
                return self._cast(name, weight)
            return weight
        if name in d["_buffers"]:
            weight = d["_buffers"][name]
            return weight if weight is None or type(weight) is Variable else dress(weight, d["_specs"].get(name))
        if name in d["_modules"]:
            return d["_modules"][name]
        if name in held:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _cast(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """The weight in the compute dtype, cast once in each outermost call."""
        spec = self._specs.get(name)
        if not weight.is_floating_point() or (spec is not None and not spec.autocast) or weight.dtype is self._compute:
            return weight
        if torch.compiler.is_compiling():
            return weight.to(self._compute)
        if context.casts is None:
            context.casts = {}
        key = (id(self), name)
        cast = context.casts.get(key)
        if cast is None:
            cast = context.casts[key] = weight.to(self._compute)
            cast.assign = getattr(weight, "assign", None)  # type: ignore[attr-defined]
        return cast

    def __setattr__(self, name: str, value: Any) -> None:
        d = self.__dict__
        if isinstance(value, torch.Tensor) or (value is None and (name in d["_parameters"] or name in d["_buffers"])):
            for slot in ("_parameters", "_buffers"):
                if name in d[slot]:
                    d.pop(name, None)
                    dict.__setitem__(d[slot], name, value)
                    return
            if isinstance(value, Variable) and self._adopt(name, value):
                return
        elif isinstance(value, (list, tuple, dict)) and name not in _INTERNAL:
            value = self._container(name, value)
        elif hasattr(value, "update_state") and hasattr(value, "reset_state"):
            self._metrics.append(value)
        if isinstance(value, nn.Module):
            d.pop(name, None)
        elif name in d["_modules"] and value is not None:
            del d["_modules"][name]
        if name == "call" and callable(value):
            d["forward"] = value
        super().__setattr__(name, value)

    def _adopt(self, name: str, value: Variable) -> bool:
        """Registers a weight under the attribute's name: one of this layer's own, or a Variable made by itself."""
        key = value._spec.key if value._spec is not None else None
        for slot in ("_parameters", "_buffers"):
            held = self.__dict__[slot]
            if key is not None and dict.get(held, key) is value:
                if key != name and not self.__dict__.get("_assigned", {}).get(key):
                    entries = {name if k == key else k: v for k, v in dict.items(held)}
                    dict.clear(held)
                    dict.update(held, entries)
                    self._specs[name] = self._specs.pop(key)
                    self._specs[name].key = name
                elif key != name:
                    return False
                self.__dict__.setdefault("_assigned", {})[name] = True
                return True
        if type(value) is Variable and not value.requires_grad and self._trainable:
            self.register_buffer(name, value)
            self._specs.setdefault(name, value._spec)
            return True
        if type(value) is Variable:
            self._specs.setdefault(name, value._spec)
        return False

    def _container(self, name: str, value: Any) -> Any:
        """What stands on the attribute for a list, tuple or dict: a module where it holds nothing but layers."""
        made = tracking.as_module(value) if tracking.holds_modules(value) else None
        if made is not None:
            return made
        self._modules.pop(f"{name}_", None)
        if tracking.holds_modules(value):
            self.add_module(f"{name}_", tracking.hold(value))
        return tracking.track(value, lambda: setattr(self, name, list(self.__dict__[name]) if isinstance(value, list) else dict(self.__dict__[name])))

    def __delattr__(self, name: str) -> None:
        self._modules.pop(f"{name}_", None) if name in self.__dict__ else None
        self._specs.pop(name, None)
        super().__delattr__(name)

    # -- what torch does to modules

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        if not self.built:
            self._moves.append(fn)
        super()._apply(fn if self.built else functools.partial(_move_known, fn), recurse)
        moved = fn(torch.empty(0, dtype=dtypes.to_torch(self.variable_dtype)))
        if moved.is_floating_point() and moved.dtype is not dtypes.to_torch(self.variable_dtype):
            self.dtype_policy = dtypes.standardize_dtype(moved.dtype)
        self._settle()
        return self

    def _settle(self) -> None:
        for slot in ("_parameters", "_buffers"):
            held = self.__dict__[slot]
            if type(held) is dict:
                for key, weight in held.items():
                    if weight is not None and type(weight) is not Variable:
                        held[key] = settle(weight, self._specs.get(key), False if slot == "_buffers" else None)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if not self.built:
            for key, weight in self._parameters.items():
                if weight is not None and not is_lazy(weight):
                    destination[prefix + key] = weight if keep_vars else weight.detach()
            return
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if not self.built:
            for key in self._declared_weights():
                waiting, given = self._parameters.get(key), state_dict.get(prefix + key)
                if given is not None and is_lazy(waiting):
                    waiting.materialize(given.shape, dtype=given.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._settle()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.update(_inbound_nodes=[], _loss_owners=[], _losses=[])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._settle()

    def extra_repr(self) -> str:
        """Returns what `print(model)` shows in a layer's brackets."""
        return f"name={self.name}, built={self.built}"

    # -- weights

    @property
    def weights(self) -> list[Any]:
        """All weights of the layer and its sublayers; trainable ones of each layer before the others."""
        return _unique(_walk(self, lambda m: (*m._parameters.values(), *_named_buffers(m))))

    variables = weights

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that learn."""
        return [w for w in _unique(_walk(self, lambda m: m._parameters.values())) if w.requires_grad]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The weights that do not learn: frozen ones, moving statistics."""
        learning = {id(w) for w in self.trainable_weights}
        return [w for w in self.weights if id(w) not in learning]

    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether the weights learn. Setting it sets it for every sublayer too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for module in self.modules():
            if isinstance(module, Layer):
                module.__dict__["_trainable"] = bool(value)
            for weight in raw(module, "_parameters").values():
                if weight is not None and (weight.is_floating_point() or is_lazy(weight)):
                    weight.requires_grad_(bool(value))

    def get_weights(self) -> list[Any]:
        """Returns the weights' values as a list of NumPy arrays, in the order of `weights`."""
        from hornbeam.core.weights import to_numpy

        return [to_numpy(w) for w in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the weights' values from a list of arrays, in the order of `weights`; all are checked before one is written."""
        own = self.weights
        if len(own) != len(weights):
            raise ValueError(f"set_weights of {self.name!r} needs {len(own)} arrays, one per weight. Received: {len(weights)}.")
        given = [torch.as_tensor(v) for v in weights]
        wrong = [f"{getattr(w, 'path', i)}: {tuple(w.shape)}, given {tuple(v.shape)}" for i, (w, v) in enumerate(zip(own, given, strict=True)) if w.shape != v.shape]
        if wrong:
            raise ValueError(f"set_weights of {self.name!r}: shapes differ. " + "; ".join(wrong))
        with torch.no_grad():
            for w, v in zip(own, given, strict=True):
                w.copy_(v)

    def count_params(self) -> int:
        """Returns the number of numbers in all weights, without making them."""
        seen: dict[int, int] = {}
        for module in self.modules():
            for slot in ("_parameters", "_buffers"):
                for key, weight in raw(module, slot).items():
                    if weight is not None and not is_lazy(weight) and (slot == "_parameters" or not hasattr(module, "_specs") or key in module._specs):
                        seen[id(weight)] = weight.numel()
        return sum(seen.values())

    @property
    def path(self) -> str:
        """The names of the layers around it and its own, joined by "/"."""
        return self.__dict__.get("_path") or self.name

    # -- losses, metrics

    def add_loss(self, loss: Any) -> None:
        """Adds a scalar (or a list of them) to the loss of the model around this layer, for the call that is running."""
        if context.scratch:
            return
        if any(isinstance(v, symbolic.Symbol) for v in tree.leaves(loss)):
            raise ValueError("add_loss takes values computed in a `call`, not symbolic tensors: write a Layer that adds the loss.")
        self._losses.extend(tree.leaves(loss))
        if context.root is not None:
            context.root._loss_owners.append(self)

    def _clear_losses(self) -> None:
        owners = self._loss_owners
        if owners or self._losses:
            for owner in owners:
                owner._losses.clear()
            owners.clear()
            self._losses.clear()

    @property
    def losses(self) -> list[torch.Tensor]:
        """Losses added in the last call, and penalties on the weights."""
        found: list[torch.Tensor] = []
        for module in self.modules():
            if isinstance(module, Layer):
                found.extend(module._losses)
        for weight, regularizer in self._penalties():
            found.append(regularizer(weight))
        return found

    def _penalties(self) -> list[tuple[torch.Tensor, Any]]:
        found = {}
        for module in self.modules():
            for key, spec in module._specs.items() if isinstance(module, Layer) else ():
                weight = module._parameters.get(key)
                if spec.regularizer is not None and weight is not None and weight.requires_grad:
                    found[id(weight)] = (weight, spec.regularizer)
        return list(found.values())

    @property
    def metrics(self) -> list[Any]:
        """Metrics assigned to attributes of the layer and its sublayers."""
        return _unique(m for module in self.modules() if isinstance(module, Layer) for m in module._metrics)

    # -- dtypes

    @property
    def dtype_policy(self) -> dtypes.DTypePolicy:
        """The policy in force."""
        return self._policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        d = self.__dict__
        d["_policy"] = dtypes.get_policy(value)
        d["_compute"] = dtypes._TORCH.get(d["_policy"].compute_dtype, torch.float32)
        d["_casts"] = d["_policy"].compute_dtype != d["_policy"].variable_dtype

    @property
    def dtype(self) -> str:
        """The weights' dtype as a string."""
        return self._policy.variable_dtype

    variable_dtype = dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype of inputs and outputs as a string."""
        return self._policy.compute_dtype

    @property
    def input_dtype(self) -> str:
        """The dtype inputs are cast to."""
        return self._policy.compute_dtype

    # -- shapes and masks

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the output's shape for input shapes with the batch axis; by default the call is looked at."""
        shapes = args or tuple(kwargs.values())
        result = self.compute_output_spec(*[_to_symbols(s, self.compute_dtype) for s in shapes])
        return tree.map_leaves(lambda v: v.shape if isinstance(v, symbolic.Symbol) else v, result)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic tensors with the output's shapes and dtypes for symbolic inputs."""
        before = len(self._inbound_nodes)
        result = self(*args, **kwargs)
        del self._inbound_nodes[before:]
        return result

    def _output_dtype(self, inputs: Any) -> str:
        """The dtype of outputs whose shapes come from `compute_output_shape`."""
        return self.compute_dtype

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the output's mask: the one that came in."""
        return previous_mask

    # -- place in a graph

    @property
    def output(self) -> Any:
        """What the layer returned when it was called on symbolic tensors, where that was once."""
        return symbolic.emit(self._only_node("output"))

    @property
    def input(self) -> Any:
        """The symbolic tensors the layer was called on, where that was once."""
        node = self._only_node("input")
        found = [symbolic.symbol_for(r) for r in node.visible_refs()]
        return found[0] if len(found) == 1 else found

    def _only_node(self, what: str) -> Node:
        nodes = self._inbound_nodes
        if len(nodes) != 1:
            count = "has not been called on a symbolic tensor" if not nodes else f"was called {len(nodes)} times"
            raise AttributeError(f"Layer {self.name!r} {count}, so `{what}` means no single tensor.")
        return nodes[0]

    # -- configs

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as they are now, in JSON's terms."""
        config = super().get_config()
        if self.activity_regularizer is not None and "activity_regularizer" not in config:
            config["activity_regularizer"] = registry.serialize_keras_object(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes a layer from what `get_config` returned."""
        made = super().from_config(config)
        if isinstance(made, Layer) and _is_automatic(made):
            made.__dict__["_named"] = False
        return made

    def _config_value(self, name: str) -> Any:
        if name == "dtype":
            return registry.serialize_keras_object(self.dtype_policy)
        return super()._config_value(name)

    def _remedy(self, shape: tuple[int | None, ...]) -> str:
        """A hint for an input that does not fit; layers that know better override it."""
        return ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>" if not self._modules else super().__repr__()


_SIMPLE = frozenset(("training", "mask"))
_INTERNAL = frozenset(("_losses", "_metrics", "_inbound_nodes", "_specs", "_moves", "_loss_owners", "_build_shapes", "_init_args"))


def tree_of_shapes(value: Any) -> Any:
    """Returns a nest of shapes with tuples where JSON had lists."""
    if isinstance(value, (list, tuple)) and all(d is None or isinstance(d, int) for d in value):
        return tuple(value)
    if isinstance(value, dict):
        return {k: tree_of_shapes(v) for k, v in value.items()}
    return [tree_of_shapes(v) for v in value]


def _to_symbols(shape: Any, dtype: str = "float32") -> Any:
    if isinstance(shape, symbolic.Symbol):
        return shape
    if hasattr(shape, "shape") and not isinstance(shape, (tuple, list)):
        return symbolic.SymbolicTensor(shape.shape, dtypes.standardize_dtype(getattr(shape, "dtype", dtype)))
    shape = tree_of_shapes(shape) if isinstance(shape, (list, tuple, dict)) else shape
    if isinstance(shape, dict):
        return {k: _to_symbols(v, dtype) for k, v in shape.items()}
    return symbolic.SymbolicTensor(shape, dtype) if isinstance(shape, tuple) else [_to_symbols(v, dtype) for v in shape]


def _building(build: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a class's `build`: name scope, the mark that it is done, the shapes it was done for."""

    @functools.wraps(build)
    def once(self: Layer, *args: Any, **kwargs: Any) -> Any:
        d = self.__dict__
        if d.get("_in_build"):
            return build(self, *args, **kwargs)
        d["_in_build"], d["_path"] = True, "/".join(_enclosing(self))
        try:
            with setting(names=_enclosing(self)):
                build(self, *args, **kwargs)
        finally:
            del d["_in_build"]
        self._mark_built((*args, *kwargs.values()))

    return once


def _move_known(fn: Callable[[Any], Any], value: Any) -> Any:
    """Applies a move to a value; an unbuilt one, of which torch cannot ask the rank, stays until it is built."""
    try:
        return fn(value)
    except ValueError:
        if is_lazy(value):
            return value
        raise


def _enclosing(layer: Layer) -> tuple[str, ...]:
    names = context.names
    return names if names and names[-1] == layer.name else (*names, layer.name)


def _checked_name(name: Any, cls: type) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{cls.__name__}: `name` must be a string. Received: name={name!r} ({type(name).__name__})")
    if "/" in name:
        raise ValueError(f"{cls.__name__}: a name cannot hold '/', which separates layers in paths. Received: name={name!r}")
    return name


def _is_automatic(layer: Layer) -> bool:
    """Whether a layer's name is one that `auto_name` makes, so that its key in a model is numbered there."""
    base, _, number = layer.name.rpartition("_")
    return registry.snake_case(type(layer).__name__) in (layer.name, base if number.isdigit() else layer.name)


def _old_shape(kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """The batch shape that Keras's older spellings (`input_shape=`, `input_dim=`, …) ask for."""
    if kwargs.get("batch_input_shape") is not None or kwargs.get("batch_shape") is not None:
        return tuple(kwargs.get("batch_input_shape") or kwargs["batch_shape"])
    shape = kwargs.get("input_shape")
    if shape is None and kwargs.get("input_dim") is not None:
        shape = (kwargs["input_dim"],)
    if shape is None:
        return None
    if isinstance(shape, int):
        raise ValueError(f"`input_shape` is a tuple without the batch axis, such as ({shape},). Received: {shape}")
    return (kwargs.get("batch_size"), *shape)


def _signature_names(cls: type) -> tuple[str, ...]:
    from hornbeam.core.init_args import signature_names

    return signature_names(cls)


def _walk(layer: nn.Module, get: Callable[[Any], Any]) -> Any:
    for module in layer.modules():
        yield from get(module)


def _named_buffers(module: nn.Module) -> Any:
    specs = getattr(module, "_specs", None)
    return (b for k, b in module._buffers.items() if specs is None or k in specs)


def _unique(values: Any) -> list[Any]:
    return list({id(v): v for v in values if v is not None and not (isinstance(v, torch.Tensor) and is_lazy(v))}.values())


def _same_mode(parent: nn.Module, name: str, child: Any) -> None:
    """A child of the other kind takes its parent's mode, since torch modules start in training and Keras ones in inference."""
    mode = parent.__dict__.get("training")  # a wrapper such as a compiled module has no mode of its own
    if child is not None and mode is not None and isinstance(child, Layer) != isinstance(parent, Layer):
        child.train(mode)
        if isinstance(parent, Layer):
            parent.__dict__["_foreign"] = True


register_module_module_registration_hook(_same_mode)
Layer._signature = calls.signature_of(Layer.call)
Layer._makes_mask = Layer._own_output_spec = Layer._own_output_shape = False
