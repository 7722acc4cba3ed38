"""Process-wide settings, as `keras.config` has them."""

from hornbeam.core.dtype import dtype_policy as dtype_policy
from hornbeam.core.dtype import set_dtype_policy as set_dtype_policy
from hornbeam.core.settings import disable_interactive_logging as disable_interactive_logging
from hornbeam.core.settings import disable_traceback_filtering as disable_traceback_filtering
from hornbeam.core.settings import enable_interactive_logging as enable_interactive_logging
from hornbeam.core.settings import enable_traceback_filtering as enable_traceback_filtering
from hornbeam.core.settings import epsilon as epsilon
from hornbeam.core.settings import floatx as floatx
from hornbeam.core.settings import image_data_format as image_data_format
from hornbeam.core.settings import is_interactive_logging_enabled as is_interactive_logging_enabled
from hornbeam.core.settings import is_traceback_filtering_enabled as is_traceback_filtering_enabled
from hornbeam.core.settings import max_epochs as max_epochs
from hornbeam.core.settings import max_steps_per_epoch as max_steps_per_epoch
from hornbeam.core.settings import set_epsilon as set_epsilon
from hornbeam.core.settings import set_floatx as set_floatx
from hornbeam.core.settings import set_image_data_format as set_image_data_format
from hornbeam.core.settings import set_max_epochs as set_max_epochs
from hornbeam.core.settings import set_max_steps_per_epoch as set_max_steps_per_epoch


def backend() -> str:
    """Returns "torch", the one engine there is.

    >>> backend()
    'torch'
    """
    return "torch"
