"""Attention: MultiHeadAttention and GroupQueryAttention with projections, Attention and AdditiveAttention without."""

from __future__ import annotations

import functools
from typing import Any

import torch

from hornbeam import constraints, initializers, regularizers
from hornbeam.core.errors import bad_argument, describe
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.graph.errors import shape_of
from hornbeam.layers.attention_core import attend, position_mask
from hornbeam.layers.dropping import dropped
from hornbeam.layers.einsum_dense import EinsumDense
from hornbeam.layers.regularization import RandomLayer

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class HeadsAttention(RandomLayer):
    """What attention with heads shares: the projections to and from heads, and the masks."""

    def __init__(
        self, dropout: float, use_bias: bool, sliding_window: int | None, flash_attention: bool | None, kernel_initializer: Any,
        bias_initializer: Any, kernel_regularizer: Any, bias_regularizer: Any, activity_regularizer: Any, kernel_constraint: Any,
        bias_constraint: Any, use_gate: bool, seed: int | None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(seed, **kwargs)
        if sliding_window is not None and not _is_size(sliding_window):
            raise bad_argument(self, "sliding_window", "a positive integer or None", sliding_window)
        self.dropout, self.use_bias, self.use_gate = self._fraction("dropout", dropout), use_bias, use_gate
        self.sliding_window, self.flash_attention = sliding_window, flash_attention
        self._penalty = regularizers.get(activity_regularizer)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)

    def _dense(self, name: str, rank: int, summed: int, made: tuple[int, ...]) -> EinsumDense:
        """A projection of inputs of a rank: the last `summed` axes give way to new ones of the sizes `made`."""
        x, new = _LETTERS[:rank], _LETTERS[rank : rank + len(made)]
        kept = x[: rank - summed]
        shape = (*(None for _ in kept[1:]), *made)
        copies = {k: _copy(getattr(self, k)) for k in ("kernel_initializer", "bias_initializer")}
        same = {k: getattr(self, k) for k in ("kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint")}
        return EinsumDense(
            f"{x},{x[rank - summed :]}{new}->{kept}{new}", shape, bias_axes=new if self.use_bias else None, **copies, **same,
            activity_regularizer=self._penalty, dtype=self.dtype_policy, trainable=self.trainable, name=name,
        )  # fmt: skip

    def _masks(
        self, query: torch.Tensor, value: torch.Tensor, masks: list[torch.Tensor | None], attention_mask: Any, causal: bool
    ) -> tuple[torch.Tensor | None, bool]:
        """The masks of query `(B, T)` and of keys `(B, S)`, a given one, and that of positions, as one `(B, T, S)` or None.

        A causal mask that stands alone is not made: the second value says that it is meant.
        """
        query_mask, *key_masks = masks
        found = [] if query_mask is None else [query_mask.bool().unsqueeze(-1)]
        found += [m.bool().unsqueeze(-2) for m in key_masks if m is not None]
        if attention_mask is not None:
            found.append(torch.as_tensor(attention_mask).bool())
        if causal and not found and self.sliding_window is None:
            return None, True
        if causal or self.sliding_window is not None:
            found.append(position_mask(query.shape[1], value.shape[1], causal, self.sliding_window, query.device).unsqueeze(0))
        return functools.reduce(torch.logical_and, found) if found else None, False

    def _config_value(self, name: str) -> Any:
        return super()._config_value("_penalty" if name == "activity_regularizer" else name)

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shapes the layer was built for."""
        shapes = self._build_shapes
        if not self.built or not shapes:
            return None
        names = ("query_shape", "value_shape", "key_shape")
        return {"shapes_dict": {k: s for k, s in zip(names, shapes, strict=False) if s is not None}}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer for the shapes that `get_build_config` returned."""
        self.build(**{k: tuple(s) for k, s in config["shapes_dict"].items()})


def _check_lengths(layer: Layer, value: torch.Tensor, key: torch.Tensor | None) -> None:
    """Raises where there are not as many keys as values."""
    if key is not None and value.shape[:-1] != key.shape[:-1]:
        shown = f"value of shape {shape_of(value)}, key of shape {shape_of(key)}"
        raise ValueError(f"Layer {layer.name!r} ({type(layer).__name__}) takes one key for each value. Received: {shown}.")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _copy(initializer: Any) -> Any:
    """A second initializer of the same config: projections do not begin with equal values."""
    return type(initializer).from_config(initializer.get_config()) if hasattr(initializer, "get_config") else initializer


