"""Dtype policies, as `keras.dtype_policies` has them."""

from __future__ import annotations

from typing import Any

from hornbeam.core import registry
from hornbeam.core.dtype import DTypePolicy as DTypePolicy
from hornbeam.core.dtype import get_policy

FloatDTypePolicy = DTypePolicy


def get(identifier: Any) -> DTypePolicy:
    """Returns the policy for a name, a dtype, a config or a policy.

    >>> get("mixed_bfloat16").compute_dtype
    'bfloat16'
    """
    return get_policy(identifier)


def serialize(policy: DTypePolicy) -> dict[str, Any]:
    """Returns a policy's config."""
    return registry.serialize_keras_object(policy)


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> DTypePolicy:
    """Returns the policy that a config describes."""
    return registry.deserialize_keras_object(config, custom_objects)
