"""Sequences of different lengths, under the names of `keras.preprocessing.sequence`."""

from hornbeam.utils.sequences import pad_sequences as pad_sequences
