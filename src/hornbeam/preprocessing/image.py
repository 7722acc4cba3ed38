"""Pictures, arrays and files turned into each other, under the names of `keras.preprocessing.image`."""

from hornbeam.utils.images import array_to_img as array_to_img
from hornbeam.utils.images import img_to_array as img_to_array
from hornbeam.utils.images import load_img as load_img
from hornbeam.utils.images import save_img as save_img
from hornbeam.utils.images import smart_resize as smart_resize
