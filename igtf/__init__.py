"""Integrated gradients, and what people compare them with, as nodes of your own TensorFlow graph.

`import igtf as ig` is the whole public interface, the recipe of `integrated_gradients_tf` included.
`ig.Explainer` is imported when it is first asked for, so that `import igtf` stays light.
"""

from igtf.attributions import (
    integrated_gradients,
    integrated_jacobian,
    layer_conductance,
    path_gradients,
)
from igtf.backpropagation import backpropagate
from igtf.convergence import attribution_error, convergence_delta
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
from igtf.replacement import graph_replace
from integrated_gradients_tf import build_ig, linear_inpterpolation, linear_interpolation

__all__ = [
    "Explainer",
    "attribution_error",
    "backpropagate",
    "build_ig",
    "convergence_delta",
    "deeplift",
    "epsilon_lrp",
    "expected_gradients",
    "grad_cam",
    "gradient_times_input",
    "graph_replace",
    "guided_backpropagation",
    "integrated_gradients",
    "integrated_jacobian",
    "kernel_shap",
    "layer_cam",
    "layer_conductance",
    "linear_inpterpolation",
    "linear_interpolation",
    "occlusion",
    "path_gradients",
    "saliency",
    "shapley_value_sampling",
    "smoothgrad",
]


def __getattr__(name):
    if name == "Explainer":
        from igtf.explainer import Explainer  # when it is first asked for

        return Explainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
