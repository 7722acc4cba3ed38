"""The callback that writes files for TensorBoard, through torch's own writer."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hornbeam.core.errors import did_you_mean
from hornbeam.core.layer import layer_name
from hornbeam.core.registry import public
from hornbeam.inspect.table import rows_of, shown_refs
from hornbeam.layers.embedding import Embedding
from hornbeam.training.callbacks.callback import Callback
from hornbeam.training.callbacks.monitor import learning_rate


@public("keras.callbacks.TensorBoard")
class TensorBoard(Callback):
    """Writes results, and on request weights, speeds, profiles and embeddings, for TensorBoard (`tensorboard --logdir logs`).

    Results of training lie under "train", those of validation and evaluation under "validation", with Keras's names:
    "epoch_loss", "batch_loss", "evaluation_loss_vs_iterations", "epoch_learning_rate". Nothing is read from the device between
    two writes, and without a reason to look at batches there is no hook on them.

    Args:
        log_dir: the folder.
        histogram_freq: every so many epochs, histograms of all weights; 0: none.
        write_graph: whether the model's graph is written.
        write_images: whether weights are also written as images, together with the histograms.
        write_steps_per_second: whether speeds are written.
        update_freq: "epoch", "batch", or every so many batches results are written too.
        profile_batch: number of the batch that torch.profiler records, counted from 1, or the first and the last one, (10, 20)
            or "10,20"; 0: none.
        embeddings_freq: every so many epochs, the weights of Embedding layers for the projector; 0: none.
        embeddings_metadata: file of the rows' labels, or a dictionary from layer names to files.

    Raises:
        ImportError: the package tensorboard is not installed.
    """

    state_names = ("_step", "_step_at_epoch")

    def __init__(
        self, log_dir: Any = "logs", histogram_freq: int = 0, write_graph: bool = True, write_images: bool = False,
        write_steps_per_second: bool = False, update_freq: Any = "epoch", profile_batch: Any = 0, embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:  # fmt: skip
        if update_freq not in ("epoch", "batch") and (not isinstance(update_freq, int) or update_freq < 1):
            wanted = "'epoch', 'batch' or a positive integer"
            raise ValueError(f"TensorBoard: `update_freq` must be {wanted}. Received: {update_freq!r}")
        self.log_dir, self.histogram_freq = log_dir, histogram_freq
        self.write_graph, self.write_images, self.write_steps_per_second = write_graph, write_images, write_steps_per_second
        self.update_freq, self.profile_batch = update_freq, profile_batch
        self.embeddings_freq, self.embeddings_metadata = embeddings_freq, embeddings_metadata
        self._every = {"epoch": 0, "batch": 1}.get(update_freq, update_freq)
        self._profiled = _batches(profile_batch)
        self._make_writer = _library().SummaryWriter
        self._writers: dict[str, Any] = {}
        self._profiler: Any = None
        self._step = self._step_at_epoch = 0
        self._training, self._batch_begun, self._epoch_begun = False, 0.0, 0.0
        self._on_batches = bool(self._every or self._profiled)
        if self._on_batches:  # set on the instance: a class that has the methods would be called at every batch
            self.__dict__.update(on_train_batch_begin=self._begin_batch, on_train_batch_end=self._end_batch)

    def _writer(self, run: str) -> Any:
        if run not in self._writers:
            self._writers[run] = self._make_writer(str(Path(self.log_dir) / run))
        return self._writers[run]

    def _write(self, run: str, values: Mapping[str, Any], tag: str, step: int) -> None:
        writer = self._writer(run)
        for name, value in values.items():
            if isinstance(value, (int, float)):
                writer.add_scalar(tag.format(name), value, step)

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _steps(self) -> int:
        """How many steps were made: counted, or where there is no hook on batches known from the optimizer."""
        if not self._on_batches:
            optimizer = self.model.optimizer
            updates = getattr(optimizer, "iterations", None)
            each = getattr(optimizer, "gradient_accumulation_steps", None) or 1
            self._step = self._step if updates is None else int(updates) * each
        return self._step

    # -- training

    def on_train_begin(self, logs: Any = None) -> None:
        self._training = True
        if self.embeddings_freq:
            self._check_metadata()
        if self.write_graph:
            self._write_graph()

    def on_train_end(self, logs: Any = None) -> None:
        self._stop_profiler()
        self._training = False
        self._close()

    def _begin_batch(self, batch: int, logs: Any = None) -> None:
        if self._profiled and self._profiler is None:
            first, last = self._profiled
            if first <= self._step + self.model.steps_per_execution and self._step < last:
                self._profiler = torch.profiler.profile(on_trace_ready=self._trace_handler())
                self._profiler.start()
        self._batch_begun = time.perf_counter()

    def _end_batch(self, batch: int, logs: Any = None) -> None:
        before, self._step = self._step, self._step_at_epoch + batch + 1  # one call may stand for several steps
        if self._profiled and self._step >= self._profiled[1]:
            self._stop_profiler()
        if self._every and self._step // self._every > before // self._every:
            if self.write_steps_per_second:
                speed = (self._step - before) / (time.perf_counter() - self._batch_begun)
                self._write("train", {"steps_per_second": speed}, "batch_{}", self._step)
            self._write("train", logs or {}, "batch_{}", self._step)

    def _trace_handler(self) -> Any:
        return torch.profiler.tensorboard_trace_handler(str(Path(self.log_dir) / "plugins" / "profile"))

    def _stop_profiler(self) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._step_at_epoch, self._epoch_begun = self._steps(), time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        results = {k: v for k, v in logs.items() if not k.startswith("val_")}
        if self.model.optimizer is not None:
            results["learning_rate"] = learning_rate(self.model.optimizer)
        if self.write_steps_per_second:
            spent = time.perf_counter() - self._epoch_begun
            results["steps_per_second"] = (self._steps() - self._step_at_epoch) / spent
        self._write("train", results, "epoch_{}", epoch)
        validation = {k.removeprefix("val_"): v for k, v in logs.items() if k.startswith("val_")}
        if validation:
            self._write("validation", validation, "epoch_{}", epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings(epoch)
        for writer in self._writers.values():
            writer.flush()

    # -- evaluation

    def on_test_end(self, logs: Any = None) -> None:
        if self.model.optimizer is not None and logs:
            self._write("validation", logs, "evaluation_{}_vs_iterations", self._steps())
        if not self._training:
            self._close()

    # -- the model

    def _write_graph(self) -> None:
        rows, graph = rows_of(self.model)
        if graph is not None:
            event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
            self._writer("train").file_writer.add_event(event(graph_def=_graph_def(rows, graph).SerializeToString()))

    def _write_weights(self, epoch: int) -> None:
        writer = self._writer("train")
        for path, weight in _named_weights(self.model):
            value = weight.detach().float()
            finite = value[value.isfinite()]
            if finite.numel():
                writer.add_histogram(f"{path}/histogram", finite, epoch)
            if self.write_images:
                _write_image(writer, f"{path}/image", value.squeeze().cpu(), epoch)

    # -- embeddings

    def _embeddings(self) -> dict[str, nn.Module]:
        found = (m for m in self.model.modules() if isinstance(m, (Embedding, nn.Embedding)))
        return {layer_name(self.model, m): m for m in found}

    def _check_metadata(self) -> None:
        given = self.embeddings_metadata if isinstance(self.embeddings_metadata, Mapping) else {}
        layers = self._embeddings()
        for name in given:
            if name not in layers:
                raise ValueError(
                    f"TensorBoard: `embeddings_metadata` names {name!r}, which is no Embedding layer of the model."
                    f"{did_you_mean(name, layers)} Embedding layers: {', '.join(map(repr, layers)) or 'none'}."
                )

    def _write_embeddings(self, epoch: int) -> None:
        given = self.embeddings_metadata
        for name, layer in self._embeddings().items():
            table: Any = layer.embeddings if isinstance(layer, Embedding) else layer.weight
            file = given.get(name) if isinstance(given, Mapping) else given
            labels, header = _labels(Path(self.log_dir), file)
            self._writer("train").add_embedding(
                table.detach(), metadata=labels, metadata_header=header, global_step=epoch, tag=name
            )


def _library() -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ImportError(
            f"The callback TensorBoard needs the package 'tensorboard', which cannot be imported ({error}). "
            "Install it with: pip install tensorboard",
            name="tensorboard",
        ) from error


def _batches(given: Any) -> tuple[int, int] | None:
    """The first and last batch to be profiled."""
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else [given]
    try:
        first, last = int(parts[0]), int(parts[-1])
    except (TypeError, ValueError, IndexError):
        first, last = -1, -1
    if first < 0 or last < first or len(parts) > 2:
        raise ValueError(
            "TensorBoard: `profile_batch` must be the number of a batch, from 1, or the first and the last of several, such as "
            f"(10, 20); 0 profiles none. Received: {given!r}"
        )
    return (first, last) if first else None


def _named_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    names = {id(w): name.replace(".", "/") for name, w in [*model.named_parameters(), *model.named_buffers()]}
    for weight in model.weights:
        yield getattr(weight, "path", None) or names[id(weight)], weight


def _write_image(writer: Any, tag: str, value: torch.Tensor, epoch: int) -> None:
    """A matrix lies on its long side; of three axes the last one counts images; more are no picture."""
    if value.ndim not in (1, 2, 3) or not value.isfinite().all():
        return
    low, high = value.min(), value.max()
    grey = (value - low) / (high - low) if high > low else torch.zeros_like(value)
    if grey.ndim == 3:
        writer.add_images(tag, grey.permute(2, 0, 1)[:, None], epoch)
        return
    grey = grey[:, None] if grey.ndim == 1 else grey.T if grey.shape[0] > grey.shape[1] else grey
    writer.add_image(tag, grey, epoch, dataformats="HW")


def _labels(folder: Path, file: Any) -> tuple[Any, Any]:
    """The labels of a file, as the projector has them: several columns have a header."""
    if file is None:
        return None, None
    path = folder / file if (folder / file).exists() else Path(file)
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    if rows and len(rows[0]) > 1:
        return rows[1:], rows[0]
    return [row[0] for row in rows], None


def _graph_def(rows: list[Any], graph: Any) -> Any:
    """A graph as TensorBoard's own; calls are called what summaries call them."""
    protos = "tensorboard.compat.proto."
    made = importlib.import_module(protos + "graph_pb2").GraphDef()
    shape_of = importlib.import_module(protos + "tensor_shape_pb2").TensorShapeProto
    known = {id(node): (row.name if i == 0 else f"{row.name}_{i}", row.kind) for row in rows for i, node in enumerate(row.nodes)}
    names: dict[int, str] = {}
    for node in graph.nodes:
        if node.implicit:
            continue
        names[id(node)], kind = known.get(id(node), (node.name, "Input"))
        call = made.node.add(name=names[id(node)], op=kind, input=[names[id(r.node)] for r in shown_refs(node)])
        for spec in node.outputs:
            if not spec.is_number:
                sizes = [shape_of.Dim(size=-1 if d is None else d) for d in spec.shape]
                call.attr["_output_shapes"].list.shape.append(shape_of(dim=sizes))
    return made
