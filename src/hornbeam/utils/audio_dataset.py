"""`audio_dataset_from_directory`."""

from __future__ import annotations

import math
import wave
from typing import Any

import numpy as np
import torch

from hornbeam.graph import tree
from hornbeam.utils.dataset import stack
from hornbeam.utils.dataset_files import Request, datasets
from hornbeam.utils.dataset_packages import needed


def audio_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    batch_size: int | None = 32,
    sampling_rate: int | None = None,
    output_sequence_length: int | None = None,
    ragged: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """Returns a `Dataset` of batches of sounds and labels, from a directory of .wav files with a subdirectory for each class.

    Args:
        directory: where the files are. All must have equally many channels.
        labels: "inferred" from the subdirectories' names, a list of integers in the order of the sorted paths, or None.
        label_mode: "int" gives labels of shape (batch,) int32, "categorical" (batch, classes) float32 one-hot,
            "binary" (batch, 1) float32, None no labels.
        class_names: the subdirectories to use, in the order of their labels; all, sorted, unless given.
        batch_size: sounds of a batch; None gives single sounds.
        sampling_rate: samples a second to which all are brought (by SciPy); None leaves them as they are.
        output_sequence_length: samples to which all are cut, or extended by zeros; each batch gets its longest unless given.
        ragged: whether sounds keep their lengths: a batch is a nested tensor (`torch.nested`, jagged layout).
        shuffle: whether each pass has its own order; otherwise that of the sorted paths.
        seed: integer for the same split and orders at every run.
        validation_split: share of the files, from 0 to 1, that is kept for validation.
        subset: "training" or "validation", or "both" for a pair of datasets.
        follow_links: whether links to directories are followed.
        verbose: whether the numbers of files and classes are printed.

    Returns:
        dataset of (sounds, labels), or of sounds alone; sounds are (batch, samples, channels), float32 from -1 to 1.

    >>> import os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> os.mkdir(f"{folder}/beeps")
    >>> with wave.open(f"{folder}/beeps/1.wav", "wb") as file:
    ...     file.setparams((1, 2, 8000, 0, "NONE", ""))
    ...     file.writeframes(bytes(200))
    >>> for sounds, labels in audio_dataset_from_directory(folder, verbose=False):
    ...     print(sounds.shape, labels.tolist())
    torch.Size([1, 100, 1]) [0]
    """
    for name, value in (("sampling_rate", sampling_rate), ("output_sequence_length", output_sequence_length)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"`{name}` must be a positive integer, or None. Received: {name}={value!r}")
    if ragged and output_sequence_length is not None:
        raise ValueError("`ragged` and `output_sequence_length` exclude each other. Received both.")

    def load(path: str) -> torch.Tensor:
        sound, rate = read_wav(path)
        if sampling_rate is not None and rate != sampling_rate:
            sound = resampled(sound, rate, sampling_rate)
        tensor = torch.from_numpy(sound)
        return tensor if output_sequence_length is None else extended(tensor, output_sequence_length)

    request = Request(
        "audio_dataset_from_directory", "sounds", (".wav",), directory, labels, label_mode, class_names,
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose,
    )  # fmt: skip
    return datasets(request, load, ragged_batch if ragged else padded_batch)


def read_wav(path: str) -> tuple[np.ndarray, int]:
    """Returns the samples of a WAV file, (samples, channels) float32 from -1 to 1, and its rate.

    Integers of 8 to 32 bits are read by Python's own `wave`; floats and other encodings need SciPy.
    """
    try:
        with wave.open(path, "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError):
        return _read_other(path)
    if width == 1:
        samples = np.frombuffer(data, np.uint8).astype(np.int32) - 128
    elif width == 3:
        samples = np.zeros((len(data) // 3, 4), np.uint8)
        samples[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = samples.view("<i4").ravel() >> 8
    else:
        samples = np.frombuffer(data, f"<i{width}")
    return (samples / np.float32(2 ** (8 * width - 1))).astype(np.float32).reshape(-1, channels), rate


def _read_other(path: str) -> tuple[np.ndarray, int]:
    reader = needed("scipy.io.wavfile", "scipy", f"Reading {path!r}, which holds no plain integers,")
    try:
        rate, samples = reader.read(path)
    except ValueError as error:
        raise ValueError(f"{path!r} cannot be read as a WAV file ({error}). Repair or remove it.") from error
    if samples.dtype.kind != "f":
        samples = samples / np.iinfo(samples.dtype).max
    return samples.astype(np.float32).reshape(len(samples), -1), rate


def resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Returns samples (samples, channels) at another rate."""
    common = math.gcd(rate, wanted)
    signal = needed("scipy.signal", "scipy", "Bringing sounds to one `sampling_rate`")
    return signal.resample_poly(sound, wanted // common, rate // common, axis=0).astype(np.float32)


def extended(sound: torch.Tensor, length: int) -> torch.Tensor:
    """Returns samples cut, or extended by zeros, to a length."""
    return torch.nn.functional.pad(sound[:length], (0, 0, 0, max(0, length - len(sound))))


def padded_batch(elements: list[Any]) -> Any:
    """Returns a batch whose sounds are extended by zeros to the longest."""
    longest = max(len(tree.leaves(element)[0]) for element in elements)
    return stack([_with_sound(element, extended(tree.leaves(element)[0], longest)) for element in elements])


def ragged_batch(elements: list[Any]) -> Any:
    """Returns a batch whose sounds keep their lengths, in a nested tensor."""
    sounds = torch.nested.nested_tensor([tree.leaves(element)[0] for element in elements], layout=torch.jagged)
    return _with_sound(stack([_with_sound(element, torch.empty(0)) for element in elements]), sounds)


def _with_sound(element: Any, sound: torch.Tensor) -> Any:
    return (sound, element[1]) if isinstance(element, tuple) else sound
