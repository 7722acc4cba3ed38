"""A generative adversarial network of handwritten digits: two optimizers in one model, an own `compile` and `train_step`."""

import argparse

import torch
from sklearn.datasets import load_digits

import hornbeam as keras
from hornbeam import layers


class GAN(keras.Model):
    """A generator that makes digits of noise, and a discriminator that tells them from true ones."""

    def __init__(self, noise=16, size=64, **kwargs):
        super().__init__(**kwargs)
        self.noise = noise
        self.generator = keras.Sequential(
            [keras.Input((noise,)), layers.Dense(128, activation="relu"), layers.Dense(size, activation="sigmoid")],
            name="generator",
        )
        self.discriminator = keras.Sequential(
            [keras.Input((size,)), layers.Dense(128), layers.LeakyReLU(0.2), layers.Dropout(0.3), layers.Dense(1)],
            name="discriminator",
        )
        self.generator_loss = keras.metrics.Mean(name="generator_loss")
        self.discriminator_loss = keras.metrics.Mean(name="discriminator_loss")

    @property
    def metrics(self):
        return [self.generator_loss, self.discriminator_loss]

    def compile(self, generator_optimizer, discriminator_optimizer, loss, **kwargs):
        super().compile(loss=loss, **kwargs)
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer

    def call(self, noise):
        return self.generator(noise)

    def make(self, count):
        return self.generator(torch.randn(count, self.noise), training=True)

    def step(self, network, optimizer, loss):
        network.zero_grad()
        loss.backward()
        weights = network.trainable_weights
        optimizer.apply([w.grad for w in weights], weights)

    def train_step(self, real):
        rows = len(real)
        ones, zeros = torch.ones(rows, 1), torch.zeros(rows, 1)
        judged = self.discriminator(torch.cat([real, self.make(rows).detach()]), training=True)
        loss = self.loss(torch.cat([0.9 * ones, zeros]), judged)
        self.step(self.discriminator, self.discriminator_optimizer, loss)
        self.discriminator_loss.update_state(loss.detach())
        loss = self.loss(ones, self.discriminator(self.make(rows), training=True))
        self.step(self.generator, self.generator_optimizer, loss)
        self.generator_loss.update_state(loss.detach())
        return {metric.name: metric.result() for metric in self.metrics}


def main(epochs=100):
    keras.utils.set_random_seed(1)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    model = GAN()
    adam = keras.optimizers.Adam
    model.compile(adam(1e-3, beta_1=0.5), adam(4e-4, beta_1=0.5), keras.losses.BinaryCrossentropy(from_logits=True))
    history = model.fit(images, epochs=epochs, batch_size=64, verbose=0).history
    for name, values in history.items():
        print(f"{name}: {values[0]:.2f} -> {values[-1]:.2f}")
    for rows in zip(*model.predict(torch.randn(4, model.noise)).reshape(4, 8, 8), strict=True):
        print("   ".join("".join(" .:-=+*#%@"[int(v * 9.99)] for v in row) for row in rows))
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    main(parser.parse_args().epochs)
