"""Hornbeam: the Keras way of building neural networks, native to PyTorch. `import hornbeam as keras` carries Keras code over."""

import importlib
from typing import TYPE_CHECKING, Any

from hornbeam import activations as activations
from hornbeam import backend as backend
from hornbeam import callbacks as callbacks
from hornbeam import config as config
from hornbeam import constraints as constraints
from hornbeam import dtype_policies as dtype_policies
from hornbeam import initializers as initializers
from hornbeam import layers as layers
from hornbeam import losses as losses
from hornbeam import metrics as metrics
from hornbeam import mixed_precision as mixed_precision
from hornbeam import models as models
from hornbeam import ops as ops
from hornbeam import optimizers as optimizers
from hornbeam import preprocessing as preprocessing
from hornbeam import random as random
from hornbeam import regularizers as regularizers
from hornbeam import saving as saving
from hornbeam import tree as tree
from hornbeam import utils as utils
from hornbeam.core.dtype import DTypePolicy as DTypePolicy
from hornbeam.core.input_spec import InputSpec as InputSpec
from hornbeam.core.layer import Layer as Layer
from hornbeam.core.operation import Function as Function
from hornbeam.core.operation import Operation as Operation
from hornbeam.core.remat import RematScope as RematScope
from hornbeam.core.remat import remat as remat
from hornbeam.core.stateless import StatelessScope as StatelessScope
from hornbeam.core.weights import Variable as Variable
from hornbeam.graph.symbolic import SymbolicTensor as KerasTensor  # noqa: F401
from hornbeam.initializers import Initializer as Initializer
from hornbeam.layers.input import Input as Input
from hornbeam.losses import Loss as Loss
from hornbeam.metrics import Metric as Metric
from hornbeam.models import Model as Model
from hornbeam.models import Sequential as Sequential
from hornbeam.models.any_module import evaluate as evaluate
from hornbeam.models.any_module import fit as fit
from hornbeam.models.any_module import predict as predict
from hornbeam.models.tapped import tap as tap
from hornbeam.optimizers import Optimizer as Optimizer
from hornbeam.regularizers import Regularizer as Regularizer

if TYPE_CHECKING:
    from hornbeam.export.source import Source as Source
    from hornbeam.export.source import to_source as to_source
    from hornbeam.inspect.cost import cost_of as cost  # noqa: F401
    from hornbeam.inspect.explorer import explore as explore
    from hornbeam.inspect.look import summary as summary
    from hornbeam.inspect.profile import profile as profile

# What looks at models and writes them is loaded when it is first asked for.
_LATER = {
    "Source": ("hornbeam.export.source", "Source"),
    "to_source": ("hornbeam.export.source", "to_source"),
    "cost": ("hornbeam.inspect.cost", "cost_of"),
    "explore": ("hornbeam.inspect.explorer", "explore"),
    "summary": ("hornbeam.inspect.look", "summary"),
    "profile": ("hornbeam.inspect.profile", "profile"),
}

__version__ = "0.1.0"


def version() -> str:
    """Returns the version.

    >>> version() == __version__
    True
    """
    return __version__


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, found = _LATER[name]
    return getattr(importlib.import_module(module), found)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
