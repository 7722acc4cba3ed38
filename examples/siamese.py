"""Shared layers: one encoder reads two images, and the model learns whether both show the same digit."""

import torch
from sklearn.datasets import load_digits

import hornbeam as keras
from hornbeam import layers


def siamese_model():
    encoder = keras.Sequential([
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(32),
    ], name="encoder")  # fmt: skip
    left, right = keras.Input(shape=(64,), name="left"), keras.Input(shape=(64,), name="right")
    distance = torch.abs(encoder(left) - encoder(right))  # one encoder, two calls; the operators are torch's
    same = layers.Dense(1, activation="sigmoid", name="same")(distance)
    return keras.Model(inputs={"left": left, "right": right}, outputs=same, name="siamese")


def pairs(images, labels, count, seed):
    """Draws pairs of images, half of them of the same digit."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(labels), (count,), generator=generator)
    second = torch.randint(len(labels), (count,), generator=generator)
    for i in range(0, count, 2):
        alike = (labels == labels[first[i]]).nonzero().flatten()
        second[i] = alike[torch.randint(len(alike), (), generator=generator)]
    return {"left": images[first], "right": images[second]}, (labels[first] == labels[second]).float()[:, None]


def main():
    keras.utils.set_random_seed(1)
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images, labels = torch.tensor(digits.data, dtype=torch.float32)[order] / 16, torch.tensor(digits.target)[order]
    x, y = pairs(images[:1400], labels[:1400], 20_000, seed=0)
    x_test, y_test = pairs(images[1400:], labels[1400:], 2_000, seed=1)

    model = siamese_model()
    model.summary()
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=10, verbose=2)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"pairs of unseen images judged rightly: {accuracy:.1%}")


if __name__ == "__main__":
    main()
