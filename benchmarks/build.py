"""Building, summarising and drawing: the text's models and long ones. `python benchmarks/build.py`"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import hornbeam as keras
from hornbeam import layers


def conv_block(x, filters):
    return torch.relu(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))


def inception():
    inputs = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D(3)(conv_block(inputs, 32))
    for filters in (32, 64):
        x = layers.concatenate([conv_block(x, filters), conv_block(x, filters)])
    x = layers.GlobalAveragePooling2D()(conv_block(x, 128))
    x = layers.Dropout(0.5)(layers.Dense(256, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(10)(x), name="final_model")


def image_and_text():
    images = keras.Sequential(
        [layers.Conv2D(128, (3, 3), activation="relu", input_shape=(299, 299, 3)), layers.MaxPooling2D(), layers.Flatten()]
    )
    picture, words = layers.Input(shape=(299, 299, 3)), layers.Input(shape=(200,), dtype="int32", name="context")
    encoded = layers.LSTM(128)(layers.Embedding(input_dim=5000, output_dim=512, input_length=200)(words))
    merged = layers.concatenate([images(picture), encoded])
    return keras.Model(inputs=[picture, words], outputs=layers.Dense(512, activation="softmax")(merged))


def chain(length):
    inputs = x = keras.Input((8,))
    for _ in range(length):
        x = layers.Dense(8)(x)
    return keras.Model(inputs, x)


def residual(blocks):
    inputs = x = keras.Input((8, 8, 16))
    for _ in range(blocks):
        h = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x))
        x = layers.Add()([x, layers.ReLU()(h)])
    return keras.Model(inputs, x)


def drawn(model):
    return lambda: keras.utils.plot_model(model, to_file=None).svg


def timed(function, repeats=9):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3, min(times) * 1e3, result


def silent(model):
    return lambda: model.summary(print_fn=lambda text: None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    timed(lambda: silent(inception())(), 2)
    rows = [("inception: build", *timed(inception)[:2])]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    median, best, model = timed(image_and_text)
    rows += [
        ("image and text (1.44 billion weights): build", median, best),
        ("image and text: summary", *timed(silent(model))[:2]),
    ]
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    median, best, long = timed(lambda: chain(1500), 3)
    rows += [("chain of 1,500 calls: build", median, best), ("chain of 1,500 calls: summary", *timed(silent(long), 3)[:2])]
    for name, make in (("chain of 1,000 layers", lambda: chain(1000)), ("residual model of 1,000 layers", lambda: residual(250))):
        median, best, model_of = timed(make, 3)
        rows += [(f"{name}: build", median, best), (f"{name}: summary", *timed(silent(model_of), 3)[:2])]
        rows += [(f"{name}: SVG", *timed(drawn(model_of), 3)[:2])]
    print(f"{'':50s} {'median ms':>10s} {'best ms':>10s}")
    for name, median, best in rows:
        print(f"{name:50s} {median:10.1f} {best:10.1f}")
    print(f"image and text: {model.count_params():,} weights, {memory:.1f} MB more at the peak")
