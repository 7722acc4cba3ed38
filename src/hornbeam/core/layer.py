"""Layer: a torch module that builds itself at its first call, knows masks and modes, and records on symbolic tensors.

The way of a call: `__call__` (inputs, mode, masks) → torch's own `_call_impl` (hooks) → `call`, which is also `forward`:
a subclass writes either one. What is not the ordinary case of one tensor on a built layer is in `calls.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from hornbeam.core import calls, card, registry, stateless
from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import unknown_arguments
from hornbeam.core.init_args import is_builtin
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.module import WeightedModule, enclosing, unique
from hornbeam.core.operation import Operation
from hornbeam.core.remat import note_scope
from hornbeam.core.weights import LazyDict
from hornbeam.graph import symbolic, tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.errors import trim
from hornbeam.graph.infer import infer

compiling = torch.compiler.is_compiling
_OLD_ARGUMENTS = (
    "input_shape", "input_dim", "batch_input_shape", "batch_shape", "batch_size", "input_dtype", "weights", "implementation",
)  # fmt: skip


@registry.public("keras.layers.Layer")
class Layer(WeightedModule, Operation):
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
    _carries_masks: bool = False
    _builds_itself: bool = False
    _base_config = ("name", "trainable", "dtype")
    config_exclude: tuple[str, ...] = ("activity_regularizer", "autocast")
    _call_context_args: tuple[str, ...] = ()
    _signature: ClassVar[calls.Signature]
    _makes_mask: ClassVar[bool] = False
    _own_output_spec: ClassVar[bool] = False
    _own_output_shape: ClassVar[bool] = False

    # -- making a layer

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        nn.Module.__init__(self)
        d = self.__dict__
        d["training"] = False
        d["_parameters"], d["_buffers"] = LazyDict(self, "_parameters"), LazyDict(self, "_buffers")
        d.update(_specs={}, _losses=[], _loss_owners=[], _inbound_nodes=[], _metrics=[], _moves=[])
        d.update(_trainable=True, _build_shapes=(), _build_specs=None)
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
            known = dict.fromkeys((*_signature_names(type(self)), "trainable", "dtype", "name"))
            raise unknown_arguments(type(self).__name__, unknown, [k for k in known if k not in _OLD_ARGUMENTS])
        d = self.__dict__
        cls = type(self)
        d["name"] = _checked_name(name, cls) if name is not None else registry.auto_name(registry.snake_case(cls.__name__))
        d["_named"] = name is not None
        if dtype is not None:
            self.dtype_policy = dtype
        if not isinstance(trainable, bool):
            raise ValueError(f"Layer {d['name']!r}: `trainable` is True or False. Received: trainable={trainable!r}")
        d["autocast"] = autocast
        d["_trainable"] = trainable
        d["activity_regularizer"] = (
            None if activity_regularizer is None else registry.of_kind("regularizer").get(activity_regularizer)
        )
        shape = _old_shape(kwargs)
        if shape is not None:
            d["_input_shape_arg"] = shape
        note_scope(self)

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
        if c.depth == 0 and compiling() and not c.scratch and not calls.make_ready(self):
            calls.build_for(self, *args)
        try:
            if self._ready and len(args) == 1 and isinstance(args[0], torch.Tensor) and (not kwargs or _simple(kwargs)):
                x: Any = args[0]
                if x.dtype is not self._compute and self.autocast and x.is_floating_point():
                    x = calls.keep_mask(x.to(self._compute), x)
                    args = (x,)
                if self.input_spec is not None:
                    if type(self.input_spec) is InputSpec:
                        self.input_spec.check(x, self)
                    else:
                        calls.check_inputs(self.input_spec, x, self)
                first_mask = self._signature.first_mask
                mask = getattr(x, "_keras_mask", None)
                if first_mask is not None and mask is not None and kwargs.get(first_mask) is None:
                    kwargs[first_mask] = mask
            elif self._ready and len(args) == 1 and (not kwargs or _simple(kwargs)) and calls.fits(self, args[0]):
                x, mask = args[0], None
                if self.input_spec is not None:
                    calls.check_inputs(self.input_spec, x, self)
            else:
                prepared = calls.prepare(self, args, kwargs)
                if type(prepared) is calls.Recorded:
                    return prepared.result
                args, kwargs = prepared
                x = args[0] if args else None
                mask = calls.masks_of(x)
                c.names = enclosing(self)
        except Exception as error:
            trim(error)
            raise
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
            told = calls.note(self, error, args)
            if told is error:
                raise
            try:
                raise told from None
            except Exception:
                trim(told)
                raise
        finally:
            c.training, c.names = before, names
            c.depth -= 1
            if c.depth == 0:
                c.casts = None
            for module in foreign:
                module.training = not training
        if y is None:
            calls.check_nothing(self)
        if mask is not None or self._makes_mask or self.activity_regularizer is not None:
            calls.finish(self, x, y, kwargs if mask is None else {**kwargs, "mask": mask, signature.first_mask or "mask": mask})
        return y

    def __prepare_scriptable__(self) -> Any:
        """Raises: `torch.jit.script` reads Python source, and there is more to a layer's call than its source."""
        raise TypeError(
            f"torch.jit.script cannot read layer {self.name!r} ({type(self).__name__}). "
            f"torch.jit.trace(model, example) makes a ScriptModule of it; "
            f"torch.export.export(model, (example,)) is its successor."
        )

    def _infer_parameters(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        """Builds the layer before a compiler looks at it; `torch.compile` asks lazy modules for it under this name."""
        calls.build_for(self, *args, **(kwargs or {}))

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; to be overridden, under this name or as `forward`."""
        raise NotImplementedError(f"Layer {self.name!r} ({type(self).__name__}) has no `call` (or `forward`) method.")

    forward = call

    def stateless_call(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
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
        if self.__dict__.get("_runs_to_build"):  # by its own `call`
            return
        if type(self).call is not Layer.call:
            inputs = symbolic.to_refs(_to_symbols(input_shape))
            self.__dict__["_runs_to_build"] = True
            try:
                infer(lambda x: symbolic.look_at(self, (x,), {}), (inputs,), {})
            finally:
                del self.__dict__["_runs_to_build"]
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

    # -- losses, metrics

    def add_loss(self, loss: Any) -> None:
        """Adds a scalar (or a list of them) to the loss of the model around this layer, for the call that is running."""
        if context.scratch or torch.compiler.is_exporting():
            return
        if any(isinstance(v, symbolic.Symbol) for v in tree.leaves(loss)):
            raise ValueError(
                "add_loss takes values computed in a `call`, not symbolic tensors: write a Layer that adds the loss."
            )
        root = context.root
        if root is not None and not any(owner is self for owner in root._loss_owners):
            self._losses.clear()  # of an earlier call, in another model
            root._loss_owners.append(self)
        self._losses.extend(tree.leaves(loss))

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
                weight = module._parameters.get(key) if spec.regularizer is not None else None
                if weight is not None and weight.requires_grad:
                    found[id(weight)] = (weight, spec.regularizer)
        return list(found.values())

    @property
    def metrics(self) -> list[Any]:
        """Metrics assigned to attributes of the layer and its sublayers."""
        return unique(m for module in self.modules() if isinstance(module, Layer) for m in module._metrics)

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of all metrics."""
        return [v for m in self.metrics for v in m.variables]

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

    def _explain(self, error: Exception, args: Any) -> Exception:
        """Adds to an error what the layer knows of its cause; models that run a graph name the user's line."""
        return error

    def _remedy(self, shape: tuple[int | None, ...]) -> str:
        """A hint for an input that does not fit; layers that know better override it."""
        return ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>" if not self._modules else super().__repr__()

    _repr_html_, __rich__ = card.html, card.rich_text

_SIMPLE = frozenset(("training", "mask"))


def _simple(kwargs: dict[str, Any]) -> bool:
    return kwargs.keys() <= _SIMPLE and isinstance(kwargs.get("mask"), (torch.Tensor, type(None)))


def layer_name(model: nn.Module, layer: nn.Module) -> str:
    """Returns a layer's name, for a foreign module the key under which the model holds it."""
    if isinstance(layer, Layer):
        return layer.name
    return next((k for k, m in model.named_modules() if m is layer), type(layer).__name__)


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
        d["_in_build"], d["_path"] = True, "/".join(enclosing(self))
        try:
            with setting(names=enclosing(self)):
                build(self, *args, **kwargs)
        finally:
            del d["_in_build"]
        self._mark_built((*args, *kwargs.values()))

    return once


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


def _same_mode(parent: nn.Module, name: str, child: Any) -> None:
    """A child of the other kind takes its parent's mode, since torch modules start in training and Keras ones in inference.

    Torch's own wrappers (of export, compile, parallelism, averaging) are no parents in that sense: they leave the mode alone.
    """
    home = type(parent).__module__
    if home.startswith("torch.") and not home.startswith("torch.nn.modules."):
        return
    mode = parent.__dict__.get("training")
    if child is not None and mode is not None and isinstance(child, Layer) != isinstance(parent, Layer):
        child.train(mode)
        if isinstance(parent, Layer):
            parent.__dict__["_foreign"] = True


register_module_module_registration_hook(_same_mode)
Layer._signature = calls.signature_of(Layer.call)
