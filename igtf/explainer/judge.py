"""Methods and metrics in one graph: what takes the place of a method where methods are judged."""

import inspect

import numpy as np
import tensorflow as tf

import igtf.evaluation as evaluation
from igtf.explainer.arrays import expected, listed
from igtf.explainer.method import Method
from igtf.explainer.outputs import InPlaceOfMethod
from igtf.methods.common import normal, seed_of, shape_of
from integrated_gradients_tf import wide_dtype

__all__ = ["BETTER", "Judge"]

# Whether higher or lower scores are better; of those that are not listed neither is.
BETTER = {
    "deletion": "lower",
    "insertion": "higher",
    "infidelity": "lower",
    "mu_fidelity": "higher",
    "average_drop": "lower",
    "average_increase": "higher",
    "sensitivity_max": "lower",
    "pointing_game": "higher",
}
OURS = ("ys", "xs", "attributions", "builder", "builder_options", "grad_ys", "return_curves", "name")


class Judge(InPlaceOfMethod):
    """All metrics of the attributions of all methods, as one method: `[B, columns]`.

    Attributes:
      columns: after the graph was built, `(metric, method, number of columns)` one after the other.
      better: metric -> "lower", "higher" or None.
    """

    name = "evaluation"

    def __init__(self, own, methods, metrics, reducer, seed, arguments):
        self._methods = _methods(own, methods, arguments, seed)
        self._metrics, self._seed = _metrics(metrics), seed
        self._reducer = reducer
        self.black_box = all(method.black_box for method in self._methods.values())
        self.columns, self.better = [], {}

    def __call__(self, ys, xs, starts, weights):
        self.columns, parts, done = [], [], []
        for label, method in self._methods.items():
            # One after the other: memory is that of one of them.
            with tf.control_dependencies(done):
                done = self._judge(label, method, ys, xs, starts, weights)
            parts += [part if part.shape.rank == 2 else part[:, None] for part in done]
        return tf.concat(parts, 1)

    def _judge(self, label, method, ys, xs, starts, weights):
        """Flat scores `[B]` and curves `[B, points]` of one method."""

        def explain(ys, xs):
            found = method(ys, xs, starts if method.takes_baselines else None, weights)
            return tf.nest.pack_sequence_as(xs, [self._reduced(a) for a in tf.nest.flatten(found)])

        attributions, parts = explain(ys, xs), []
        dtype = wide_dtype(tf.nest.flatten(ys)[0].dtype)
        for named, (metric, options) in self._metrics.items():
            function = getattr(evaluation, metric)
            takes = inspect.signature(function).parameters
            values = dict(ys=ys, xs=xs, attributions=attributions, grad_ys=weights, builder=explain)
            values.update(baselines=starts, seed=self._seed, return_curves=True)
            arguments = {**{key: value for key, value in values.items() if key in takes}, **options}
            found = function(**arguments)
            for name, part in self._named(named, metric, found):
                if part.shape.rank == 1 or part.shape[1] is not None:
                    self.columns.append((name, label, 1 if part.shape.rank == 1 else part.shape[1]))
                    parts.append(tf.cast(part, dtype))
        return parts

    def _named(self, named, metric, found):
        """Pairs of a metric and its tensor: of scores, then of curves if there are any."""
        if metric == "average_drop_increase":
            names = ["average_drop", "average_increase"]
            keys = names if named == metric else [f"{named}: {key}" for key in ("drop", "increase")]
            self.better.update((key, BETTER[name]) for key, name in zip(keys, names))
            return list(zip(keys, found))
        self.better[named] = BETTER.get(metric)
        return [(named, part) for part in found] if isinstance(found, tuple) else [(named, found)]

    def _reduced(self, a):
        if self._reducer is None or a.shape.rank != 4 or a.shape[3] == 1:
            return a
        return getattr(tf, f"reduce_{self._reducer}")(a, axis=3, keepdims=True)


class _Own:
    """A function of the user's, or the control, as a method."""

    takes_baselines = True

    def __init__(self, function, black_box=False):
        parameters = inspect.signature(function).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._takes = [name for name in ("baselines", "grad_ys") if name in parameters or anything]
        self._function, self.black_box = function, black_box

    def __call__(self, ys, xs, starts, weights):
        options = {"baselines": starts, "grad_ys": weights}
        return self._function(ys, xs, **{name: options[name] for name in self._takes})


def _control(seed):
    """Attributions that are drawn: what is no better than these says nothing."""

    def random(ys, xs):
        drawn = [
            normal(shape_of(x), seed_of("evaluate", seed) + [1, 0], i)
            for i, x in enumerate(tf.nest.flatten(xs))
        ]
        return tf.nest.pack_sequence_as(xs, drawn)

    return random


def _methods(own, methods, arguments, seed):
    """`{label: method}`."""
    given = _labelled("methods", own.name if methods is None else methods)
    found = {}
    for label, value in given.items():
        name, options = value if _is_pair(value) else (value, None)
        if callable(value):
            found[label] = _Own(value)
        elif name == "random":
            found[label] = _Own(_control(seed), black_box=True)
        elif name == own.name and options is None:
            found[label] = own
        else:
            found[label] = Method(name, options or {}, False, arguments)
        method = found[label]
        if any(getattr(method, kind, False) for kind in ("maps", "draws", "on_input_path", "per_group")):
            raise ValueError(
                f"Explainer.evaluate: methods have {label!r}, expected methods that explain each input by "
                "itself and need no layer and no data set. Give a function (ys, xs, baselines, grad_ys) that "
                "returns attributions in the shapes of xs."
            )
    return found


def _metrics(metrics):
    """`{label: (name, options)}`."""
    found = {}
    for label, value in _labelled("metrics", metrics).items():
        name, options = value if _is_pair(value) else (value, {})
        if name not in evaluation.__all__:
            raise ValueError(f"Explainer.evaluate: metric is {name!r}, {expected(name, evaluation.__all__)}.")
        parameters = inspect.signature(getattr(evaluation, name)).parameters
        known = [p for p in parameters if p not in OURS]
        for option in options:
            if option not in known:
                raise ValueError(
                    f"Explainer.evaluate: options of {name} have {option!r}, {expected(option, known)}."
                )
        if name == "pointing_game" and "mask" not in options:
            raise ValueError(
                "Explainer.evaluate: pointing_game has no mask, expected one for all rows: ('pointing_game', "
                "{'mask': ...}). For one for each row call igtf.pointing_game."
            )
        found[label] = name, options
    return found


def _labelled(argument, given):
    """`{label: value}` of a dict, a list of names (or pairs of a name and options), or one name."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, (dict, list, tuple)) or not given:
        raise TypeError(
            f"Explainer.evaluate: {argument} is {given!r}, expected a list of names, or a dict "
            "{label: name, or (name, options)}."
        )
    if isinstance(given, dict):
        labelled = given
    else:
        labels = [value[0] if _is_pair(value) else getattr(value, "__name__", value) for value in given]
        labelled = dict(zip(labels, given))
        if len(labelled) < len(given):
            raise ValueError(
                f"Explainer.evaluate: {argument} has {listed(labels)}, expected different names. Give a dict "
                "of labels for several of one name."
            )
    for label, value in labelled.items():
        if not (isinstance(value, (str, np.str_)) or _is_pair(value) or callable(value)):
            raise TypeError(
                f"Explainer.evaluate: {argument} has {value!r} for {label!r}, expected a name or a pair "
                "(name, options)."
            )
    return labelled


def _is_pair(value):
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    return pair and isinstance(value[0], str) and isinstance(value[1], dict)
