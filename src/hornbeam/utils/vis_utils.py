"""`hornbeam.utils.vis_utils`: the place at which `plot_model` stood in tf.keras."""

from hornbeam.inspect.plot import model_to_dot as model_to_dot
from hornbeam.inspect.plot import plot_model as plot_model