@public("keras.layers.MultiHeadAttention")
class MultiHeadAttention(HeadsAttention):
    """Attention in several heads: `softmax(q kᵀ / √key_dim) v` for projections q, k, v of the inputs (Vaswani et al., 2017).

    Args:
        num_heads: number of heads.
        key_dim: size of each head's queries and keys.
        value_dim: size of each head's values; `key_dim` unless given.
        dropout: share of the attention weights that is dropped in training.
        use_bias: whether the projections have a bias.
        output_shape: sizes of the output's last axes; the query's last size unless given.
        attention_axes: axes along which there is attention; all between batch and features unless given.
        sliding_window: how many neighbours a position sees to each side, itself included; all unless given.
        flash_attention: kept for Keras's signature: torch chooses the kernel.
        kernel_initializer, bias_initializer: by name or object.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties of the projections, by name or object.
        kernel_constraint, bias_constraint: projections after each update, by name or object.
        use_gate: whether the heads' outputs are multiplied by `sigmoid` of one more projection of the query.
        seed: seed of the dropout; torch's default generator unless given.

    Input shape: query `(batch, T, features)`, value and key `(batch, S, features)`. Output shape: `(batch, T, features)`.

    >>> x = torch.ones(2, 5, 8)
    >>> MultiHeadAttention(num_heads=2, key_dim=4)(x, x).shape
    torch.Size([2, 5, 8])
    """

    config_exclude = ("flash_attention", *(n for n in Layer.config_exclude if n != "activity_regularizer"))

    def __init__(
self, num_heads: int, key_dim: int, value_dim: int | None = None, dropout: float = 0.0, use_bias: bool = True,
output_shape: Any = None, attention_axes: Any = None, sliding_window: int | None = None, flash_attention: bool | None = None,
kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
use_gate: bool = False, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            dropout, use_bias, sliding_window, flash_attention, kernel_initializer, bias_initializer, kernel_regularizer,
            bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, use_gate, seed, **kwargs,
        )  # fmt: skip
        value_dim = key_dim if value_dim is None else value_dim
        for name, size in (("num_heads", num_heads), ("key_dim", key_dim), ("value_dim", value_dim)):
            if not _is_size(size):
                raise bad_argument(self, name, "a positive integer", size)
            setattr(self, name, size)
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape and tuple(output_shape)
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes and tuple(attention_axes)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:  # type: ignore[override]
        """Makes the projections of query, key and value, and of what comes out."""
        query_rank, heads = len(query_shape), self.num_heads
        self.attention_axes = self.attention_axes or tuple(range(1, query_rank - 1))
        self.query_dense = self._dense("query", query_rank, 1, (heads, self.key_dim))
        self.key_dense = self._dense("key", len(value_shape if key_shape is None else key_shape), 1, (heads, self.key_dim))
        self._gate_dense = self._dense("gate", query_rank, 1, (heads, self.value_dim)) if self.use_gate else None
        self.value_dense = self._dense("value", len(value_shape), 1, (heads, self.value_dim))
        self.output_dense = self._dense("attention_output", query_rank + 1, 2, self.output_shape or (query_shape[-1],))
        self.query_dense.build(query_shape)
        self.key_dense.build(value_shape if key_shape is None else key_shape)
        if self._gate_dense is not None:
            self._gate_dense.build(query_shape)
        self.value_dense.build(value_shape)
        self.output_dense.build((*tuple(query_shape)[:-1], heads, self.value_dim))

    def call(
        self, query: torch.Tensor, value: torch.Tensor, key: torch.Tensor | None = None, query_mask: Any = None,
        value_mask: Any = None, key_mask: Any = None, attention_mask: Any = None, return_attention_scores: bool = False,
        training: bool | None = None, use_causal_mask: bool = False,
    ) -> Any:  # fmt: skip
        """Returns the output, and with `return_attention_scores` the weights `(batch, heads, T, S)`."""
        _check_lengths(self, value, key)
        masks = self._masks(query, value, [query_mask, value_mask, key_mask], attention_mask, use_causal_mask)
        q, k, v = self.query_dense(query), self.key_dense(value if key is None else key), self.value_dense(value)
        y, scores = attend(self, q, k, v, *masks, self.attention_axes, bool(training), return_attention_scores)
        if self._gate_dense is not None:
            y = y * torch.sigmoid(self._gate_dense(query))
        y = self.output_dense(y)
        return (y, scores) if return_attention_scores else y


