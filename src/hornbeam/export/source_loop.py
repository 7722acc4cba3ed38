"""The training loop that `fit` ran, for an ejected model: optimizer, loss, metrics, schedule, clipping, weights of samples."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from hornbeam.core.layer import Layer
from hornbeam.export import plain_optimizers
from hornbeam.export.body import nest_code
from hornbeam.export.code import Var, without_dead
from hornbeam.export.file import File
from hornbeam.export.layout import wrapped
from hornbeam.export.naming import identifier, literal
from hornbeam.export.own import CannotWrite
from hornbeam.export.parts import View, title
from hornbeam.export.scope import name_values, text, written
from hornbeam.export.source_torch import Writer
from hornbeam.export.tensors import shortest
from hornbeam.export.torch_body import TorchBody
from hornbeam.export.tracing import trace
from hornbeam.graph import tree
from hornbeam.graph.node import Ref, Spec
from hornbeam.losses.loss import LossFunctionWrapper
from hornbeam.metrics.reduction import MeanMetricWrapper
from hornbeam.training.outputs import CompileMetrics
from hornbeam.training.torch_objects import TorchLoss, classes_second


class _Function(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.__dict__["_function"] = function

    def forward(self, *args: Any) -> Any:
        return self.__dict__["_function"](*args)


class Loop:
    """Writes the loop for a compiled model.

    Args:
        file: the ejected file.
        writer: what wrote it.
        view: the model.
    """

    def __init__(self, file: File, writer: Writer, view: View) -> None:
        self.file, self.writer, self.view, self.model = file, writer, view, view.module
        self.left_out: list[str] = []
        self.helpers: dict[str, None] = {}  # functions that bring targets into shape

    def write(self) -> None:
        """Adds the functions of the loop to the file.

        Raises:
            ValueError: the model was not compiled, or trains in a way that has no source.
        """
        model = self.model
        if not getattr(model, "compiled", False) or model._compile_loss is None:
            way = "" if isinstance(model, Layer) else (
                " What `hornbeam.fit` trains a plain module with is not kept: train it as `hornbeam.models.TorchModel(module)`, "
                "whose `to_source` writes the loop."
            )
            raise ValueError(f"to_source(training=True) needs a model compiled with a loss. {title(model)} was not.{way}")
        try:
            losses = self._losses()
            metrics = self._metrics()
            penalty = self._penalty()
            optimizer = self._optimizer(model.optimizer)
            rate = self._rate(model.optimizer)
        except CannotWrite as error:
            raise ValueError(f"to_source(training=True) cannot write how {title(model)} is trained: {error}.") from None
        self.file.objects.need("torch")
        self.file.definitions.append(self._train(losses, metrics, penalty, optimizer, rate))

    # -- functions

    def _function(self, name: str, function: Any, specs: list[Spec], names: list[str]) -> str:
        """Adds a function of tensors, traced, and returns its name."""
        graph = self.writer.note(trace(_Function(function), tuple(specs), {}, modes=False))
        body = TorchBody(self.file.objects, View(_Function(function), graph), {})
        nodes = list(graph.calls())
        body.count(nodes, graph.outputs)
        for node in nodes:
            body.add(node)
        result = nest_code(graph.output_nest, body.take)
        results = [p for p in result if type(p) is Var]
        lines = without_dead(body.lines, results)
        if lines and len(result) == 1 and lines[-1].outs == [result[0]]:
            result = lines.pop().right
            results = [p for p in result if type(p) is Var]
        named = {Var(r): n for r, n in zip(graph.inputs, names, strict=True)}
        name_values(lines, named, results, set())
        name = self.file.names.take(name)
        inner = [wrapped(f"    return {text(result, named)}")]
        self.file.definitions.append("\n".join([f"def {name}({', '.join(names)}):", *written(lines, named, 1), *inner]))
        return name

    def _outputs(self) -> list[Spec]:
        return [r.spec for r in self.view.graph.outputs]

    def _measure(self, name: str, thing: Any, function: Any, spec: Spec) -> tuple[str, str]:
        """Adds the function that a loss or a metric is, and returns its name, and how targets are brought into shape for it."""
        numbers = Spec(spec.shape[:-1], "int64")
        tried = [("class_numbers", numbers)] if _is_sparse(thing) else [("like", Spec(spec.shape, "float32"))]
        if type(thing).__module__.partition(".")[0] != "hornbeam" or type(thing) is LossFunctionWrapper:
            tried.append(("class_numbers", numbers))
        for helper, target in tried:
            try:
                made = self._function(name, _without_mask(function, thing), [target, spec], ["target", "prediction"])
            except CannotWrite:
                raise
            except Exception as error:
                failed = error
                continue
            self.helpers[helper] = None
            return made, helper
        called = getattr(thing, "name", type(thing).__name__)
        raise CannotWrite(f"{called!r} does not run on such targets ({str(failed).splitlines()[0] if str(failed) else failed!r})")

    def _losses(self) -> list[tuple[int, tuple[str, str], float | None]]:
        """Output, its loss function and how targets are shaped for it, factor."""
        compiled = self.model._compile_loss
        if compiled._parts is None and compiled._single is None:
            raise CannotWrite("which loss belongs to which output is decided at its first training step; call `fit` before")
        parts = [(0, compiled._single, None)] if compiled._single is not None else compiled._parts
        outputs = self._outputs()
        return [(i, self._loss(loss, outputs[i], i, len(parts)), factor) for i, loss, factor in parts]

    def _loss(self, loss: Any, spec: Spec, index: int, count: int) -> tuple[str, str]:
        name = "sample_losses" if count == 1 else f"sample_losses_{index + 1}"
        if getattr(loss, "reduction", None) not in ("sum_over_batch_size", "mean", "mean_with_sample_weight"):
            raise CannotWrite(f"its loss {getattr(loss, 'name', loss)!r} has reduction={getattr(loss, 'reduction', None)!r}")
        if loss.reduction == "mean_with_sample_weight":
            self.left_out.append(f"the loss {loss.name!r} divides by the sum of samples' weights, this loop by their number")
        if isinstance(loss, TorchLoss):
            return self._measure(name, loss, self._torch_loss(loss), spec)
        if not hasattr(loss, "call"):
            raise CannotWrite(f"its loss {loss!r} has no `call`")
        keep = loss._keeps_integers
        return self._measure(name, loss, lambda y, p: loss.call(loss._convert(y, keep), loss._convert(p, False)), spec)

    def _torch_loss(self, loss: Any) -> Any:
        """The values of single samples of a loss of torch."""
        if getattr(loss.loss, "weight", None) is not None or loss._each is None:
            raise CannotWrite(f"its loss {loss.name} weighs classes, or returns one number for a batch")
        if loss._by_class:
            ignored = getattr(loss.loss, "ignore_index", -100)
            self.left_out.append(f"targets of {ignored}, which {loss.name} passes over, count as losses of 0 in the mean")
        each = getattr(loss._each, "forward", loss._each)  # a module's own call would be one call of a module
        return (lambda y, p: each(*classes_second(y, p)[::-1])) if loss._by_class else (lambda y, p: each(p, y))

    def _metrics(self) -> list[tuple[int, str, tuple[str, str]]]:
        """Output, title, function of each metric that is a mean over samples; the others are left out."""
        made: list[tuple[int, str, tuple[str, str]]] = []
        outputs = self._outputs()
        for i, metric, shown, weighted in self._metric_parts():
            own = isinstance(metric, MeanMetricWrapper) and all(
                getattr(type(metric), n) is getattr(MeanMetricWrapper, n) for n in ("update_state", "tally", "result")
            )
            if not own or weighted:
                self.left_out.append(f"the metric {shown}, which is no plain mean over samples")
                continue
            try:
                made.append((i, shown, self._measure(f"{identifier(shown)}_of", metric, metric._values, outputs[i])))
            except CannotWrite as error:
                self.left_out.append(f"the metric {shown}: {error}")
        return made

    def _metric_parts(self) -> Any:
        """The model's metrics; before the first training step, as that would make them."""
        compiled = self.model._compile_metrics
        if compiled is None or compiled._parts is not None or not (compiled.given or compiled.weighted):
            return (compiled._parts or ()) if compiled is not None else ()
        spec, loss = self._outputs()[0], self.model._compile_loss._single
        shape = [2 if d is None else d for d in spec.shape]
        fresh = CompileMetrics(compiled.given, compiled.weighted, compiled.known)
        try:
            fresh.build(torch.zeros(shape[:-1] if _is_sparse(loss) else shape), torch.zeros(shape))
        except Exception:
            self.left_out.append("metrics, which are made at the first training step; call `fit` before")
        return fresh._parts or ()

    def _penalty(self) -> list[str]:
        """Expressions of the penalties on weights."""
        made = []
        for path, module in self.model.named_modules():
            if not isinstance(module, Layer):
                continue
            if module.activity_regularizer is not None:
                self.left_out.append("penalties on activity (activity_regularizer)")
            for key, spec in module._specs.items():
                weight = module._parameters.get(key) if spec.regularizer is not None else None
                if weight is not None and weight.requires_grad:
                    name = self._function("penalty", spec.regularizer, [Spec(tuple(weight.shape), "float32")], ["weight"])
                    where = f"{path}.{key}" if path else key
                    made.append(f"{name}(model.get_parameter({literal(where)}))")
                if spec.constraint is not None:
                    self.left_out.append("constraints on weights")
            if _adds_losses(module):
                self.left_out.append(f"what {path or title(module)} adds to the loss when it is called (add_loss)")
        if self._is_masked():
            self.left_out.append("masks: places that the model's mask leaves out of the loss and the metrics count here")
        return made

    def _is_masked(self) -> bool:
        """Whether outputs carry a mask, as far as that is known."""
        if self.view.own:
            return any(getattr(v, "_keras_mask", None) is not None for v in tree.leaves(self.model.outputs))
        return any(type(m).__name__ == "Masking" or getattr(m, "mask_zero", False) for m in self.model.modules())

    # -- optimizer

    def _optimizer(self, optimizer: Any) -> str:
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if inner is not optimizer:
            self.left_out.append("scaling of the loss for float16")
        if isinstance(inner, torch.optim.Optimizer) or hasattr(inner, "optimizer"):
            return _torch_optimizer(inner if isinstance(inner, torch.optim.Optimizer) else inner.optimizer)
        for name, what in (("use_ema", "the moving average of the weights"), ("gradient_accumulation_steps", "accumulation")):
            if getattr(inner, name, None):
                self.left_out.append(f"{what} ({name})")
        kind = type(inner).__name__
        make = _OPTIMIZERS.get(kind)
        if make is None or type(inner).__module__.partition(".")[0] != "hornbeam":
            raise CannotWrite(f"the optimizer {kind} has no class in plain PyTorch yet; there are {', '.join(_OPTIMIZERS)}")
        name, options = make(inner)
        decay = inner.weight_decay
        if decay:
            options["weight_decay"] = decay
        source = inspect.getsource(getattr(plain_optimizers, name)).strip()
        self.file.names.taken.add(name)
        self.file.definitions.append(source)
        shown = ", ".join(f"{k}={literal(v)}" for k, v in options.items())
        return (
            f"{name}(weights, lr={literal(shortest(float(inner.learning_rate), torch.float32))}, {shown})"
            if shown
            else f"{name}(weights)"
        )

    def _rate(self, optimizer: Any) -> str | None:
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        schedule = getattr(inner, "_schedule", None)
        if schedule is None:
            return None
        return self._function("rate_at", schedule, [Spec((), "float32")], ["step"])

    # -- the loop

    def _train(self, losses: Any, metrics: Any, penalty: list[str], optimizer: str, rate: str | None) -> str:
        history = self.model.history
        ran = (history.params or {}) if history is not None else {}
        epochs, size, shuffle = ran.get("epochs", 1), ran.get("batch_size") or 32, ran.get("shuffle", True)
        many_in = len(self.view.graph.inputs) > 1
        keyed = isinstance(self.view.graph.input_nest, dict) and self.view.own
        many_out = len(losses) > 1 or len(self.view.graph.outputs) > 1
        call = "model(**{k: v[rows] for k, v in x.items()})" if keyed else (
            "model(*(part[rows] for part in x))" if many_in else "model(x[rows])")  # fmt: skip
        count = "len(next(iter(x.values())))" if keyed else "len(x[0])" if many_in else "len(x)"
        lines = [
            f"def train(model, x, y, epochs={epochs}, batch_size={size}, shuffle={shuffle}, weights_of_samples=None, "
            "validation=None):",
            '    """Trains the model as `fit` did, and returns the loss and the metrics of each epoch.',
            "",
            f"    x: {self._described_inputs(keyed, many_in)}. y: "
            + ("a tensor for each output that has a loss." if many_out else "the targets."),
            "    weights_of_samples: a factor for each sample, as class weights and sample weights are.",
            "    validation: x and y to look at after each epoch.",
            '    """',
            *(f"    # Left out: {what}." for what in dict.fromkeys(self.left_out)),
            "    # Not known here: class_weight, sample_weight, validation and callbacks of that `fit`.",
            *(["    y = in_order(y)"] if many_out else []),
            *self._frozen(),
            "    weights = [weight for weight in model.parameters() if weight.requires_grad]",
            f"    optimizer = {optimizer}",
            "    history, steps = [], 0" if rate else "    history = []",
            f"    count = {count}",
            "    for _ in range(epochs):",
            "        order = torch.randperm(count) if shuffle else torch.arange(count)",
            "        sums = {}",
            "        model.train()",
            "        for rows in order.split(batch_size):",
        ]
        if rate:
            at = f"float({rate}(torch.tensor(float(steps))))"
            lines += [
                "            for group in optimizer.param_groups:",
                f'                group["lr"] = {at}',
                "            steps += 1",
            ]
        lines += [
            f"            outputs = {call}",
            "            factor = 1.0 if weights_of_samples is None else weights_of_samples[rows]",
            "            found = results(outputs, " + ("[t[rows] for t in y]" if many_out else "y[rows]") + ", factor)",
        ]
        loss = 'found["loss"]'
        if penalty:
            lines += [f'            found["loss"] = {loss} + ' + " + ".join(penalty)]
        lines += ["            optimizer.zero_grad()", f"            {loss}.backward()", *self._clipping(),
                  "            optimizer.step()", "            add(sums, found, len(rows))",
                  "        history.append({k: v / count for k, v in sums.items()})",
                  "        if validation is not None:",
                  "            with torch.no_grad():",
                  "                model.eval()",
                  f"                found = results({self._called(keyed, many_in)}, "
                  + ("in_order(validation[1]))" if many_out else "validation[1])")]  # fmt: skip
        if penalty:
            lines += ['                found["loss"] = ' + loss + " + " + " + ".join(penalty)]
        lines += ['            history[-1].update({f"val_{k}": float(v) for k, v in found.items()})', "    return history"]
        shown = [wrapped(line) for line in lines]
        return "\n".join([*self._results(losses, metrics, many_out), "", "", _ADD, "", "", *shown])

    def _called(self, keyed: bool, many: bool) -> str:
        return "model(**validation[0])" if keyed else "model(*validation[0])" if many else "model(validation[0])"

    def _described_inputs(self, keyed: bool, many: bool) -> str:
        return "a dictionary of tensors" if keyed else "a tensor for each input" if many else "the inputs"

    def _frozen(self) -> list[str]:
        frozen = [path for path, w in self.model.named_parameters() if not w.requires_grad]
        if not frozen:
            return []
        return [f"    for name in {literal(frozen)}:", "        model.get_parameter(name).requires_grad_(False)"]

    def _clipping(self) -> list[str]:
        inner = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        space, utils = "            ", "torch.nn.utils"
        if getattr(inner, "global_clipnorm", None):
            return [f"{space}{utils}.clip_grad_norm_(weights, {literal(inner.global_clipnorm)})"]
        if getattr(inner, "clipvalue", None):
            return [f"{space}{utils}.clip_grad_value_(weights, {literal(inner.clipvalue)})"]
        if getattr(inner, "clipnorm", None):
            clip = f"{utils}.clip_grad_norm_(weight, {literal(inner.clipnorm)})"
            return [f"{space}for weight in weights:", f"{space}    {clip}"]
        return []

    def _results(self, losses: Any, metrics: Any, many: bool) -> list[str]:
        """The function that returns the loss and the metrics of a batch."""
        lines = ["def results(outputs, targets, factor=1.0):", '    """Returns the loss and the metrics of a batch."""']
        flat = self._flat_outputs() if many else "[outputs]"
        lines += [f"    outputs = {flat}"] if many else []
        if not many and len(self.helpers) == 1:  # the same for the loss and all metrics
            lines.append(f"    targets = {next(iter(self.helpers))}(targets, outputs)")
            losses = [(i, (function[0], ""), factor) for i, function, factor in losses]
            metrics = [(i, shown, (function[0], "")) for i, shown, function in metrics]
        terms = []
        for place, (i, function, factor) in enumerate(losses):
            given = _applied(function, f"targets[{place}]" if many else "targets", f"outputs[{i}]" if many else "outputs")
            terms.append((factor, f"weighted({given}, factor)"))
        if len(terms) == 1:
            times = "" if terms[0][0] in (None, 1, 1.0) else f"{literal(terms[0][0])} * "
            lines.append(f'    found = {{"loss": {times}{terms[0][1]}}}')
        else:
            titles = [tracker.name for tracker in self.model._compile_loss.metrics]
            lines += ["    found = {}"]
            lines += [f"    found[{literal(t)}] = {term}" for t, (_, term) in zip(titles, terms, strict=True)]
            shares = " + ".join(
                f"found[{literal(t)}]" if factor in (None, 1, 1.0) else f"{literal(factor)} * found[{literal(t)}]"
                for t, (factor, _) in zip(titles, terms, strict=True)
            )
            lines += [f'    found["loss"] = {shares}']
        used = [i for i, _, _ in losses]
        for i, shown, function in metrics:
            if many and i not in used:
                continue
            wanted = f"targets[{used.index(i)}]" if many else "targets"
            given = _applied(function, wanted, f"outputs[{i}]" if many else "outputs")
            line = f"    found[{literal(shown)}] = {given}.float().mean()"
            if len(line) > 100:
                lines, given = [*lines, f"    values = {given}"], "values"
            lines.append(f"    found[{literal(shown)}] = {given}.float().mean()")
        helpers = [_HELPERS[name] for name in self.helpers]
        if many:
            names = literal([self._output_names()[i] for i in used])
            helpers.append(_IN_ORDER.replace("NAMES", names or "()"))
        parts = [*[wrapped(line) for line in lines], "    return found", "", "", _WEIGHTED]
        return [*parts, *(text for helper in helpers for text in ("", "", helper))]

    def _output_names(self) -> list[Any]:
        """The keys by which targets may be given."""
        nest, names = self.view.graph.output_nest, self.model._compile_loss.names
        if isinstance(nest, dict):
            return list(tree.sorted_keys(nest))
        count = len(self.view.graph.outputs)
        return list(names) if names and all(names) else list(range(count))

    def _flat_outputs(self) -> str:
        nest = self.view.graph.output_nest
        if isinstance(nest, dict):
            return "[" + ", ".join(f"outputs[{literal(k)}]" for k in tree.sorted_keys(nest)) + "]"
        if all(type(v) is Ref for v in nest):
            return "list(outputs)"
        raise CannotWrite("its outputs are a nest of nests")


