"""Names of custom objects, and objects to configs and back."""

from hornbeam.core.registry import custom_object_scope as custom_object_scope
from hornbeam.core.registry import deserialize_keras_object as deserialize_keras_object
from hornbeam.core.registry import get_custom_objects as get_custom_objects
from hornbeam.core.registry import get_registered_name as get_registered_name
from hornbeam.core.registry import get_registered_object as get_registered_object
from hornbeam.core.registry import register_keras_serializable as register_keras_serializable
from hornbeam.core.registry import serialize_keras_object as serialize_keras_object

CustomObjectScope = custom_object_scope
