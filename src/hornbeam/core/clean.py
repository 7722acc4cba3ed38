"""A block outside every torch mode, for values that must not depend on who asks for them first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils import _python_dispatch


def is_clean() -> bool:
    """Returns whether no torch mode is active."""
    return (
        not torch.is_inference_mode_enabled()
        and torch._C._len_torch_function_stack() == 0
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.is_autocast_enabled("cpu")
    )


@contextmanager
def clean_context() -> Iterator[None]:
    """Runs a block outside every torch mode: inference, autocast, fake tensors, functorch, default device; no gradients."""
    if is_clean():
        with torch.no_grad():
            yield
        return
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(temporarily_clear_interpreter_stack())
        stack.enter_context(_python_dispatch._disable_current_modes())
        stack.enter_context(torch._C.DisableTorchFunction())
        yield