_WEIGHTED = '''def weighted(values, factor):
    """Returns the mean of a batch's values, each sample's multiplied by its factor."""
    if isinstance(factor, torch.Tensor):
        factor = factor.reshape(-1, *[1] * (values.dim() - 1))
    return (values * factor).mean()'''
_ADD = '''def add(sums, found, count):
    """Adds a batch's results to the sums over an epoch."""
    for name, value in found.items():
        sums[name] = sums.get(name, 0.0) + float(value.detach()) * count'''


_HELPERS = {
    "like": '''def like(targets, outputs):
    """Returns targets in the shape of the outputs, with which they are compared."""
    if targets.dim() == outputs.dim() - 1 and outputs.shape[-1] == 1:
        targets = targets.unsqueeze(-1)
    if targets.shape != outputs.shape:
        raise ValueError(f"targets {tuple(targets.shape)} for outputs {tuple(outputs.shape)}")
    return targets.float()''',
    "class_numbers": '''def class_numbers(targets, outputs):
    """Returns the numbers of classes without a last axis of size 1."""
    if targets.dim() == outputs.dim() and targets.shape[-1] == 1:
        targets = targets.squeeze(-1)
    if targets.shape != outputs.shape[:-1]:
        raise ValueError(f"classes {tuple(targets.shape)} for outputs {tuple(outputs.shape)}")
    return targets.long()''',
}
_IN_ORDER = '''def in_order(targets):
    """Returns the targets of the outputs that have a loss, which may be given by name, in order."""
    return [targets[name] for name in NAMES] if isinstance(targets, dict) else targets'''


