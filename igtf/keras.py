"""While Keras trains: attributions in TensorBoard, and priors on attributions in the loss."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from igtf import visualization
from igtf.arguments import is_int
from igtf.attributions import integrated_gradients, integrated_jacobian
from igtf.explainer import Explainer
from igtf.explainer.arrays import as_arrays, describe, expected
from igtf.explainer.pictures import png_of
from igtf.explainer.targets import weigh

__all__ = ["AttributionCallback", "AttributionPenalty", "right_reasons", "smoothness"]

TARGETS = ("labels", "predicted", "all")


class AttributionCallback(tf.keras.callbacks.Callback):
    """Explains the same samples after every few epochs, and writes what it finds for TensorBoard.

    Pictures are named `attributions`: images with what speaks for the output lit up, and of other rows what
    `igtf.explainer.Explanation` plots, nothing of several inputs. Scalars are
    `attributions/completeness_error`, how far the sums of the attributions are from the change of the output,
    as a share of it, and with a `tolerance` the largest `attributions/estimated_error`.

    Args:
      log_dir: folder of the log, as for `keras.callbacks.TensorBoard`; it may be the same.
      samples: rows `[N, ...]`, or the structure of several inputs.
      every: epochs from one explanation to the next.
      targets, baselines: as for `Explainer.explain`.
      options: arguments of `igtf.Explainer`, such as `method` or `num_steps`.

    Raises:
      TypeError, ValueError: wrong arguments; those of the explainer when training begins.
      ImportError: TensorBoard is not installed.

    >>> callback = AttributionCallback(tempfile.mkdtemp(), np.ones([2, 3]), every=5, num_steps=20)
    >>> model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones([8, 3]), np.ones(8), epochs=5, verbose=0, callbacks=[callback])
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        samples: Any,
        every: int = 1,
        targets: Any = None,
        baselines: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if not is_int(every) or every < 1:
            raise ValueError(f"AttributionCallback: every is {every!r}, expected an int above 0, such as 1.")
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError("AttributionCallback needs TensorBoard. Install it: pip install tensorboard.")
        self._log_dir, self._every = os.fspath(log_dir), every
        self._rows = as_arrays("samples", samples), targets, baselines
        self._options = options
        self._explainer: Any = None
        self._writer: Any = None

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self._explainer = Explainer(model, **self._options)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self._every:
            return
        explanation = self._explainer(*self._rows, progress=False)
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._log_dir)
        with self._writer.as_default(step=epoch):
            picture = _picture(explanation)
            if picture is not None:
                tf.summary.image("attributions", picture)
            if explanation.delta is not None:
                change = np.abs(explanation.outputs - explanation.base_values).sum()
                missed = np.abs(explanation.delta).sum() / max(change, np.finfo(np.float32).tiny)
                tf.summary.scalar("attributions/completeness_error", missed)
            if explanation.error is not None:
                tf.summary.scalar("attributions/estimated_error", explanation.error.max())
        self._writer.flush()

    # What Keras 2 asks of a callback, where `tf.keras` is Keras 3.

    def _implements_train_batch_hooks(self):
        return False

    _implements_test_batch_hooks = _implements_predict_batch_hooks = _implements_train_batch_hooks


def _picture(explanation):
    """The picture that fits, `[1, H, W, 3]`, or None."""
    try:
        if np.ndim(explanation.values) == 4:
            columns = explanation.data, explanation.values
            figure = visualization.overlay(*columns, polarity="both", original=True)
        else:
            figure = explanation.plot()
    except ValueError:
        return None
    return tf.io.decode_png(png_of(figure), channels=3)[None]


