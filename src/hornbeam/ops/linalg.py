"""Products and decompositions, as `keras.ops.linalg` and the linear algebra of `keras.ops` have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hornbeam.ops.convert import axes, floating, named, op, pair, tensor
from hornbeam.ops.shape import pad


def _matched(x1: Any, x2: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns two operands of a product in one dtype, small integers and booleans in int32."""
    x1, x2 = pair(x1, x2)
    kind = torch.promote_types(x1.dtype, x2.dtype)
    if kind in (torch.bool, torch.int8, torch.uint8, torch.int16):
        kind = torch.int32
    return x1.to(kind), x2.to(kind)


@op
def matmul(x1: Any, x2: Any) -> torch.Tensor:
    """Returns the matrix product of the last two axes; the others broadcast.

    >>> matmul([[1.0, 2.0]], [[3.0], [4.0]]).tolist()
    [[11.0]]
    """
    return torch.matmul(*_matched(x1, x2))


@op
def dot(x1: Any, x2: Any) -> torch.Tensor:
    """Returns the product over the last axis of x1 and the second to last (or only) of x2; a plain product for scalars."""
    x1, x2 = _matched(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return x1 * x2
    return torch.tensordot(x1, x2, dims=([-1], [max(x2.ndim - 2, 0)]))


@op
def vdot(x1: Any, x2: Any) -> torch.Tensor:
    """Returns the sum of products of the flat tensors, the first one conjugated."""
    x1, x2 = _matched(x1, x2)
    return torch.vdot(x1.flatten(), x2.flatten())


@op
def inner(x1: Any, x2: Any) -> torch.Tensor:
    """Returns the products over the last axes."""
    return torch.inner(*_matched(x1, x2))


@op
def outer(x1: Any, x2: Any) -> torch.Tensor:
    """Returns the products of all pairs of elements of two flat tensors.

    >>> outer([1, 2], [3, 4]).tolist()
    [[3, 4], [6, 8]]
    """
    x1, x2 = pair(x1, x2)
    return torch.outer(x1.flatten(), x2.flatten())


@op
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> torch.Tensor:
    """Returns the products over some axes.

    Args:
        axes: how many last axes of x1 and first axes of x2 are meant, or one list of axes for each.
    """
    x1, x2 = _matched(x1, x2)
    if isinstance(axes, int):
        return torch.tensordot(x1, x2, dims=axes)
    return torch.tensordot(x1, x2, dims=[[a] if isinstance(a, int) else list(a) for a in axes])  # type: ignore[arg-type]


@op
def einsum(subscripts: str, *operands: Any, **kwargs: Any) -> torch.Tensor:
    """Returns the sum of products that an index expression describes.

    >>> einsum("ij,j->i", [[1.0, 2.0]], [3.0, 4.0]).tolist()
    [11.0]
    """
    tensors = [tensor(o) for o in operands]
    kind = tensors[0].dtype
    for t in tensors[1:]:
        kind = torch.promote_types(kind, t.dtype)
    if kind in (torch.bool, torch.int8, torch.uint8, torch.int16):
        kind = torch.int32
    return torch.einsum(subscripts, *[t.to(kind) for t in tensors])


@op
def kron(x1: Any, x2: Any) -> torch.Tensor:
    """Returns the Kronecker product."""
    return torch.kron(*pair(x1, x2))


@op
def cross(x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> torch.Tensor:
    """Returns the cross product of vectors of 3 (or 2) elements."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    x1, x2 = pair(x1, x2)
    x1, x2 = x1.movedim(axisa, -1), x2.movedim(axisb, -1)
    if x1.shape[-1] == x2.shape[-1] == 2:
        return x1[..., 0] * x2[..., 1] - x1[..., 1] * x2[..., 0]
    x1, x2 = (torch.nn.functional.pad(x, (0, 3 - x.shape[-1])) for x in (x1, x2))
    return torch.linalg.cross(*torch.broadcast_tensors(x1, x2)).movedim(-1, axisc)


@op
def diag(x: Any, k: int = 0) -> torch.Tensor:
    """Returns the k-th diagonal of a matrix, or a matrix with a vector on its k-th diagonal."""
    return torch.diag(named(tensor(x), "x", (1, 2)), k)


@op
def diagflat(x: Any, k: int = 0) -> torch.Tensor:
    """Returns a matrix with the flat tensor on its k-th diagonal."""
    return torch.diagflat(tensor(x), k)


@op
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> torch.Tensor:
    """Returns the diagonals of the matrices on two axes."""
    return torch.diagonal(tensor(x), offset, axis1, axis2)


@op
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> torch.Tensor:
    """Returns the sums of the diagonals of the matrices on two axes."""
    x = tensor(x)
    kind = torch.int32 if x.dtype in (torch.bool, torch.int8, torch.uint8, torch.int16) else x.dtype
    return torch.sum(torch.diagonal(x, offset, axis1, axis2), -1, dtype=kind)


@op
def tril(x: Any, k: int = 0) -> torch.Tensor:
    """Returns matrices with zeros above the k-th diagonal."""
    return torch.tril(tensor(x), k)


@op
def triu(x: Any, k: int = 0) -> torch.Tensor:
    """Returns matrices with zeros below the k-th diagonal."""
    return torch.triu(tensor(x), k)


@op
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns vector or matrix norms.

    Args:
        ord: order of the norm; None is the 2-norm of all elements on the axes.
        axis: one axis for vectors, two for matrices; None for all of the tensor.

    >>> norm([3.0, 4.0]).item()
    5.0
    """
    x = floating(x)
    if ord is None:
        return torch.linalg.vector_norm(x, 2, axis, keepdims)
    return torch.linalg.norm(x, ord, axes(axis, x.ndim) if isinstance(axis, (list, tuple)) else axis, keepdims)


def _of_matrices(name: str, function: Callable[[torch.Tensor], Any], what: str) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        return function(floating(x))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Returns {what} of the matrices on the last two axes."
    return op(call)


det = _of_matrices("det", torch.linalg.det, "the determinants")
inv = _of_matrices("inv", torch.linalg.inv, "the inverses")
eig = _of_matrices("eig", lambda x: tuple(torch.linalg.eig(x)), "eigenvalues and eigenvectors")
eigh = _of_matrices("eigh", lambda x: tuple(torch.linalg.eigh(x)), "eigenvalues and eigenvectors, for symmetric ones,")
slogdet = _of_matrices("slogdet", lambda x: tuple(torch.linalg.slogdet(x)), "sign and logarithm of the determinants")
logdet = _of_matrices("logdet", torch.logdet, "the logarithms of the determinants")
lu_factor = _of_matrices("lu_factor", lambda x: _zero_based(*torch.linalg.lu_factor(x)), "the LU decompositions")


def _zero_based(lu: torch.Tensor, pivots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return lu, pivots - 1


@op
def cholesky(x: Any, upper: bool = False) -> torch.Tensor:
    """Returns the Cholesky factors of positive definite matrices."""
    return torch.linalg.cholesky(floating(x), upper=upper)


@op
def cholesky_inverse(x: Any, upper: bool = False) -> torch.Tensor:
    """Returns the inverses of the matrices whose Cholesky factors are given."""
    return torch.cholesky_inverse(floating(x), upper=upper)


@op
def qr(x: Any, mode: str = "reduced") -> tuple[torch.Tensor, torch.Tensor]:
    """Returns Q and R of the QR decomposition; mode is "reduced" or "complete"."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: mode must be 'reduced' or 'complete'. Received: mode={mode!r}")
    q, r = torch.linalg.qr(floating(x), mode)
    return q, r


@op
def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Returns U, S and Vh of the singular value decomposition, or S alone."""
    x = floating(x)
    return tuple(torch.linalg.svd(x, full_matrices)) if compute_uv else torch.linalg.svdvals(x)


@op
def solve(a: Any, b: Any) -> torch.Tensor:
    """Returns x such that `a @ x == b`.

    >>> solve([[2.0]], [[4.0]]).tolist()
    [[2.0]]
    """
    a, b = floating(a), floating(b)
    return torch.linalg.solve(a, b.unsqueeze(-1)).squeeze(-1) if b.ndim == a.ndim - 1 else torch.linalg.solve(a, b)


@op
def solve_triangular(a: Any, b: Any, lower: bool = False) -> torch.Tensor:
    """Returns x such that `a @ x == b`, for triangular a."""
    a, b = floating(a), floating(b)
    if b.ndim == a.ndim - 1:
        return torch.linalg.solve_triangular(a, b.unsqueeze(-1), upper=not lower).squeeze(-1)
    return torch.linalg.solve_triangular(a, b, upper=not lower)


@op
def lstsq(a: Any, b: Any, rcond: float | None = None) -> torch.Tensor:
    """Returns x for which `a @ x` comes nearest to b."""
    a, b = floating(a), floating(b)
    solution = pinv(a, rcond) @ (b.unsqueeze(-1) if b.ndim == 1 else b)
    return solution.squeeze(-1) if b.ndim == 1 else solution


@op
def pinv(x: Any, rcond: float | None = None) -> torch.Tensor:
    """Returns the pseudo-inverses."""
    x = floating(x)
    return torch.linalg.pinv(x, rcond) if rcond is not None else torch.linalg.pinv(x)


@op
def matrix_rank(x: Any, tol: float | None = None) -> torch.Tensor:
    """Returns the ranks of matrices, as int32."""
    return torch.linalg.matrix_rank(floating(x), atol=tol, rtol=None if tol is None else 0.0).to(torch.int32)


@op
def cdist(x: Any, y: Any) -> torch.Tensor:
    """Returns the distances between all rows of x and all rows of y."""
    return torch.cdist(floating(x), floating(y))


@op
def corrcoef(x: Any) -> torch.Tensor:
    """Returns the correlations between the rows of a matrix."""
    return torch.corrcoef(floating(x))


@op
def diff(a: Any, n: int = 1, axis: int = -1) -> torch.Tensor:
    """Returns the differences of neighbours along an axis, n times.

    >>> diff([1, 4, 9]).tolist()
    [3, 5]
    """
    return torch.diff(tensor(a), n, axis)


@op
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> torch.Tensor:
    """Returns the area under a curve along an axis."""
    y = floating(y)
    return torch.trapezoid(y, dx=dx, dim=axis) if x is None else torch.trapezoid(y, floating(x), dim=axis)


@op
def correlate(x1: Any, x2: Any, mode: str = "valid") -> torch.Tensor:
    """Returns the cross-correlation of two vectors; mode is "valid", "same" or "full".

    >>> correlate([1.0, 2.0, 3.0], [0.0, 1.0]).tolist()
    [2.0, 3.0]
    """
    x1, x2 = (floating(x) for x in _matched(x1, x2))
    long, short = x1.shape[0], x2.shape[0]
    swapped = short > long
    if swapped:
        x1, x2, long, short = x2, x1, short, long
    before, after = {"valid": (0, 0), "full": (short - 1, short - 1), "same": (short // 2, (short - 1) // 2)}[mode]
    if swapped and mode == "same":
        before, after = after, before
    padded = pad(x1, (before, after))
    result = torch.nn.functional.conv1d(padded[None, None], x2[None, None])[0, 0]
    return result.flip(0) if swapped else result


def jvp(fun: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """Returns a function's value and its derivative in a direction.

    >>> [v.item() for v in jvp(lambda x: x * x, (torch.tensor(3.0),), (torch.tensor(1.0),))]
    [9.0, 6.0]
    """
    return torch.func.jvp(fun, tuple(map(floating, primals)), tuple(map(floating, tangents)), has_aux=has_aux)
