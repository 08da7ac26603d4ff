"""Is an explanation any good? Metrics of attributions as nodes of your own TensorFlow graph.

What goes in are tensors of a graph that exists: outputs `ys`, inputs `xs` and `attributions` of any method,
of this package or another. What comes out is a score for each row, `[B]`, in the dtype of the output and
float32 at least; metrics with curves return `(scores, curves)` when asked, `curves [B, num_steps + 1]`, and
`average_drop_increase` is two metrics, a pair of scores.

Shapes: `B` rows in a batch, `...` the feature dimensions. Rows are independent of one another.
"""

from igtf.evaluation.curves import deletion, insertion
from igtf.evaluation.fidelity import infidelity, mu_fidelity
from igtf.evaluation.highlights import average_drop_increase
from igtf.evaluation.maps import pointing_game, sparseness
from igtf.evaluation.robustness import sensitivity_max

__all__ = [
    "average_drop_increase",
    "deletion",
    "infidelity",
    "insertion",
    "mu_fidelity",
    "pointing_game",
    "sensitivity_max",
    "sparseness",
]