def _applied(function: tuple[str, str], targets: str, outputs: str) -> str:
    """A measure's call, the targets brought into shape."""
    name, helper = function
    return f"{name}({helper}({targets}, {outputs}), {outputs})" if helper else f"{name}({targets}, {outputs})"


def _without_mask(function: Any, thing: Any) -> Any:
    """The function, refused where it leaves places out of the mean."""

    def measure(target: Any, prediction: Any) -> Any:
        values = function(target, prediction)
        if getattr(values, "_keras_mask", None) is not None:
            raise CannotWrite(f"{thing.name!r} leaves places out of the mean")
        return values

    return measure


def _is_sparse(thing: Any) -> bool:
    """Whether a loss or metric takes numbers of classes."""
    names = (type(thing).__name__, getattr(getattr(thing, "fn", None) or getattr(thing, "_fn", None), "__name__", ""))
    return any("sparse" in name.lower() for name in names) or (isinstance(thing, TorchLoss) and thing._by_class)


def _adds_losses(module: Any) -> bool:
    """Whether the user's own code of a layer calls `add_loss`."""
    own = [c for c in type(module).__mro__ if c.__module__.partition(".")[0] not in ("hornbeam", "torch", "builtins")]
    codes = [f.__code__ for c in own for f in vars(c).values() if hasattr(f, "__code__")]
    return any("add_loss" in code.co_names for code in codes)


