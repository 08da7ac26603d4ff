"""What an Explainer can say about explanations: scores of methods, and what random weights do to them."""

import copy
import dataclasses
import inspect
from typing import Any

import tensorflow as tf

from igtf.explainer.evaluation import Evaluation
from igtf.explainer.judge import Judge

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
        found = _with_method(self, judge).explain(
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


def _with_method(explainer, method):
    """An explainer of the same network with another method."""
    other = copy.copy(explainer)
    other._setup = dataclasses.replace(explainer._setup, method=method)
    other._traced, other._reducer = {}, None
    return other
