"""Models: the classes, clones, and what reads them from configs."""

from hornbeam.models.any_module import TorchModel as TorchModel
from hornbeam.models.clone import clone_model as clone_model
from hornbeam.models.clone import model_from_json as model_from_json
from hornbeam.models.functional import Functional as Functional
from hornbeam.models.model import Model as Model
from hornbeam.models.sequential import Sequential as Sequential
