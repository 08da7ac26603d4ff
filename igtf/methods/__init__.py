"""Saliency, LRP, DeepLIFT, occlusion, Shapley values and others as nodes of your own TensorFlow graph.

Every function takes tensors of a graph that already exists (a `tf.compat.v1` graph, or the graph that
`tf.function` traces), adds nodes to it and returns ordinary tensors. Nothing else in the graph changes,
so methods can be mixed, called in any order, and trained on.

Two ideas carry all of them: *backpropagation with rules*, where a table `{op type: rule}` says what
takes the place of an op's gradient, and *replay*, the network once more on other values.

Shapes: `B` rows in a batch, `...` the feature dimensions. Rows are independent of one another.
"""

from igtf.methods.activation_maps import grad_cam, guided_backpropagation, layer_cam
from igtf.methods.coalitions import kernel_shap
from igtf.methods.gradients import gradient_times_input, saliency
from igtf.methods.perturbation import occlusion, shapley_value_sampling
from igtf.methods.relevance import deeplift, epsilon_lrp
from igtf.methods.sampling import expected_gradients, smoothgrad

__all__ = [
    "deeplift",
    "epsilon_lrp",
    "expected_gradients",
    "grad_cam",
    "gradient_times_input",
    "guided_backpropagation",
    "kernel_shap",
    "layer_cam",
    "occlusion",
    "saliency",
    "shapley_value_sampling",
    "smoothgrad",
]
