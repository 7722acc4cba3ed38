"""The Sequential style: a list of layers, or one `add` after another. Weights appear when the input is known."""

import torch

import hornbeam as keras
from hornbeam import layers
from subclassing import CNNBlock, InceptionBlock


def from_list():
    return keras.Sequential([
        layers.Dense(16, activation="relu", name="layer1"),
        layers.Dense(8, activation="relu", name="layer2"),
        layers.Dense(4, name="layer3"),
    ])


def by_adding():
    model = keras.Sequential()
    model.add(layers.Dense(16, activation="relu", name="layer1"))
    model.add(layers.Dense(8, activation="relu", name="layer2"))
    model.add(layers.Dense(4, name="layer3"))
    return model


def sequential_inception():
    """The model of `functional.py` as a list; its blocks are the layers of `subclassing.py`."""
    return keras.Sequential([
        keras.Input(shape=(28, 28, 1)), CNNBlock(32),
        layers.MaxPooling2D(3), InceptionBlock(32, 32), InceptionBlock(64, 64), CNNBlock(128),
        layers.GlobalAveragePooling2D(), layers.Dense(256, activation="relu"), layers.Dropout(0.5), layers.Dense(10),
    ], name="sequential_inception")  # fmt: skip


def main():
    one, other = from_list(), by_adding()
    x = torch.rand(5, 3)
    one(x), other(x)  # the first call tells the models what comes in
    one.summary()

    other.load_state_dict(one.state_dict())  # the keys are the names given: layer1.kernel, layer1.bias, …
    print("keys:", ", ".join(one.state_dict()))
    print("same weights, same output:", torch.equal(one(x), other(x)))

    one.pop()
    one.add(layers.Dense(2, activation="softmax", name="head"))
    print("with another head:", tuple(one(x).shape))


if __name__ == "__main__":
    main()
