"""`text_dataset_from_directory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hornbeam.utils.dataset import stack
from hornbeam.utils.dataset_files import Request, check_format, datasets


def text_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Returns a `Dataset` of batches of texts and labels, from a directory of .txt files with a subdirectory for each class.

    Args:
        directory: where the files are. They are read as UTF-8; bytes that are not become the replacement character.
        labels: "inferred" from the subdirectories' names, a list of integers in the order of the sorted paths, or None.
        label_mode: "int" gives labels of shape (batch,) int32, "categorical" (batch, classes) float32 one-hot,
            "binary" (batch, 1) float32, None no labels.
        class_names: the subdirectories to use, in the order of their labels; all, sorted, unless given.
        batch_size: texts of a batch; None gives single texts.
        max_length: characters after which a text is cut off, None for none.
        shuffle: whether each pass has its own order; otherwise that of the sorted paths.
        seed: integer for the same split and orders at every run.
        validation_split: share of the files, from 0 to 1, that is kept for validation.
        subset: "training" or "validation", or "both" for a pair of datasets.
        follow_links: whether links to directories are followed.
        format: "tf" or "grain"; both give the same.
        verbose: whether the numbers of files and classes are printed.

    Returns:
        dataset of (texts, labels), or of texts alone; texts are a NumPy array of `str` objects of shape (batch,).

    >>> import os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> for kind in ("bad", "good"):
    ...     os.mkdir(f"{folder}/{kind}")
    ...     _ = Path(folder, kind, "1.txt").write_text(f"a {kind} film")
    >>> for texts, labels in text_dataset_from_directory(folder, shuffle=False, verbose=False):
    ...     print(texts.tolist(), labels.tolist())
    ['a bad film', 'a good film'] [0, 1]
    """
    check_format(format)
    if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
        raise ValueError(f"`max_length` must be a positive integer, or None. Received: max_length={max_length!r}")

    def load(path: str) -> str:
        return Path(path).read_bytes().decode("utf-8", "replace")[:max_length]

    request = Request(
        "text_dataset_from_directory", "texts", (".txt",), directory, labels, label_mode, class_names,
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose,
    )  # fmt: skip
    return datasets(request, load, stack)