@public("keras.layers.GroupQueryAttention")
class GroupedQueryAttention(HeadsAttention):
    """Attention in which several query heads share the keys and values of one (Ainslie et al., 2023).

    Args:
        head_dim: size of each head.
        num_query_heads: number of query heads.
        num_key_value_heads: number of heads of keys and values; it divides `num_query_heads`.
        dropout: share of the attention weights that is dropped in training.
        use_bias: whether the projections have a bias.
        sliding_window: how many neighbours a position sees to each side, itself included; all unless given.
        flash_attention: kept for Keras's signature: torch chooses the kernel.
        kernel_initializer, bias_initializer: by name or object.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, by name or object.
        kernel_constraint, bias_constraint: projections after each update, by name or object.
        use_gate: whether the heads' outputs are multiplied by `sigmoid` of one more projection of the query.
        seed: seed of the dropout; torch's default generator unless given.

    Input shape: query `(batch, T, features)`, value and key `(batch, S, features)`. Output shape: `(batch, T, features)`.

    >>> x = torch.ones(2, 5, 8)
    >>> GroupedQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)(x, x).shape
    torch.Size([2, 5, 8])
    """

    config_exclude = ("flash_attention", *(n for n in Layer.config_exclude if n != "activity_regularizer"))

    def __init__(
self, head_dim: int, num_query_heads: int, num_key_value_heads: int, dropout: float = 0.0, use_bias: bool = True,
sliding_window: int | None = None, flash_attention: bool | None = None, kernel_initializer: Any = "glorot_uniform",
bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
kernel_constraint: Any = None, bias_constraint: Any = None, use_gate: bool = False, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            dropout, use_bias, sliding_window, flash_attention, kernel_initializer, bias_initializer, kernel_regularizer,
            bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, use_gate, seed, **kwargs,
        )  # fmt: skip
        self.activity_regularizer = self._penalty
        self.head_dim, self.num_query_heads, self.num_key_value_heads = head_dim, num_query_heads, num_key_value_heads
        if num_query_heads % num_key_value_heads:
            expected = f"a multiple of num_key_value_heads={num_key_value_heads}"
            raise bad_argument(self, "num_query_heads", expected, num_query_heads)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:  # type: ignore[override]
        """Makes the projections of query, key and value, and of what comes out."""
        heads, shared, size = self.num_query_heads, self.num_key_value_heads, self.head_dim
        self._query_dense = self._dense("query", 3, 1, (heads, size))
        self._key_dense = self._dense("key", 3, 1, (shared, size))
        self._gate_dense = self._dense("gate", 3, 1, (heads, size)) if self.use_gate else None
        self._value_dense = self._dense("value", 3, 1, (shared, size))
        self._output_dense = self._dense("attention_output", 4, 2, (query_shape[-1],))
        self._query_dense.build(query_shape)
        self._key_dense.build(value_shape if key_shape is None else key_shape)
        if self._gate_dense is not None:
            self._gate_dense.build(query_shape)
        self._value_dense.build(value_shape)
        self._output_dense.build((*tuple(query_shape)[:-1], heads, size))

    def call(
        self, query: torch.Tensor, value: torch.Tensor, key: torch.Tensor | None = None, query_mask: Any = None,
        value_mask: Any = None, key_mask: Any = None, attention_mask: Any = None, return_attention_scores: bool = False,
        training: bool | None = None, use_causal_mask: bool = False,
    ) -> Any:  # fmt: skip
        """Returns the output, and with `return_attention_scores` the weights `(batch, query heads, T, S)`."""
        _check_lengths(self, value, key)
        masks = self._masks(query, value, [query_mask, value_mask, key_mask], attention_mask, use_causal_mask)
        repeats = self.num_query_heads // self.num_key_value_heads
        q, k, v = self._query_dense(query), self._key_dense(value if key is None else key), self._value_dense(value)
        k, v = k.repeat_interleave(repeats, -2), v.repeat_interleave(repeats, -2)
        y, scores = attend(self, q, k, v, *masks, (1,), bool(training), return_attention_scores)
        if self._gate_dense is not None:
            y = y * torch.sigmoid(self._gate_dense(query))
        y = self._output_dense(y)
        return (y, scores) if return_attention_scores else y


GroupQueryAttention = GroupedQueryAttention


