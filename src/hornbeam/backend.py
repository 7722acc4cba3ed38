"""The few functions of `keras.backend` that Keras 3 still has."""

from hornbeam.config import epsilon as epsilon
from hornbeam.config import floatx as floatx
from hornbeam.config import image_data_format as image_data_format
from hornbeam.config import set_epsilon as set_epsilon
from hornbeam.config import set_floatx as set_floatx
from hornbeam.config import set_image_data_format as set_image_data_format
from hornbeam.dtype_policies import DTypePolicy as DTypePolicy
from hornbeam.utils import clear_session as clear_session
from hornbeam.utils import is_keras_tensor as is_keras_tensor
from hornbeam.utils import standardize_dtype as standardize_dtype


def backend() -> str:
    """Returns "torch", the one engine there is."""
    return "torch"
