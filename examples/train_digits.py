"""`make demo`: one model in three styles, trained on scikit-learn's handwritten digits; about a minute on two cores."""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import hornbeam as keras
from functional import image_and_text_model, inception_model
from hornbeam import layers
from sequential import sequential_inception
from subclassing import InceptionModel


def load(held_out=360):
    """Returns images (n, 28, 28, 1) in [0, 1] and labels, a part of both held out."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = torch.nn.functional.interpolate(images, size=(28, 28), mode="bilinear").permute(0, 2, 3, 1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], torch.tensor(digits.target)[order]
    return images[held_out:], labels[held_out:], images[:held_out], labels[:held_out]


def copy_weights(source, target):
    """Copies weights layer by layer: the styles nest their layers differently, but each kind of layer comes in one order."""
    for kind in (layers.Conv2D, layers.BatchNormalization, layers.Dense):
        ours, theirs = ([m for m in model.modules() if isinstance(m, kind)] for model in (source, target))
        for a, b in zip(ours, theirs, strict=True):
            b.load_state_dict(a.state_dict())


def draw(histories, path):
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for color, (name, history) in enumerate(histories.items()):
            axes.plot(history[key], color=f"C{color}", label=name)
            axes.plot(history["val_" + key], "--", color=f"C{color}", label=f"{name}, held out")
        axes.set(xlabel="epoch", ylabel=key)
        axes.legend()
    figure.savefig(path, dpi=120)
    print("curves:", path)


def main(epochs, output):
    keras.utils.set_random_seed(7)
    x, y, x_test, y_test = load()
    output.mkdir(parents=True, exist_ok=True)
    styles = {"functional": inception_model(), "subclassed": InceptionModel(noise=0.02), "sequential": sequential_inception()}
    styles["subclassed"].build((None, 28, 28, 1))
    for model in (image_and_text_model(), *styles.values()):
        model.summary()
    histories = {}
    for name in ("functional", "subclassed"):
        model = styles[name]
        for layer in model.modules():
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = 0.9  # an epoch has only 45 batches: the default, 0.99, would average over several epochs
        rate = keras.optimizers.schedules.CosineDecay(1e-3, decay_steps=45 * epochs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        histories[name] = model.fit(x, y, batch_size=32, epochs=epochs, validation_data=(x_test, y_test), verbose=2).history
        print(f"{name}: held-out accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.2%}")
    draw(histories, output / "digits.png")
    for model in styles.values():
        copy_weights(styles["functional"], model)
    outputs = [model.predict(x_test, verbose=0) for model in styles.values()]
    same = all(np.array_equal(outputs[0], other) for other in outputs[1:])
    print("three styles, same weights, identical outputs:", same)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent.parent / "output")
    main(**vars(parser.parse_args()))
