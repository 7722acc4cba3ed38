"""Plain torch in a functional model, and a functional model in plain torch."""

import torch
import torch.nn.functional as F

import hornbeam as keras
from hornbeam import layers


def attention_model(length=16, features=24, heads=4):
    """One attention block of torch functions, torch modules and layers, side by side."""
    inputs = keras.Input(shape=(length, features), name="sequence")
    x = torch.nn.LayerNorm(features)(inputs)  # a torch module; its weights belong to the model
    q, k, v = torch.chunk(layers.Dense(3 * features, name="qkv")(x), 3, dim=-1)
    split = [t.unflatten(-1, (heads, features // heads)).transpose(1, 2) for t in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    x = inputs + F.gelu(torch.nn.Linear(features, features)(mixed))
    spectrum = torch.fft.rfft(x, dim=1).abs().mean(-1)
    pooled = torch.cat([x.mean(1), x.amax(1), spectrum[:, 1:]], dim=-1)
    return keras.Model(inputs, layers.Dense(3, name="logits")(pooled), name="attention")


class Tagger(torch.nn.Module):
    """A torch module whose body is the model above, trained as torch modules are."""

    def __init__(self):
        super().__init__()
        self.body = attention_model()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * self.body(x)


def main():
    torch.manual_seed(0)
    model = attention_model()
    model.summary()
    print(model.code)

    module = Tagger().train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    x = torch.randn(256, 16, 24)
    y = x[:, :, 0].mean(1).sign().long() + 1  # is the first feature's mean negative or positive?
    for step in range(101):
        loss = F.cross_entropy(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
