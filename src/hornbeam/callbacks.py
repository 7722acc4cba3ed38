"""Callbacks, as `keras.callbacks` has them."""

from hornbeam.training.callbacks import *
