"""`pad_sequences`."""

from __future__ import annotations

from typing import Any

import numpy as np

from hornbeam.core.errors import describe, did_you_mean


def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Returns sequences of different lengths as one array.

    Args:
        sequences: list of lists, or of arrays with equal further axes.
        maxlen: the length of all; that of the longest unless given.
        dtype: of the array; `object` for texts.
        padding: "pre" or "post": whether short ones are filled up at their beginning or at their end.
        truncating: "pre" or "post": whether long ones lose their beginning or their end.
        value: what they are filled up with.

    Returns:
        array of shape (number of sequences, maxlen, …).

    >>> pad_sequences([[1], [2, 3, 4]], maxlen=2).tolist()
    [[0, 1], [3, 4]]
    """
    for name, given in (("padding", padding), ("truncating", truncating)):
        if given not in ("pre", "post"):
            hint = did_you_mean(given, ("pre", "post"))
            raise ValueError(f"pad_sequences: `{name}` must be 'pre' or 'post'.{hint} Received: {name}={given!r}")
    if not hasattr(sequences, "__len__"):
        raise ValueError(f"pad_sequences takes a list of sequences. Received: {describe(sequences)}")
    single = next((i for i, s in enumerate(sequences) if not hasattr(s, "__len__")), None)
    if single is not None:
        raise ValueError(f"pad_sequences takes a list of sequences. Entry {single} is none: {describe(sequences[single])}")
    if isinstance(value, str) and not (np.dtype(dtype).kind == "O" or np.dtype(dtype).kind in "US"):
        raise ValueError(f"pad_sequences: `value` is a text, which dtype {dtype} cannot hold. Use dtype=object.")
    if maxlen is None:
        maxlen = max(map(len, sequences), default=0)
    if maxlen < 0:
        raise ValueError(f"pad_sequences: `maxlen` must not be negative. Received: maxlen={maxlen}")
    further = next((np.shape(s)[1:] for s in sequences if len(s)), ())
    padded = np.full((len(sequences), maxlen, *further), value, dtype)
    for i, sequence in enumerate(sequences):
        cut = sequence[max(0, len(sequence) - maxlen) :] if truncating == "pre" else sequence[:maxlen]
        if not len(cut):
            continue
        cut = np.asarray(cut, dtype)
        if cut.shape[1:] != further:
            raise ValueError(f"pad_sequences: an entry of sequence {i} has shape {cut.shape[1:]}, those before it {further}.")
        padded[i, slice(maxlen - len(cut), None) if padding == "pre" else slice(len(cut))] = cut
    return padded