def _torch_optimizer(optimizer: torch.optim.Optimizer) -> str:
    cls = type(optimizer)
    if getattr(torch.optim, cls.__name__, None) is not cls or len(optimizer.param_groups) != 1:
        raise CannotWrite(f"the optimizer {cls.__name__} is not one of torch's, or treats weights differently")
    known = inspect.signature(cls.__init__).parameters
    given = {k: v for k, v in optimizer.param_groups[0].items() if k in known and v != known[k].default}
    shown = "".join(f", {k}={literal(v)}" for k, v in given.items() if literal(v) is not None)
    return f"torch.optim.{cls.__name__}(weights{shown})"


def _adam(o: Any) -> tuple[str, dict[str, Any]]:
    if o.amsgrad:
        raise CannotWrite("amsgrad=True has no class in plain PyTorch yet")
    return "Adam", {"betas": (o.beta_1, o.beta_2), "eps": o.epsilon}


_OPTIMIZERS: dict[str, Any] = {
    "Adam": _adam, "AdamW": _adam,
    "SGD": lambda o: ("SGD", {"momentum": o.momentum, "nesterov": o.nesterov}),
    "RMSprop": lambda o: ("RMSprop", {"rho": o.rho, "momentum": o.momentum, "eps": o.epsilon, "centered": o.centered}),
    "Adagrad": lambda o: ("Adagrad", {"start": o.initial_accumulator_value, "eps": o.epsilon}),
}  # fmt: skip


def write(file: File, writer: Writer, view: View) -> None:
    """Adds the training loop of a compiled model to its ejected file."""
    Loop(file, writer, view).write()
