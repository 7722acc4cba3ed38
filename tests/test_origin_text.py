"""The course text that Hornbeam began with, cell by cell: its imports changed, and `tf.nn.relu` spelt `torch.relu`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import hornbeam as keras

IMPORTS = """
import hornbeam as keras
import torch
from hornbeam import layers
from hornbeam.layers import Conv2D, BatchNormalization
"""

SEQUENTIAL_LIST = """
model = keras.Sequential([
    layers.Dense(16, activation="relu", name="layer1"),
    layers.Dense(8, activation="relu", name="layer2"),
    layers.Dense(4, name="layer3")])
"""

SEQUENTIAL_ADD = """
model = keras.Sequential()
model.add(layers.Dense(16, activation="relu", name="layer1"))
model.add(layers.Dense(8, activation="relu", name="layer2"))
model.add(layers.Dense(4, name="layer3"))
"""

IMAGE_AND_TEXT = """
image_model = keras.Sequential([
    layers.Conv2D(128, (3,3), activation='relu', input_shape=(299,299,3)),
    layers.MaxPooling2D(),
    layers.Flatten()
])

img_input = layers.Input(shape=(299,299,3))
encoded_image = image_model(img_input)

txt_input = layers.Input(shape=(200,), dtype='int32', name='context')
embed_output = layers.Embedding(input_dim=5000, output_dim=512, input_length=200)(txt_input)
encoded_txt = layers.LSTM(128)(embed_output)

concat = layers.concatenate([encoded_image, encoded_txt])
output_class = layers.Dense(512, activation='softmax')(concat)
final_model = keras.Model(inputs=[img_input, txt_input], outputs = output_class)
"""

BLOCKS = """
def CNN_block(x,filters, kernel_size=3, padding="same"):
    x = Conv2D(filters, (3,3), padding=padding)(x)
    x = BatchNormalization()(x)
    return torch.relu(x)

def inception_block(x, filter1, filter2):
    conv1 = CNN_block(x, filter1)
    conv2 = CNN_block(x, filter2)
    x = keras.layers.concatenate([conv1, conv2])
    return x
"""

INCEPTION = """
inputs = keras.Input(shape=(28, 28, 1))
x = CNN_block(inputs,32)
x = layers.MaxPooling2D(3)(x)
x = inception_block(x,32, 32)
x = inception_block(x,64, 64)
x = CNN_block(x,128)
x = layers.GlobalAveragePooling2D()(x)
x = layers.Dense(256, activation="relu")(x)
x = layers.Dropout(0.5)(x)
outputs = layers.Dense(10)(x)
model = keras.Model(inputs, outputs, name="final_model")
model.summary()
"""

# rows of tf.keras's own summary of this model: class, output shape, parameters
INCEPTION_ROWS = [
    ("InputLayer", (28, 28, 1), 0), ("Conv2D", (28, 28, 32), 320), ("BatchNormalization", (28, 28, 32), 128),
    ("relu", (28, 28, 32), 0), ("MaxPooling2D", (9, 9, 32), 0), ("Conv2D", (9, 9, 32), 9248), ("Conv2D", (9, 9, 32), 9248),
    ("BatchNormalization", (9, 9, 32), 128), ("BatchNormalization", (9, 9, 32), 128), ("relu", (9, 9, 32), 0),
    ("relu", (9, 9, 32), 0), ("Concatenate", (9, 9, 64), 0), ("Conv2D", (9, 9, 64), 36928), ("Conv2D", (9, 9, 64), 36928),
    ("BatchNormalization", (9, 9, 64), 256), ("BatchNormalization", (9, 9, 64), 256), ("relu", (9, 9, 64), 0),
    ("relu", (9, 9, 64), 0), ("Concatenate", (9, 9, 128), 0), ("Conv2D", (9, 9, 128), 147584),
    ("BatchNormalization", (9, 9, 128), 512), ("relu", (9, 9, 128), 0), ("GlobalAveragePooling2D", (128,), 0),
    ("Dense", (256,), 33024), ("Dropout", (256,), 0), ("Dense", (10,), 2570),
]  # fmt: skip


def run(*cells: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for cell in (IMPORTS, *cells):
        exec(compile(cell, "<cell>", "exec"), names)
    return names


@pytest.mark.parametrize("cell", [SEQUENTIAL_LIST, SEQUENTIAL_ADD])
def test_sequential(cell: str) -> None:
    model = run(cell)["model"]
    assert model(torch.ones(2, 32)).shape == (2, 4)
    assert list(model.state_dict()) == [f"layer{i}.{w}" for i in (1, 2, 3) for w in ("kernel", "bias")]
    assert model.count_params() == 32 * 16 + 16 + 16 * 8 + 8 + 8 * 4 + 4


def test_image_and_text_takes_no_memory(capsys: pytest.CaptureFixture[str]) -> None:
    model = run(IMAGE_AND_TEXT)["final_model"]
    model.summary()
    assert "1,438,458,368" in capsys.readouterr().out
    assert model.count_params() == 1_438_458_368
    assert model.output_shape == (None, 512)
    assert all(p.untyped_storage().nbytes() <= 8 for p in dict.values(model.layers[-1].__dict__["_parameters"]))


def test_inception_summary_has_the_rows_of_tf_keras(capsys: pytest.CaptureFixture[str]) -> None:
    from hornbeam.inspect.table import rows_of

    model = run(BLOCKS, INCEPTION)["model"]
    printed = capsys.readouterr().out
    for total in ("277,258", "276,554", "704"):
        assert total in printed
    rows, _ = rows_of(model)
    found = [(r.kind if r.module is not None else r.name.split("_")[0], r.shape[1:], r.params) for r in rows]
    assert found == INCEPTION_ROWS
    assert all(r.shape[0] is None for r in rows)


@pytest.mark.parametrize("where", ["keras.utils.plot_model", "vis_utils"])
def test_plot_model(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if where == "vis_utils":
        cell = "from hornbeam.utils.vis_utils import plot_model\nplot_model(model, show_shapes=True, to_file='model.png')"
    else:
        cell = "keras.utils.plot_model(model, show_shapes=True)"
    run(BLOCKS, INCEPTION, cell)
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


def test_the_inception_model_trains() -> None:
    keras.utils.set_random_seed(0)
    model = run(BLOCKS, INCEPTION)["model"]
    x, y = torch.rand(64, 28, 28, 1), torch.randint(10, (64,))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=4, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.predict(x[:3], verbose=0).shape == (3, 10)
