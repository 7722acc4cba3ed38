"""Fourier transforms; complex tensors are pairs of a real and an imaginary one, as in Keras."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.ops.convert import floating, op, tensor

Pair = tuple[torch.Tensor, torch.Tensor]


def _complex(x: Any) -> torch.Tensor:
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError("A pair (real, imaginary) of tensors is expected.")
    return torch.complex(floating(x[0]), floating(x[1]))


@op
def fft(x: Any) -> Pair:
    """Returns the Fourier transform along the last axis of a pair (real, imaginary).

    >>> [part.tolist() for part in fft(([1.0, 1.0], [0.0, 0.0]))]
    [[2.0, 0.0], [0.0, 0.0]]
    """
    made = torch.fft.fft(_complex(x))
    return made.real, made.imag


@op
def fft2(x: Any) -> Pair:
    """Returns the Fourier transform over the last two axes of a pair (real, imaginary)."""
    made = torch.fft.fft2(_complex(x))
    return made.real, made.imag


@op
def ifft2(x: Any) -> Pair:
    """Returns the inverse Fourier transform over the last two axes of a pair (real, imaginary)."""
    made = torch.fft.ifft2(_complex(x))
    return made.real, made.imag


@op
def rfft(x: Any, fft_length: int | None = None) -> Pair:
    """Returns the non-negative frequencies of the Fourier transform of a real tensor along its last axis.

    >>> [part.tolist() for part in rfft([1.0, 1.0])]
    [[2.0, 0.0], [0.0, 0.0]]
    """
    made = torch.fft.rfft(floating(x), fft_length)
    return made.real, made.imag


@op
def irfft(x: Any, fft_length: int | None = None) -> torch.Tensor:
    """Returns the real tensor whose `rfft` is the given pair.

    >>> irfft(([2.0, 0.0], [0.0, 0.0])).tolist()
    [1.0, 1.0]
    """
    return torch.fft.irfft(_complex(x), fft_length)


@op
def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> torch.Tensor:
    """Returns windows along the last axis, as rows.

    >>> extract_sequences([1, 2, 3, 4], 2, 2).tolist()
    [[1, 2], [3, 4]]
    """
    return tensor(x).unfold(-1, sequence_length, sequence_stride)


def _window(window: Any, length: int, fft_length: int, like: torch.Tensor) -> torch.Tensor:
    """Returns a window's values, put into the middle of `fft_length` places."""
    if window is None:
        values = torch.ones(length, dtype=like.dtype, device=like.device)
    elif isinstance(window, str):
        makers = {"hann": torch.hann_window, "hamming": torch.hamming_window}
        if window not in makers:
            raise ValueError(f"window must be 'hann', 'hamming', None or the values themselves. Received: window={window!r}")
        values = makers[window](length, dtype=like.dtype, device=like.device)
    else:
        values = tensor(window, like.dtype).to(like.device)
    before = (fft_length - length) // 2
    return F.pad(values, (before, fft_length - length - before))


@op
def stft(x: Any, sequence_length: int, sequence_stride: int, fft_length: int, window: Any = "hann", center: bool = True) -> Pair:
    """Returns the Fourier transforms of windows along the last axis, as a pair of shape (…, windows, frequencies)."""
    x = floating(x)
    values = _window(window, sequence_length, fft_length, x)
    if center:
        half = fft_length // 2
        flat = x.reshape(-1, 1, x.shape[-1])
        x = F.pad(flat, (half, half), mode="reflect").reshape(*x.shape[:-1], -1)
    made = torch.fft.rfft(x.unfold(-1, fft_length, sequence_stride) * values)
    return made.real, made.imag


@op
def istft(
    x: Any,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> torch.Tensor:
    """Returns the tensor whose `stft` is the given pair: windows are added where they overlap, and divided by their weights."""
    rows = torch.fft.irfft(_complex(x), fft_length)
    values = _window(window, sequence_length, fft_length, rows)
    count = rows.shape[-2]
    total = fft_length + sequence_stride * (count - 1)

    def overlapped(r: torch.Tensor) -> torch.Tensor:
        columns = r.reshape(-1, count, fft_length).transpose(1, 2)
        return F.fold(columns, (1, total), (1, fft_length), stride=(1, sequence_stride)).reshape(*r.shape[:-2], total)

    weights = overlapped(values.square().expand(count, fft_length))
    made = overlapped(rows * values) / torch.where(weights > 1e-11, weights, 1.0)
    start = fft_length // 2 if center else 0
    stop = total - start if length is None else min(start + length, total)
    made = made[..., start:stop]
    short = 0 if length is None else length - made.shape[-1]
    return F.pad(made, (0, short)) if short else made
