"""Callbacks: code that runs at the moments of a training loop."""

from hornbeam.training.callbacks.callback import Callback as Callback
from hornbeam.training.callbacks.callback import CallbackList as CallbackList
from hornbeam.training.callbacks.ema import SwapEMAWeights as SwapEMAWeights
from hornbeam.training.callbacks.history import History as History
from hornbeam.training.callbacks.monitor import EarlyStopping as EarlyStopping
from hornbeam.training.callbacks.monitor import MonitorCallback as MonitorCallback
from hornbeam.training.callbacks.monitor import ReduceLROnPlateau as ReduceLROnPlateau
from hornbeam.training.callbacks.progbar import ProgbarLogger as ProgbarLogger
from hornbeam.training.callbacks.remote import RemoteMonitor as RemoteMonitor
from hornbeam.training.callbacks.simple import CSVLogger as CSVLogger
from hornbeam.training.callbacks.simple import LambdaCallback as LambdaCallback
from hornbeam.training.callbacks.simple import LearningRateScheduler as LearningRateScheduler
from hornbeam.training.callbacks.simple import TerminateOnNaN as TerminateOnNaN
from hornbeam.training.callbacks.tensorboard import TensorBoard as TensorBoard
from hornbeam.training.callbacks.torch_schedule import TorchScheduler as TorchScheduler
