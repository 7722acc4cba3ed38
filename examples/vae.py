"""A variational autoencoder of handwritten digits: a layer that adds a loss, and a `compute_loss` of its own."""

import argparse

import torch
from sklearn.datasets import load_digits

import hornbeam as keras
from hornbeam import layers


class Sampling(layers.Layer):
    """Draws a code from the normal distribution that the encoder describes, and adds its distance from the standard one."""

    def call(self, inputs):
        mean, log_variance = inputs
        distance = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)
        self.add_loss(distance.mean())
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def make_encoder(size, code):
    x = keras.Input((size,))
    h = layers.Dense(128, activation="relu")(x)
    mean, log_variance = layers.Dense(code, name="mean")(h), layers.Dense(code, name="log_variance")(h)
    return keras.Model(x, [mean, log_variance, Sampling(name="code")([mean, log_variance])], name="encoder")


class VAE(keras.Model):
    """Encoder and decoder; the target is the input itself."""

    def __init__(self, size=64, code=2, **kwargs):
        super().__init__(**kwargs)
        self.encoder = make_encoder(size, code)
        self.decoder = keras.Sequential(
            [keras.Input((code,)), layers.Dense(128, activation="relu"), layers.Dense(size, activation="sigmoid")], name="decoder"
        )
        self.reconstruction = keras.metrics.Mean(name="reconstruction")
        self.distance = keras.metrics.Mean(name="distance")

    def call(self, x):
        return self.decoder(self.encoder(x)[2])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        reconstruction = keras.losses.binary_crossentropy(x, y_pred).mean() * x.shape[-1]
        distance = sum(self.losses)
        self.reconstruction.update_state(reconstruction.detach())
        self.distance.update_state(distance.detach())
        return reconstruction + distance


def main(epochs=60):
    keras.utils.set_random_seed(1)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    model = VAE()
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(images, epochs=epochs, batch_size=64, verbose=0).history
    for name, values in history.items():
        print(f"{name}: {values[0]:.2f} -> {values[-1]:.2f}")
    codes = torch.tensor([[-1.5, 0.0], [0.0, 0.0], [1.5, 0.0]])
    for rows in zip(*model.decoder.predict(codes).reshape(3, 8, 8), strict=True):
        print("   ".join("".join(" .:-=+*#%@"[int(v * 9.99)] for v in row) for row in rows))
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    main(parser.parse_args().epochs)