@public("keras.layers.Attention")
class Attention(RandomLayer):
    """Attention without projections, on a list [query, value] or [query, value, key] (Luong et al., 2015).

    Args:
        use_scale: whether the scores are multiplied by a weight.
        score_mode: "dot" for `q · k`, "concat" for `w Σ tanh(q + k)`.
        dropout: share of the attention weights that is dropped in training.
        seed: seed of the dropout; torch's default generator unless given.

    Input shape: query `(batch, T, features)`, value and key `(batch, S, features)`. Output shape: `(batch, T, features)`.

    >>> Attention()([torch.ones(2, 5, 8), torch.ones(2, 3, 8)]).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        if score_mode not in ("dot", "concat"):
            raise bad_argument(self, "score_mode", "'dot' or 'concat'", score_mode)
        self.use_scale, self.score_mode, self.dropout = use_scale, score_mode, self._fraction("dropout", dropout)

    def build(self, input_shape: Any) -> None:
        """Makes the scalar weights, as far as the options ask for them."""
        self._check_inputs(input_shape)
        self.scale = self.add_weight((), "ones", name="scale") if self.use_scale else None
        concat = self.score_mode == "concat"
        self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight") if concat else None

    def _check_inputs(self, inputs: Any) -> None:
        nested = isinstance(inputs, (list, tuple)) and len(inputs) > 0 and not (inputs[0] is None or isinstance(inputs[0], int))
        if not nested or len(inputs) not in (2, 3):
            received = f"{len(inputs)} input(s)" if nested else "one tensor"
            raise ValueError(
                f"{type(self).__name__} layer {self.name!r} is called on a list, [query, value] or [query, value, key]. "
                f"Received: {received}."
            )

    def call(
        self, inputs: Any, mask: Any = None, training: bool | None = False, return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:  # fmt: skip
        """Returns the output, and with `return_attention_scores` the weights `(batch, T, S)`."""
        self._check_inputs(inputs)
        query_mask, value_mask = self._masks(mask)
        query, value = inputs[0], inputs[1]
        scores = self._scores(query, inputs[2] if len(inputs) == 3 else value)
        seen = None if value_mask is None else value_mask.unsqueeze(-2)
        if use_causal_mask:
            causal = position_mask(query.shape[1], value.shape[1], True, None, query.device).unsqueeze(0)
            seen = causal if seen is None else seen & causal
        if seen is not None:
            scores = scores - (6e4 if scores.dtype is torch.float16 else 1e9) * (~seen).to(scores.dtype)
        weights = scores.softmax(-1)
        if training and self.dropout:
            weights = dropped(self, weights, self.dropout)
        y = weights @ value
        if query_mask is not None:
            y = y * query_mask.unsqueeze(-1)
        return (y, weights) if return_attention_scores else y

    def _masks(self, mask: Any) -> list[torch.Tensor | None]:
        if mask is None:
            return [None, None]
        if not isinstance(mask, (list, tuple)) or len(mask) not in (2, 3):
            raise ValueError(
                f"{type(self).__name__} layer {self.name!r} takes its masks as a list, [query_mask, value_mask]. "
                f"Received: {describe(mask)}"
            )
        return [None if m is None else torch.as_tensor(m).bool() for m in mask[:2]]

    def _scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        if self.score_mode == "dot":
            scores = query @ key.transpose(-1, -2)
            return scores if self.scale is None else scores * self.scale
        both = query.unsqueeze(-2) + key.unsqueeze(-3)
        return (both if self.scale is None else both * self.scale).tanh().sum(-1) * self.concat_score_weight  # type: ignore[operator]

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the query's mask."""
        return None if mask is None or mask[0] is None else mask[0]


@public("keras.layers.AdditiveAttention")
class AdditiveAttention(Attention):
    """Attention with the scores `Σ scale tanh(q + k)`, on a list [query, value] or [query, value, key] (Bahdanau et al., 2014).

    Args:
        use_scale: whether there is a weight `scale` of the features' size.
        dropout: share of the attention weights that is dropped in training.

    Input shape: query `(batch, T, features)`, value and key `(batch, S, features)`. Output shape: `(batch, T, features)`.

    >>> AdditiveAttention()([torch.ones(2, 5, 8), torch.ones(2, 3, 8)]).shape
    torch.Size([2, 5, 8])
    """

    config_exclude = ("score_mode", *Attention.config_exclude)

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Makes the weight `scale` of shape `(features,)`."""
        self._check_inputs(input_shape)
        features = input_shape[0][-1]
        self.scale = self.add_weight((features,), "glorot_uniform", name="scale") if self.use_scale else None

    def _scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        both = (query.unsqueeze(-2) + key.unsqueeze(-3)).tanh()
        return both.sum(-1) if self.scale is None else both @ self.scale
