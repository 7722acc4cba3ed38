"""Optimizers in plain PyTorch with Keras's formulas, where torch's own have others: their source is copied into ejected files."""

# mypy: ignore-errors

from __future__ import annotations

import torch


class Adam(torch.optim.Optimizer):
    """Adam as Keras has it: the bias is corrected in the rate, so that epsilon stands beside the raw mean."""

    def __init__(self, weights, lr=0.001, betas=(0.9, 0.999), eps=1e-07, weight_decay=0.0):
        super().__init__(weights, {"lr": lr, "betas": betas, "eps": eps, "decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    zeros = torch.zeros_like(weight)
                    state.update(count=0, mean=zeros, square=zeros.clone())
                state["count"] += 1
                state["mean"].lerp_(weight.grad, 1 - first)
                state["square"].lerp_(weight.grad**2, 1 - second)
                count, lr = state["count"], group["lr"]
                rate = lr * (1 - second**count) ** 0.5 / (1 - first**count)
                weight.mul_(1 - lr * group["decay"])
                weight.sub_(rate * state["mean"] / (state["square"].sqrt() + group["eps"]))


class SGD(torch.optim.Optimizer):
    """Gradient descent as Keras has it: the rate is part of the momentum."""

    def __init__(self, weights, lr=0.01, momentum=0.0, nesterov=False, weight_decay=0.0):
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "decay": weight_decay}
        super().__init__(weights, defaults)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                weight.mul_(1 - lr * group["decay"])
                state = self.state[weight]
                velocity = momentum * state.get("velocity", 0.0) - lr * weight.grad
                state["velocity"] = velocity
                ahead = momentum * velocity - lr * weight.grad
                weight.add_(ahead if group["nesterov"] else velocity)


class RMSprop(torch.optim.Optimizer):
    """RMSprop as Keras has it: epsilon stands inside the root."""

    def __init__(
        self,
        weights,
        lr=0.001,
        rho=0.9,
        momentum=0.0,
        eps=1e-07,
        centered=False,
        weight_decay=0.0,
    ):
        defaults = {"lr": lr, "rho": rho, "momentum": momentum, "eps": eps, "centered": centered}
        super().__init__(weights, {**defaults, "decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    zeros = torch.zeros_like(weight)
                    state.update(square=zeros, mean=zeros.clone(), velocity=zeros.clone())
                weight.mul_(1 - group["lr"] * group["decay"])
                state["square"].lerp_(weight.grad**2, 1 - group["rho"])
                variance = state["square"]
                if group["centered"]:
                    state["mean"].lerp_(weight.grad, 1 - group["rho"])
                    variance = variance - state["mean"] ** 2
                change = group["lr"] * weight.grad / (variance + group["eps"]).sqrt()
                state["velocity"].mul_(group["momentum"]).add_(change)
                weight.sub_(state["velocity"])


class Adagrad(torch.optim.Optimizer):
    """Adagrad as Keras has it: epsilon stands inside the root."""

    def __init__(self, weights, lr=0.001, start=0.1, eps=1e-07, weight_decay=0.0):
        super().__init__(weights, {"lr": lr, "start": start, "eps": eps, "decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["total"] = torch.full_like(weight, group["start"])
                weight.mul_(1 - group["lr"] * group["decay"])
                state["total"].add_(weight.grad**2)
                weight.sub_(group["lr"] * weight.grad / (state["total"] + group["eps"]).sqrt())
