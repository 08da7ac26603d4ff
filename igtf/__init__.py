"""Integrated gradients, and what people compare them with, as nodes of your own TensorFlow graph.

`import igtf as ig` is the whole public interface, the recipe of `integrated_gradients_tf` included.
`ig.Explainer` is imported when it is first asked for, so that `import igtf` stays light.
"""

from igtf.attributions import (
    integrated_gradients,
    integrated_jacobian,
    path_gradients,
)
from igtf.backpropagation import backpropagate
from igtf.conductance import layer_conductance, neuron_conductance
from igtf.convergence import attribution_error, convergence_delta
from igtf.evaluation import (
    average_drop_increase,
    deletion,
    infidelity,
    insertion,
    mu_fidelity,
    pointing_game,
    sensitivity_max,
    sparseness,
)
from igtf.guided import guided_integrated_gradients
from igtf.interactions import integrated_hessians
from igtf.methods import (
    deeplift,
    epsilon_lrp,
    expected_gradients,
    grad_cam,
    gradient_times_input,
    guided_backpropagation,
    kernel_shap,
    layer_cam,
    occlusion,
    saliency,
    shapley_value_sampling,
    smoothgrad,
)
from igtf.paths import (
    blur_integrated_gradients,
    path_integrated_gradients,
    sequential_integrated_gradients,
)
from igtf.replacement import graph_replace
from integrated_gradients_tf import build_ig, linear_inpterpolation, linear_interpolation

__all__ = [
    "Explainer",
    "attribution_error",
    "average_drop_increase",
    "backpropagate",
    "blur_integrated_gradients",
    "build_ig",
    "convergence_delta",
    "deeplift",
    "deletion",
    "epsilon_lrp",
    "expected_gradients",
    "grad_cam",
    "gradient_times_input",
    "graph_replace",
    "guided_backpropagation",
    "guided_integrated_gradients",
    "infidelity",
    "insertion",
    "integrated_gradients",
    "integrated_hessians",
    "integrated_jacobian",
    "kernel_shap",
    "layer_cam",
    "layer_conductance",
    "linear_inpterpolation",
    "linear_interpolation",
    "mu_fidelity",
    "neuron_conductance",
    "occlusion",
    "path_gradients",
    "path_integrated_gradients",
    "pointing_game",
    "saliency",
    "sensitivity_max",
    "sequential_integrated_gradients",
    "shapley_value_sampling",
    "smoothgrad",
    "sparseness",
]


def __getattr__(name):
    if name == "Explainer":
        from igtf.explainer import Explainer  # when it is first asked for

        return Explainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
