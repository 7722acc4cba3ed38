"""The Functional style: layers called on symbolic tensors; branches, shared layers, several inputs and outputs."""

import torch

import hornbeam as keras
from hornbeam import layers
from hornbeam.layers import BatchNormalization, Conv2D


def CNN_block(x, filters, kernel_size=3, padding="same"):
    """Convolution, batch normalization and relu, the last one a plain torch function."""
    x = Conv2D(filters, kernel_size, padding=padding)(x)
    x = BatchNormalization()(x)
    return torch.relu(x)


def inception_block(x, filter1, filter2):
    """Two branches side by side, joined on the channel axis."""
    conv1 = CNN_block(x, filter1)
    conv2 = CNN_block(x, filter2)
    return layers.concatenate([conv1, conv2])


def inception_model():
    """Images of 28×28 pixels in, logits of ten classes out."""
    inputs = keras.Input(shape=(28, 28, 1))
    x = CNN_block(inputs, 32)
    x = layers.MaxPooling2D(3)(x)
    x = inception_block(x, 32, 32)
    x = inception_block(x, 64, 64)
    x = CNN_block(x, 128)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(256, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(10)(x)
    return keras.Model(inputs, outputs, name="final_model")


def image_and_text_model():
    """An image and a text of 200 words in, one of 512 answers out. 1.4 billion weights, but no memory until they are used."""
    image_model = keras.Sequential([
        layers.Conv2D(128, (3, 3), activation="relu", input_shape=(299, 299, 3)),
        layers.MaxPooling2D(),
        layers.Flatten(),
    ])
    img_input = layers.Input(shape=(299, 299, 3))
    encoded_image = image_model(img_input)

    txt_input = layers.Input(shape=(200,), dtype="int32", name="context")
    embed_output = layers.Embedding(input_dim=5000, output_dim=512, input_length=200)(txt_input)
    encoded_txt = layers.LSTM(128)(embed_output)

    concat = layers.concatenate([encoded_image, encoded_txt])
    output_class = layers.Dense(512, activation="softmax")(concat)
    return keras.Model(inputs=[img_input, txt_input], outputs=output_class)


def main():
    model = inception_model()
    model.summary()
    print("logits:", tuple(model(torch.rand(2, 28, 28, 1)).shape))

    features = keras.Model(model.input, model.layers[-3].output)  # cut anywhere: layers and weights stay shared
    print("features:", tuple(features(torch.rand(2, 28, 28, 1)).shape))

    image_and_text_model().summary()


if __name__ == "__main__":
    main()
