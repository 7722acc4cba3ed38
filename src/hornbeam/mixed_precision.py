"""Dtype policies under the names of `keras.mixed_precision`."""

from hornbeam.core.dtype import DTypePolicy as DTypePolicy
from hornbeam.core.dtype import DTypePolicy as Policy  # noqa: F401
from hornbeam.core.dtype import dtype_policy as dtype_policy
from hornbeam.core.dtype import dtype_policy as global_policy  # noqa: F401
from hornbeam.core.dtype import set_dtype_policy as set_dtype_policy
from hornbeam.core.dtype import set_dtype_policy as set_global_policy  # noqa: F401
