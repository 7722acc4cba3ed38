"""What the `…_dataset_from_directory` functions share: files and their labels, split, shuffled, read ahead."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.core.random import make_default_seed
from hornbeam.core.settings import is_interactive_logging_enabled
from hornbeam.utils.dataset import Dataset, Pass, permutation
from hornbeam.utils.dataset_ahead import ahead, reader_threads


@dataclass
class Request:
    """The arguments that all `…_dataset_from_directory` functions have, and what their errors call the files."""

    function: str
    kind: str
    formats: tuple[str, ...]
    directory: Any
    labels: Any
    label_mode: str | None
    class_names: list[str] | None
    batch_size: int | None
    shuffle: bool
    seed: int | None
    validation_split: float | None
    subset: str | None
    follow_links: bool
    verbose: bool

    def error(self, text: str, error: type[Exception] = ValueError) -> Exception:
        """Returns an error that begins with the function's name."""
        return error(f"{self.function}: {text}")


@dataclass
class Files:
    """Files with a label for each, or None for labels."""

    paths: list[str]
    labels: torch.Tensor | None
    class_names: list[str] | None

    def part(self, cut: slice) -> Files:
        """Returns some of them."""
        return Files(self.paths[cut], None if self.labels is None else self.labels[cut], self.class_names)


def datasets(request: Request, load: Callable[[str], Any], join: Callable[[list[Any]], Any]) -> Any:
    """Returns the dataset that was asked for, or the pair of the training and the validation dataset.

    Args:
        request: the user's arguments.
        load: reads one file; called by threads.
        join: makes a batch of a list of samples.
    """
    check(request)
    files, seed = find(request), make_default_seed() if request.seed is None else int(request.seed)
    if request.shuffle:
        order = np.arange(len(files.paths))
        np.random.RandomState(seed % 2**32).shuffle(order)
        labels = None if files.labels is None else files.labels[torch.from_numpy(order)]
        files = Files([files.paths[i] for i in order], labels, files.class_names)
    made = [make(request, part, seed, load, join) for part in split(request, files)]
    return made[0] if len(made) == 1 else made


def check(request: Request) -> None:
    """Raises what is wrong with the arguments that need no file."""
    labels, names, mode = request.labels, request.class_names, request.label_mode
    if hasattr(labels, "tolist"):
        labels = request.labels = labels.tolist()
    if labels not in ("inferred", None) and not isinstance(labels, (list, tuple)):
        wanted = "'inferred' (from the names of the subdirectories), a list of one integer for each file, or None"
        raise request.error(f"`labels` must be {wanted}. Received: labels={labels!r}")
    if names is not None and labels != "inferred":
        raise request.error(f"`class_names` goes with labels='inferred' only. Received: class_names={names}, labels={labels!r}")
    if mode not in ("int", "categorical", "binary", None):
        hint = did_you_mean(mode, ("int", "categorical", "binary"))
        raise request.error(f"`label_mode` must be 'int', 'categorical', 'binary' or None.{hint} Received: label_mode={mode!r}")
    share, subset = request.validation_split, request.subset
    if subset not in ("training", "validation", "both", None):
        hint = did_you_mean(subset, ("training", "validation", "both"))
        raise request.error(f"`subset` must be 'training', 'validation' or 'both'.{hint} Received: subset={subset!r}")
    if (share is None) != (subset is None):
        raise request.error(f"`validation_split` and `subset` go together. Received: validation_split={share}, subset={subset!r}")
    if share is not None and not 0 < share < 1:
        raise request.error(f"`validation_split` must lie between 0 and 1. Received: validation_split={share}")
    if share is not None and request.shuffle and request.seed is None:
        raise request.error(
            "`validation_split` of shuffled files needs a `seed`, so that the training and the validation subset do not overlap. "
            "Give both calls the same one, for example seed=1337."
        )
    if request.seed is not None and (not isinstance(request.seed, (int, np.integer)) or request.seed < 0):
        raise request.error(f"`seed` must be an integer not below 0, or None. Received: seed={request.seed!r}")
    if request.batch_size is not None and (not isinstance(request.batch_size, int) or request.batch_size < 1):
        raise request.error(f"`batch_size` must be a positive integer, or None. Received: batch_size={request.batch_size!r}")


def find(request: Request) -> Files:
    """Returns the files of a directory, class by class and sorted, with their labels."""
    directory = os.fspath(request.directory)
    if not os.path.isdir(directory):
        parent, name = os.path.split(os.path.abspath(directory))
        hint = did_you_mean(name, os.listdir(parent)) if os.path.isdir(parent) else f" There is no {parent!r} either."
        raise request.error(f"there is no directory {directory!r} (seen from {os.getcwd()!r}).{hint}", FileNotFoundError)
    if request.labels == "inferred" and request.label_mode is not None:
        files = _by_folder(request, directory)
    else:
        files = _with_list(request, directory)
    names = files.class_names
    if request.label_mode == "binary" and names is not None and len(names) != 2:
        raise request.error(f"label_mode='binary' needs exactly 2 classes. Found {len(names)}: {names}")
    belonging = "" if names is None else f" belonging to {len(names)} classes"
    say(request, f"Found {len(files.paths)} files{belonging}.")
    if not files.paths:
        raise request.error(_nothing(request, directory))
    return files


