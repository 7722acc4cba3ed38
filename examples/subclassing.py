"""The subclassing style: own layers, an own model, an own training step. `call` is ordinary Python and runs each time."""

import torch

import hornbeam as keras
from hornbeam import layers


class CNNBlock(layers.Layer):
    """Convolution, batch normalization and relu."""

    def __init__(self, filters, kernel_size=3, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(filters, kernel_size, padding="same")
        self.norm = layers.BatchNormalization()

    def call(self, x):
        return torch.relu(self.norm(self.conv(x)))  # `training` comes from the enclosing call


class InceptionBlock(layers.Layer):
    """Two blocks side by side, joined on the channel axis."""

    def __init__(self, filters1, filters2, **kwargs):
        super().__init__(**kwargs)
        self.branch1, self.branch2 = CNNBlock(filters1), CNNBlock(filters2)

    def call(self, x):
        return torch.cat([self.branch1(x), self.branch2(x)], dim=-1)


class InceptionModel(keras.Model):
    """The model of `functional.py`, that also learns from slightly noisy images."""

    def __init__(self, classes=10, noise=0.0, **kwargs):
        super().__init__(**kwargs)
        self.noise = noise
        self.stem = CNNBlock(32)
        self.pool = layers.MaxPooling2D(3)
        self.blocks = [InceptionBlock(32, 32), InceptionBlock(64, 64)]
        self.last = CNNBlock(128)
        self.mean = layers.GlobalAveragePooling2D()
        self.hidden = layers.Dense(256, activation="relu")
        self.dropout = layers.Dropout(0.5)
        self.logits = layers.Dense(classes)

    def call(self, x):
        x = self.pool(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = self.hidden(self.mean(self.last(x)))
        return self.logits(self.dropout(x))

    def train_step(self, data):
        x, y = data
        x = x + self.noise * torch.randn_like(x)
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        loss.backward()
        weights = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([w.grad for w in weights], weights)
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


def main():
    model = InceptionModel(name="own_model")
    model.build((None, 28, 28, 1))
    model.summary(expand_nested=True)


if __name__ == "__main__":
    main()
