"""Models whose source is written in the tests of this folder."""

from __future__ import annotations

import torch
import torch.nn.functional as F

import hornbeam as keras
from hornbeam import layers


def inception():
    def cnn_block(x, filters):
        x = layers.Conv2D(filters, (3, 3), padding="same")(x)
        return torch.relu(layers.BatchNormalization()(x))

    def inception_block(x, filters):
        return layers.concatenate([cnn_block(x, filters), cnn_block(x, filters)])

    inputs = keras.Input(shape=(28, 28, 1))
    x = layers.MaxPooling2D(3)(cnn_block(inputs, 8))
    x = cnn_block(inception_block(inception_block(x, 8), 16), 32)
    x = layers.Dense(64, activation="relu")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(10)(layers.Dropout(0.5)(x)), name="final_model")


def image_and_text():
    image_model = keras.Sequential(
        [layers.Conv2D(8, (3, 3), activation="relu", input_shape=(29, 29, 3)), layers.MaxPooling2D(), layers.Flatten()]
    )
    image, text = layers.Input(shape=(29, 29, 3)), layers.Input(shape=(20,), dtype="int32", name="context")
    encoded = layers.LSTM(16)(layers.Embedding(input_dim=50, output_dim=32)(text))
    joined = layers.concatenate([image_model(image), encoded])
    return keras.Model([image, text], layers.Dense(5, activation="softmax")(joined))


def three_dense():
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="relu", name="layer1"),
            layers.Dense(8, activation="relu", name="layer2"),
            layers.Dense(4, name="layer3"),
        ]
    )


def deep():
    x = inputs = keras.Input((8,))
    for i in range(10):
        x = layers.Dense(8, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}")(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def resnet():
    def block(x, filters, strides=1, project=True):
        shortcut = layers.BatchNormalization()(layers.Conv2D(4 * filters, 1, strides=strides)(x)) if project else x
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 1, strides=strides)(x)))
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
        x = layers.BatchNormalization()(layers.Conv2D(4 * filters, 1)(x))
        return layers.ReLU()(layers.Add()([shortcut, x]))

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 7, strides=2, padding="same")(inputs)
    x = layers.MaxPooling2D(3, strides=2)(layers.ReLU()(layers.BatchNormalization()(x)))
    for filters, repeats, strides in ((2, 3, 1), (4, 4, 2), (8, 6, 2), (16, 3, 2)):
        x = block(x, filters, strides)
        for _ in range(repeats - 1):
            x = block(x, filters, project=False)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)), name="resnet50")


def unet():
    x = inputs = keras.Input((16, 16, 3))
    skips = []
    for filters in (4, 8):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        skips.append(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
        x = layers.MaxPooling2D(2)(skips[-1])
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    for filters, skip in zip((8, 4), skips[::-1], strict=True):
        x = layers.Concatenate()([skip, layers.Conv2DTranspose(filters, 2, strides=2)(x)])
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x), name="U-Net")


def siamese():
    tower = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(3)], name="tower")
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    return keras.Model([left, right], layers.Dense(1, activation="sigmoid")(torch.abs(tower(left) - tower(right))))


def transformer():
    tokens = keras.Input((12,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 16)(tokens) + torch.arange(12.0)[:, None]
    for i in range(4):
        attended = layers.MultiHeadAttention(num_heads=2, key_dim=8, name=f"attention_{i}")(x, x, use_causal_mask=True)
        x = layers.LayerNormalization()(x + attended)
        inner = layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
        x = layers.LayerNormalization()(layers.add([x, inner]))
    return keras.Model(tokens, {"logits": layers.Dense(3)(x[:, -1]), "pooled": x.mean(1)})


def torch_functions():
    inputs = keras.Input(shape=(16, 24), name="sequence")
    x = torch.nn.LayerNorm(24)(inputs)
    q, k, v = torch.chunk(layers.Dense(72, name="qkv")(x), 3, dim=-1)
    split = [t.unflatten(-1, (4, 6)).transpose(1, 2) for t in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    x = inputs + F.gelu(torch.nn.Linear(24, 24)(mixed))
    spectrum = torch.fft.rfft(x, dim=1).abs().mean(-1)
    pooled = torch.cat([x.mean(1), x.amax(1), spectrum[:, 1:]], dim=-1)
    return keras.Model(inputs, layers.Dense(3, name="logits")(pooled), name="attention")


def masked_lstm():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(50, 8, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    sequence, hidden, _ = layers.LSTM(5, return_state=True)(x)
    return keras.Model(inputs, [layers.Dense(2)(hidden), sequence * 2])


def gru_tagger():
    inputs = keras.Input((None, 6), name="steps")
    x = layers.Masking()(inputs)
    x = layers.GRU(5, return_sequences=True, dropout=0.2)(x)
    return keras.Model(inputs, layers.TimeDistributed(layers.Dense(3, activation="softmax"))(x))


def arithmetic():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    c = (a + 1) * torch.arange(6.0) - 2 * b
    d = c.clone()
    d[:, 0] = b[:, 1] ** 2
    top, _ = d.max(1, keepdim=True)
    rows = d.view(d.size(0), 2, 3).sum(1)
    e = torch.where(rows > 0, rows, -rows) @ torch.nn.Parameter(torch.ones(3, 4))
    return keras.Model({"a": a, "b": b}, [keras.ops.softmax(e), top, (d - 1) / (d.abs() + 1)])


def nested():
    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, [layers.Dense(3)(inner_in), layers.Dense(2)(inner_in)], name="inner")
    outer_in = keras.Input((4,))
    left, right = inner(outer_in)
    encoder = keras.Sequential([keras.Input((5,)), layers.Dense(4), keras.Sequential([layers.Dense(4, use_bias=False)])])
    return keras.Model(outer_in, encoder(layers.concatenate([left, right])), name="outer")


def masked_nested():
    ids, steps = keras.Input((5,), dtype="int32"), keras.Input((5, 4))
    reader = keras.Model(steps, layers.LSTM(3)(layers.Dense(4)(steps)), name="reader")
    return keras.Model(ids, layers.Dense(2)(reader(layers.Embedding(9, 4, mask_zero=True)(ids))))


def mask_through_a_function():
    ids = keras.Input((5,), dtype="int32")
    return keras.Model(ids, layers.LSTM(3)(layers.Embedding(9, 4, mask_zero=True)(ids) * 2))


def halve(x):
    return x / 2


def functions_as_layers():
    inputs = keras.Input((4,))
    x = layers.Lambda(halve)(layers.Lambda(lambda t: t * 2 + 1)(inputs))
    x = F.gelu(torch.relu(layers.Dense(4)(x))[:, :3]) * 2
    return keras.Model(inputs, layers.Dense(2, activation=torch.tanh)(x))


def frozen():
    inputs = keras.Input((4,))
    base = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization()], name="base")
    base.trainable = False
    return keras.Model(inputs, layers.Dense(1)(base(inputs)))


ZOO = [
    inception, image_and_text, three_dense, deep, resnet, unet, siamese, transformer, torch_functions, masked_lstm, gru_tagger,
    arithmetic, nested, masked_nested, mask_through_a_function, functions_as_layers, frozen,
]  # fmt: skip


def data_for(model, batch=3, seed=0):
    """Random inputs for a model, in its nest."""
    generator = torch.Generator().manual_seed(seed)

    def one(symbol):
        shape = [d or (batch if i == 0 else 7) for i, d in enumerate(symbol.shape)]
        if "int" in symbol.dtype:
            return torch.randint(0, 5, shape, generator=generator)
        return torch.randn(shape, generator=generator)

    return keras.tree.map_structure(one, model.input)