def _by_folder(request: Request, directory: str) -> Files:
    there = sorted(e.name for e in os.scandir(directory) if e.is_dir() and not e.name.startswith("."))
    names = there if request.class_names is None else list(request.class_names)
    missing = [name for name in names if name not in there]
    if missing or len(set(names)) < len(names):
        wrong = "a name is there twice."
        if missing:
            wrong = f"no subdirectory is called {missing[0]!r}.{did_you_mean(missing[0], there)}"
        raise request.error(
            f"`class_names` must be the subdirectories of {directory!r}, or some of them; {wrong} "
            f"There are: {there}. Received: class_names={names}"
        )
    found = [(path, label) for label, name in enumerate(names) for path in _walk(request, os.path.join(directory, name))]
    numbers = torch.tensor([label for _, label in found], dtype=torch.int32)
    return Files([path for path, _ in found], encoded(numbers, request.label_mode, len(names)), names)


def _with_list(request: Request, directory: str) -> Files:
    paths, given = list(_walk(request, directory)), request.labels
    if given in ("inferred", None):
        return Files(paths, None, None)
    if len(given) != len(paths):
        raise request.error(f"`labels` has {len(given)} entries, and {directory!r} holds {len(paths)} {request.kind}.")
    wrong = next((v for v in given if not isinstance(v, (int, np.integer)) or isinstance(v, bool)), None)
    if wrong is not None:
        raise request.error(f"`labels` must be integers, in the order of the sorted paths. Received: {describe(wrong)}")
    if request.label_mode is None:
        return Files(paths, None, None)
    names = sorted(set(given))
    if request.label_mode == "categorical" and names != list(range(len(names))):
        raise request.error(f"label_mode='categorical' needs labels 0 to {len(names) - 1}. Received: {names}")
    numbers = torch.tensor(given, dtype=torch.int32)
    return Files(paths, encoded(numbers, request.label_mode, len(names)), [str(name) for name in names])


def _walk(request: Request, folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields the paths of the files below a folder: its own first, then folder by folder."""
    real = os.path.realpath(folder)
    if real in above:
        return
    entries = sorted(os.scandir(folder), key=lambda e: e.name)
    for entry in entries:
        if entry.name.lower().endswith(request.formats) and entry.is_file():
            yield entry.path
    for entry in entries:
        if entry.is_dir(follow_symlinks=request.follow_links):
            yield from _walk(request, entry.path, (*above, real))


def encoded(labels: torch.Tensor, mode: str | None, classes: int) -> torch.Tensor:
    """Returns class numbers as a label mode has them: (n,) int32, (n, 1) float32, or (n, classes) float32."""
    if mode == "binary":
        return labels.float().unsqueeze(1)
    if mode == "categorical":
        return torch.nn.functional.one_hot(labels.long(), classes).float()
    return labels


def _nothing(request: Request, directory: str) -> str:
    """Returns why no file was found."""
    endings = Counter(path.suffix.lower() or "no extension" for path in Path(directory).rglob("*") if path.is_file())
    text = f"there are no {request.kind} in {directory!r}: files with {', '.join(request.formats)} are looked for, and "
    if not endings:
        return text + "the directory is empty."
    fit = sum(endings[ending] for ending in request.formats)
    if fit and request.labels == "inferred":
        return (
            text + f"{fit} lie directly in it, not in a subdirectory for each class. "
            "Give labels=None for no labels, or a list of labels, or move them."
        )
    return text + "there are: " + ", ".join(f"{count} with {ending}" for ending, count in endings.most_common(5)) + "."


def split(request: Request, files: Files) -> list[Files]:
    """Returns the files of the subset, or of both."""
    share, subset = request.validation_split, request.subset
    if share is None:
        return [files]
    last = int(share * len(files.paths))
    if last == 0:
        raise request.error(
            f"validation_split={share} of {len(files.paths)} files leaves none for validation. Use another split."
        )
    if not request.shuffle and request.labels == "inferred" and len(files.class_names or ()) > 1:
        warnings.warn(
            f"{request.function}: without `shuffle` the files are sorted by class, so the validation subset holds the last "
            "classes only. Give shuffle=True and a seed.",
            stacklevel=4,
        )
    parts = {"training": files.part(slice(None, -last)), "validation": files.part(slice(-last, None))}
    wanted = ["training", "validation"] if subset == "both" else [str(subset)]
    for name in wanted:
        say(request, f"Using {len(parts[name].paths)} files for {name}.")
    return [parts[name] for name in wanted]


def make(request: Request, files: Files, seed: int, load: Callable[[str], Any], join: Callable[[list[Any]], Any]) -> Dataset:
    """Returns the dataset of files, read ahead by threads in the order of each pass."""
    threads = reader_threads()
    depth = 2 * max(threads, request.batch_size or 1)

    def sample(i: int) -> Any:
        try:
            value = load(files.paths[i])
        except Exception as error:
            error.add_note(f"While {files.paths[i]!r} was read.")
            raise
        return value if files.labels is None else (value, files.labels[i])

    def read(number: Pass, start: int) -> Iterator[Any]:
        count = len(files.paths)
        order = permutation(count, seed, number).tolist() if request.shuffle else range(count)
        return ahead(sample, order[start:], threads, depth)

    dataset = Dataset(read, len(files.paths), files.class_names)
    if request.batch_size is not None:
        dataset = dataset._batch(request.batch_size, False, join)
    dataset.file_paths = files.paths
    return dataset


def say(request: Request, text: str) -> None:
    """Prints a line, or logs it where interactive logging is off."""
    if request.verbose:
        if is_interactive_logging_enabled():
            print(text)
        else:
            logging.getLogger("hornbeam").info(text)


def check_format(format: str) -> None:
    """Raises unless `format` is one that Keras knows; all give a `Dataset`."""
    if format not in ("tf", "grain"):
        raise ValueError(f"`format` must be 'tf' or 'grain' (both give a hornbeam Dataset). Received: format={format!r}")
