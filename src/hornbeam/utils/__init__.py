"""The helpers that Keras exports from `keras.utils`. What draws pictures is loaded when it is first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from hornbeam.core.dtype import standardize_dtype as standardize_dtype
from hornbeam.core.random import set_random_seed as set_random_seed
from hornbeam.core.registry import custom_object_scope as custom_object_scope
from hornbeam.core.registry import deserialize_keras_object as deserialize_keras_object
from hornbeam.core.registry import get_custom_objects as get_custom_objects
from hornbeam.core.registry import get_registered_name as get_registered_name
from hornbeam.core.registry import get_registered_object as get_registered_object
from hornbeam.core.registry import register_keras_serializable as register_keras_serializable
from hornbeam.core.registry import serialize_keras_object as serialize_keras_object
from hornbeam.core.settings import disable_interactive_logging as disable_interactive_logging
from hornbeam.core.settings import enable_interactive_logging as enable_interactive_logging
from hornbeam.core.settings import is_interactive_logging_enabled as is_interactive_logging_enabled
from hornbeam.training.pydataset import PyDataset as PyDataset
from hornbeam.utils.arrays import normalize as normalize
from hornbeam.utils.arrays import pack_x_y_sample_weight as pack_x_y_sample_weight
from hornbeam.utils.arrays import to_categorical as to_categorical
from hornbeam.utils.arrays import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from hornbeam.utils.audio_dataset import audio_dataset_from_directory as audio_dataset_from_directory
from hornbeam.utils.dataset import Dataset as Dataset
from hornbeam.utils.dataset_split import split_dataset as split_dataset
from hornbeam.utils.image_dataset import image_dataset_from_directory as image_dataset_from_directory
from hornbeam.utils.images import array_to_img as array_to_img
from hornbeam.utils.images import img_to_array as img_to_array
from hornbeam.utils.images import load_img as load_img
from hornbeam.utils.images import save_img as save_img
from hornbeam.utils.sequences import pad_sequences as pad_sequences
from hornbeam.utils.sessions import clear_session as clear_session
from hornbeam.utils.sessions import get_source_inputs as get_source_inputs
from hornbeam.utils.sessions import is_keras_tensor as is_keras_tensor
from hornbeam.utils.text_dataset import text_dataset_from_directory as text_dataset_from_directory
from hornbeam.utils.timeseries import timeseries_dataset_from_array as timeseries_dataset_from_array

if TYPE_CHECKING:
    from hornbeam.inspect.history import plot_history as plot_history
    from hornbeam.inspect.plot import model_to_dot as model_to_dot
    from hornbeam.inspect.plot import plot_model as plot_model
    from hornbeam.training.finders import find_batch_size as find_batch_size
    from hornbeam.training.finders import find_learning_rate as find_learning_rate
    from hornbeam.training.finders import lr_find as lr_find
    from hornbeam.training.finders import scale_batch_size as scale_batch_size
    from hornbeam.utils import vis_utils as vis_utils

CustomObjectScope = custom_object_scope
Sequence = PyDataset
_LAZY = {
    "find_batch_size": "hornbeam.training.finders",
    "find_learning_rate": "hornbeam.training.finders",
    "lr_find": "hornbeam.training.finders",
    "model_to_dot": "hornbeam.inspect.plot",
    "plot_history": "hornbeam.inspect.history",
    "plot_model": "hornbeam.inspect.plot",
    "scale_batch_size": "hornbeam.training.finders",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name == "vis_utils":
        return importlib.import_module("hornbeam.utils.vis_utils")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "vis_utils"})
