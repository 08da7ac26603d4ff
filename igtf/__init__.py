"""Integrated gradients, and what people compare them with, as nodes of your own TensorFlow graph.

`import igtf as ig` is the whole public interface, the recipe of `integrated_gradients_tf` included.
`ig.Explainer` is imported when it is first asked for, so that `import igtf` stays light.
"""

from igtf.methods import (
    deeplift,
    epsilon_lrp,
    expected_gradients,
    gradient_times_input,
    occlusion,
    saliency,
    shapley_value_sampling,
    smoothgrad,
)
from integrated_gradients_tf import (
    backpropagate,
    build_ig,
    convergence_delta,
    graph_replace,
    integrated_gradients,
    integrated_jacobian,
    layer_conductance,
    linear_inpterpolation,
    linear_interpolation,
    path_gradients,
)

__all__ = [
    "Explainer",
    "backpropagate",
    "build_ig",
    "convergence_delta",
    "deeplift",
    "epsilon_lrp",
    "expected_gradients",
    "gradient_times_input",
    "graph_replace",
    "integrated_gradients",
    "integrated_jacobian",
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
        from igtf.explainer import Explainer

        return Explainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