class AttributionPenalty:
    """A mixin for Keras models: what `fit` minimises has a prior on the attributions.

    Ross et al., Right for the right reasons, https://arxiv.org/abs/1703.03717, penalise input gradients where
    a mask says that the network should not look; here it is the integrated gradients of the network in
    inference mode, and any penalty. Put it before the class of Keras:

    >>> class Careful(AttributionPenalty, tf.keras.Sequential):
    ...     pass
    >>> model = Careful([tf.keras.Input((3,)), tf.keras.layers.Dense(2, "softmax")])
    >>> model.penalize(right_reasons([0, 0, 1]), strength=10.0)  # not the last feature
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> history = model.fit(np.ones([8, 3]), np.arange(8) % 2, verbose=0)

    It counts while training, and neither in `evaluate` nor in the validation of `fit`. (Keras 2 logs the
    `loss` without it.)
    """

    _prior: Any = None
    _judging = False

    def penalize(
        self,
        prior: Callable,
        strength: float = 1.0,
        targets: Any = "labels",
        baselines: Any = None,
        num_steps: int = 4,
        method: str = "auto",
    ) -> None:
        """Sets the prior; before `fit`, and before `compile` where it has been trained already.

        Args:
          prior: a function `(attributions, x, y)` of tensors that returns the penalty, a scalar or one for
            each row, `[B]`; `x` and `y` are those of the training step. `right_reasons(mask)` and
            `smoothness()` make such. Attributions have the shape and structure of `x`, with None in the
            place of inputs that are not floating.
          strength: what it is multiplied with.
          targets: which output is explained: `"labels"`, the classes of `y` (class numbers or one-hot rows),
            or the only output; `"predicted"`; an int; or `"all"`, attributions `[B, C, ...]`.
          baselines, num_steps, method: as for `igtf.integrated_gradients`, of the floating inputs.
            Training keeps the activations of every step, and `secant` needs few.

        Raises:
          TypeError, ValueError: wrong arguments.
        """
        if not callable(prior):
            raise TypeError(
                f"AttributionPenalty: prior is a {type(prior).__name__}, expected a function "
                "(attributions, x, y), such as right_reasons(mask) or smoothness()."
            )
        if not isinstance(strength, (int, float, np.number)) or not 0 <= strength < np.inf:
            raise ValueError(f"AttributionPenalty: strength is {strength!r}, expected a number from 0 on.")
        if not is_int(targets) and not (isinstance(targets, str) and targets in TARGETS):
            raise ValueError(
                f"AttributionPenalty: targets is {targets!r}, {expected(targets, TARGETS)} or a class number."
            )
        options = dict(baselines=baselines, num_steps=num_steps, method=method)
        self._prior = _Prior(prior, strength, targets, options)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **options: Any
    ) -> Any:
        """What Keras' `train_step` minimises."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, **options)  # type: ignore[misc]
        if self._prior is None or self._judging:
            return loss
        return loss + tf.cast(self._prior(self, x, y), loss.dtype)

    def test_step(self, data: Any) -> Any:
        self._judging = True
        try:
            return super().test_step(data)  # type: ignore[misc]
        finally:
            self._judging = False


class _Prior:
    """A penalty on the attributions of a model for the rows of a training step."""

    def __init__(self, prior, strength, targets, options):
        self._prior, self._strength, self._targets, self._options = prior, strength, targets, options

    def __call__(self, model, x, y):
        if tf.executing_eagerly():
            raise ValueError(
                "AttributionPenalty: the training step runs eagerly, expected a graph, in which attributions "
                "are made. Compile the model without run_eagerly=True."
            )
        flat = tf.nest.flatten(x)
        xs = [t for t in flat if t.dtype.is_floating]
        if not xs:
            raise TypeError(
                f"AttributionPenalty: the inputs are {describe(x)} without a floating dtype, which have no "
                "gradient. Write the penalty into train_step, with the output of the embedding as xs."
            )
        wanted = xs if len(xs) > 1 else xs[0]
        found = iter(tf.nest.flatten(self._attributions(model(x, training=False), wanted, y)))
        attributions = [next(found) if t.dtype.is_floating else None for t in flat]
        penalty = self._prior(tf.nest.pack_sequence_as(x, attributions), x, y)
        return self._strength * tf.reduce_mean(tf.convert_to_tensor(penalty))

    def _attributions(self, ys, xs, y):
        if tf.nest.is_nested(ys):
            raise ValueError(
                f"AttributionPenalty: the model returns {describe(ys)}, expected one output. Write the "
                "penalty into train_step, with grad_ys for each of them."
            )
        if self._targets == "all":
            ys, _ = weigh("targets", ys, "all")
            return integrated_jacobian(ys, xs, **self._options)
        ys, weights = weigh("targets", ys, self._target_of(ys, y))
        return integrated_gradients(ys, xs, grad_ys=weights, **self._options)

    def _target_of(self, ys, y):
        """Class numbers, one-hot rows, or None for the only output or the predicted one."""
        if ys.shape[1:].num_elements() == 1 or self._targets == "predicted":
            return None
        if is_int(self._targets):
            return tf.fill(tf.shape(ys)[:1], self._targets)
        if tf.nest.is_nested(y) or y is None:
            raise ValueError(
                f"AttributionPenalty: y is {describe(y)}, expected one array of labels. Pass "
                "targets='predicted' or 'all'."
            )
        # Keras hands class numbers on as it gets them, of any dtype.
        numbers = y.shape.rank == 1 or (y.shape.rank == 2 and y.shape[1] == 1)
        return tf.cast(y, tf.int32) if numbers else tf.cast(y, ys.dtype)


def right_reasons(mask: ArrayLike | dict | tuple) -> Callable:
    """The prior that attributions are 0 where a mask is not: the network should not look there.

    Args:
      mask: one number for each feature, `[...]` (or what broadcasts to it), 0 where the network may look; for
        several inputs a dict or tuple of these, None for inputs that may be looked at.

    Returns:
      For `AttributionPenalty.penalize`: the sum of `(mask * attributions) ** 2` over the features, as in
      https://arxiv.org/abs/1703.03717, for each row.
      Of every class, over the classes, too.

    Raises:
      TypeError: `mask` holds no numbers.

    >>> penalty = right_reasons([0, 1])(tf.constant([[3.0, 2.0]]), None, None)
    >>> penalty.numpy().tolist()
    [4.0]
    """
    given: Any = [mask[key] for key in sorted(mask)] if isinstance(mask, dict) else mask
    given = given if isinstance(mask, (dict, tuple)) else [mask]
    masks = [None if m is None else _numbers(m) for m in given]

    def prior(attributions, x, y):
        parts = zip(tf.nest.flatten(attributions), masks)
        return sum(_squares(a * tf.cast(m, a.dtype)) for a, m in parts if a is not None and m is not None)

    return prior


def smoothness(axes: Sequence[int] | None = None) -> Callable:
    """The prior that neighbours have like attributions.

    Args:
      axes: axes along which there are neighbours, counted from the end, such as `(-3, -2)`. `None`: those of
        images `[B, H, W, C]` and volumes, of series `[B, T, C]`, and the features of rows `[B, F]`.

    Returns:
      For `AttributionPenalty.penalize`: the mean of the squared differences between neighbours, summed over
      the axes, a scalar.

    Raises:
      ValueError: axes that are not counted from the end.

    >>> smoothness()(tf.constant([[1.0, 3.0, 3.0]]), tf.zeros([1, 3]), None).numpy().item()
    2.0
    """
    if axes is not None and not (len(axes) and all(is_int(axis) and axis < 0 for axis in axes)):
        raise ValueError(f"smoothness: axes is {axes!r}, expected ints below 0, such as (-3, -2).")

    def prior(attributions, x, y):
        total = 0.0
        for a, rows in zip(tf.nest.flatten(attributions), tf.nest.flatten(x)):
            if a is not None:
                total += sum(_roughness(a, axis) for axis in axes or _places(rows.shape.rank))
        return total

    return prior


def _places(rank):
    """The axes of rows of some rank along which there are neighbours."""
    return [-1] if rank == 2 else range(1 - rank, -1)


def _roughness(a, axis):
    size = tf.shape(a)[axis]
    ahead, behind = (tf.gather(a, tf.range(start, size - 1 + start), axis=axis) for start in (1, 0))
    return tf.reduce_mean(tf.square(ahead - behind))


def _squares(a):
    """`[B]`: the sum over the features (where there is an axis of classes, of all of them)."""
    return tf.reduce_sum(tf.square(a), axis=range(1, a.shape.rank))


def _numbers(mask):
    mask = np.asarray(mask)
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"right_reasons: mask has dtype {mask.dtype}, expected numbers or Booleans.")
    return mask
