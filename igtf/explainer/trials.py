"""What an Explainer can say about explanations: scores of methods, and what random weights do to them."""

import inspect
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.explainer.evaluation import Evaluation
from igtf.explainer.judge import Judge
from igtf.explainer.outputs import ChosenOutputs, with_method
from igtf.explainer.randomization import compared, shuffling, weights_of

__all__ = ["Trials"]


class Trials:
    """The part of an `Explainer` that judges explanations."""

    def evaluate(
        self: Any,
        inputs: Any,
        targets: Any = None,
        baselines: Any = None,
        methods: Any = None,
        metrics: Any = ("deletion", "insertion"),
        seed: int = 0,
        allow_nan: bool = False,
        progress: bool = True,
    ) -> Evaluation:
        """Scores methods by metrics, on the same rows, batch by batch.

        All of them are in one graph, and each batch is read once, so that scores of two methods belong
        together row by row. Attributions are those of this explainer's inputs (or `layer`), targets and
        baselines; with a `reducer`, images are judged by whole pixels.

        Args:
          inputs, targets, baselines, allow_nan, progress: as for `explain`; one output for each row, not
            `"all"`. With a stack of baselines each is judged by itself, and scores are the mean.
          methods: names of methods, a list; or a dict of labels to names, to pairs `(name, options)`, or to
            functions of your own, `(ys, xs, baselines, grad_ys)`, which return attributions in the shapes
            of `xs`. `None` is the method of this explainer, whose options count for its name.
            `"random"`: a control, attributions that are drawn.
          metrics: names of metrics, a list, or a dict of labels to names or pairs `(name, options)`:
            `"deletion"`, `"insertion"`, `"infidelity"`, `"mu_fidelity"`, `"average_drop_increase"`,
            `"sensitivity_max"`, `"sparseness"`, `"pointing_game"`. Their baselines are those of the
            attributions unless their options have others.
          seed: of what metrics and the control draw.

        Returns:
          An `Evaluation`: `scores` and `curves` of each row, `table()`, `differences()` with bootstrap
          intervals, `markdown()` and `plot()`.

        Raises:
          TypeError, ValueError, RuntimeError, KeyboardInterrupt: as `explain`; for unknown methods, metrics
            and options too.

        >>> explainer = Explainer(lambda x: 2 * x[:, 0] + x[:, 1])
        >>> found = explainer.evaluate([[3.0, 2.0]], methods=["occlusion", "saliency"], progress=False)
        >>> {method: float(scores[0]) for method, scores in found.scores["deletion"].items()}
        {'occlusion': 3.0, 'saliency': 3.0}
        """
        if any(isinstance(t, str) and t == "all" for t in tf.nest.flatten(targets)):
            raise ValueError(
                "Explainer.evaluate: targets is 'all', expected one output for each row. Evaluate one class "
                "after the other."
            )
        arguments = inspect.signature(type(self)).parameters
        judge = Judge(self._setup.method, methods, metrics, self._reducer, seed, arguments)
        found = with_method(self, judge).explain(
            inputs, targets, baselines, allow_nan=allow_nan, progress=progress
        )
        scores: dict = {}
        curves: dict = {}
        begin = 0
        for metric, method, width in judge.columns:
            part = found[:, begin : begin + width]
            begin += width
            if width > 1:
                curves.setdefault(metric, {})[method] = part
            else:
                scores.setdefault(metric, {})[method] = part[:, 0]
        return Evaluation(scores, curves, judge.better)

    def randomization_test(
        self: Any,
        inputs: Any,
        targets: Any = None,
        baselines: Any = None,
        layers: Any = None,
        ssim: bool = False,
        seed: int = 0,
        allow_nan: bool = False,
        progress: bool = True,
    ) -> dict[str, Any]:
        """How alike explanations are to those of the same network with shuffled weights: they should not be.

        Adebayo et al., https://arxiv.org/abs/1810.03292, section 3.1 (cascading randomization): layers lose
        what they have learned one after the other, from the top, and stay so; explanations that hardly change
        show the input, or the wiring, and not what was learned. Here the entries of each weight are shuffled,
        which keeps their distribution and needs no initializer. The weights of the model are as before in the
        end, whatever happens in between. A low similarity says that the weights matter, not that the
        explanation is right; noise passes, too.

        Args:
          inputs, targets, baselines, allow_nan: as for `explain`; one output for each row, not `"all"`. What
            the network predicts is what it predicts with its own weights.
          layers: names or indices of layers, from the top; or `{name: variables}`, for models that are not
            Keras'. `None`: all layers with weights, the last one first.
          ssim: whether to compare images by their structural similarity, too (needs scikit-image).
          seed: of the shuffles.
          progress: whether to show Keras' progress bar, over the layers.

        Returns:
          `{"layers": names, "rank_correlation": [L, N], "of_sizes": [L, N]}`, and `"ssim": [L, N]` of maps
          that are scaled to their largest size: for each layer, with it and all above it shuffled, Spearman's
          correlation of the attributions, and of their sizes, with those of the network as it is. NaN where
          attributions are all equal.

        Raises:
          TypeError, ValueError, RuntimeError, KeyboardInterrupt: as `explain`; ValueError where no layer
            with weights is found.
          ImportError: `ssim` is true and scikit-image is not installed.

        >>> layers = [tf.keras.layers.Dense(4, "relu", name="hidden"), tf.keras.layers.Dense(1, name="top")]
        >>> model = tf.keras.Sequential([tf.keras.Input((6,)), *layers])
        >>> found = Explainer(model).randomization_test(np.random.normal(size=[3, 6]), progress=False)
        >>> found["layers"], found["rank_correlation"].shape
        (['top', 'hidden'], (2, 3))
        """
        weights = weights_of(self._setup.network, layers)
        targets = self._fixed(inputs, targets, baselines, allow_nan)

        def explain():
            return self.explain(inputs, targets, baselines, allow_nan=allow_nan, progress=False)

        bar = tf.keras.utils.Progbar(len(weights), unit_name="layer") if progress else None
        before, found = explain(), []
        with shuffling(weights, seed) as shuffle, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about explanations that nobody reads
            for number, name in enumerate(weights, 1):
                shuffle(name)
                found.append(compared(before, explain(), ssim))
                if bar:
                    bar.update(number)
        measures = {key: np.stack([part[key] for part in found]) for key in found[0]}
        return {"layers": list(weights), **measures}

    def _fixed(self: Any, inputs: Any, targets: Any, baselines: Any, allow_nan: bool) -> Any:
        """Targets that shuffled weights do not change."""
        if isinstance(targets, str) and targets == "all":
            raise ValueError(
                "Explainer.randomization_test: targets is 'all', expected one output for each row. Test one "
                "class after the other."
            )
        predicted = targets is None or isinstance(targets, str)
        if isinstance(inputs, tf.data.Dataset):
            spec = inputs.element_spec
            if predicted and not (targets is None and isinstance(spec, tuple) and len(spec) in (2, 3)):
                raise ValueError(
                    "Explainer.randomization_test: inputs is a data set without targets, expected one of "
                    "pairs (inputs, targets): predictions change with the weights. Or pass a class number."
                )
            return targets
        if not predicted or self._setup.operator is not None:
            return targets
        chosen = with_method(self, ChosenOutputs()).explain(
            inputs, targets, baselines, allow_nan=allow_nan, progress=False
        )
        return chosen if chosen.shape[1] else targets
