"""Data sets and their helpers under the names of `keras.preprocessing`; `hornbeam.utils` has the same."""

from hornbeam.preprocessing import image as image
from hornbeam.preprocessing import sequence as sequence
from hornbeam.utils.image_dataset import image_dataset_from_directory as image_dataset_from_directory
from hornbeam.utils.text_dataset import text_dataset_from_directory as text_dataset_from_directory
from hornbeam.utils.timeseries import timeseries_dataset_from_array as timeseries_dataset_from_array
