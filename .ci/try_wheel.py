"""Tries an installed wheel: recipe, one-liner, Explainer and a picture, with worked-out numbers."""

from pathlib import Path

import numpy as np
import tensorflow as tf

import igtf as ig
import integrated_gradients_tf
from igtf import visualization

X = np.float32([[3, 2], [1, 0]])


@tf.function
def explain(x):
    ys = tf.reduce_sum(x**2, axis=1)
    inter, stepsize, _ = integrated_gradients_tf.linear_interpolation(x, num_steps=4)
    recipe = integrated_gradients_tf.build_ig(inter, stepsize, tf.reduce_sum(inter**2, axis=1), num_steps=4)
    return recipe, ig.integrated_gradients(ys, x, num_steps=4), ig.deeplift(ys, x)


for attributions in explain(X):
    np.testing.assert_allclose(attributions, X**2, rtol=1e-5)
attributions = ig.Explainer(lambda x: tf.reduce_sum(x**2, axis=1)).explain(X, progress=False)
np.testing.assert_allclose(attributions, X**2, rtol=1e-5)
assert visualization.heatmap(attributions).axes
page = visualization.explanation_page(X, attributions, kind="table", path="page.html").path
assert "function decode(" in page.read_text("utf-8")
assert "site-packages" in Path(ig.__file__).parts, ig.__file__
print(f"The wheel works with TensorFlow {tf.__version__}.")
