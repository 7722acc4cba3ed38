"""Callbacks, as `keras.callbacks` has them."""

from hornbeam.training.callbacks import Callback as Callback
from hornbeam.training.callbacks import CallbackList as CallbackList
from hornbeam.training.callbacks import CSVLogger as CSVLogger
from hornbeam.training.callbacks import EarlyStopping as EarlyStopping
from hornbeam.training.callbacks import History as History
from hornbeam.training.callbacks import LambdaCallback as LambdaCallback
from hornbeam.training.callbacks import LearningRateScheduler as LearningRateScheduler
from hornbeam.training.callbacks import MonitorCallback as MonitorCallback
from hornbeam.training.callbacks import ProgbarLogger as ProgbarLogger
from hornbeam.training.callbacks import ReduceLROnPlateau as ReduceLROnPlateau
from hornbeam.training.callbacks import RemoteMonitor as RemoteMonitor
from hornbeam.training.callbacks import SwapEMAWeights as SwapEMAWeights
from hornbeam.training.callbacks import TensorBoard as TensorBoard
from hornbeam.training.callbacks import TerminateOnNaN as TerminateOnNaN
from hornbeam.training.callbacks import TorchScheduler as TorchScheduler
