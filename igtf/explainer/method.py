"""Methods by name: a graph builder, its options, and what it needs and promises."""

import inspect

import tensorflow as tf

import igtf.methods as methods
from igtf.attributions import integrated_gradients, integrated_jacobian
from igtf.conductance import layer_conductance
from igtf.explainer.arrays import expected, listed
from igtf.guided import guided_integrated_gradients
from igtf.levels import METHODS as RULES
from igtf.levels import MOST_STEPS, STEPS
from igtf.paths import (
    blur_integrated_gradients,
    path_integrated_gradients,
    sequential_integrated_gradients,
)
from integrated_gradients_tf import broadcast_like, flat_baselines

__all__ = ["COMPLETE", "METHODS", "Method", "merged_options"]


def along_path(
    ys,
    xs,
    path,
    baselines=None,
    num_steps=None,
    method="auto",
    grad_ys=None,
    max_rows=None,
    tolerance=None,
    return_error=False,
):
    """`path_integrated_gradients` along a function of the time, the inputs and their baselines."""
    way, flat = path, tf.nest.flatten(xs)
    if callable(path):
        starts = flat_baselines("path_integrated_gradients", xs, flat, baselines)
        starts = tf.nest.pack_sequence_as(xs, [broadcast_like(*pair) for pair in zip(starts, flat)])

        def way(time):
            return path(time, xs, starts)

    options = dict(num_steps=num_steps, method=method, max_rows=max_rows, tolerance=tolerance)
    return path_integrated_gradients(ys, xs, way, grad_ys=grad_ys, return_error=return_error, **options)


METHODS = {
    "integrated_gradients": integrated_gradients,
    "layer_conductance": layer_conductance,
    "path_integrated_gradients": along_path,
    "blur_integrated_gradients": blur_integrated_gradients,
    "sequential_integrated_gradients": sequential_integrated_gradients,
    "guided_integrated_gradients": guided_integrated_gradients,
    **{name: getattr(methods, name) for name in methods.__all__},
}
# Those whose attributions sum to F(x) - F(baseline).
COMPLETE = ("integrated_gradients", "layer_conductance", "deeplift", "shapley_value_sampling", "kernel_shap")
COMPLETE += ("path_integrated_gradients", "guided_integrated_gradients")
# Those that take steps.
INTEGRALS = ("integrated_gradients", "layer_conductance")
INTEGRALS += ("path_integrated_gradients", "blur_integrated_gradients")
# Those that need no gradient: of ids, too.
BLACK_BOX = ("occlusion", "shapley_value_sampling", "kernel_shap")
# Those that say where a hidden layer is active.
MAPS = ("grad_cam", "layer_cam")


class Method:
    """A graph builder with its options: called as `method(ys, xs, starts, weights)` for attributions.

    Attributes:
      takes_baselines: whether it compares with a baseline.
      draws: whether its baselines are a data set to draw from.
      black_box: whether it needs no gradient.
      complete: whether its attributions sum to F(x) - F(baseline).
      integrates: whether it takes steps, so that errors can be estimated.
      tolerance: the relative error that attributions may have, or None; `most_steps` is where it ends.
      on_input_path: whether it explains a hidden layer along the path of the inputs.
      maps: whether it returns one map of where a hidden layer is active.
      per_group: whether it returns attributions of groups, of all inputs together.
    """

    def __init__(self, name, options, hidden, arguments):
        if name not in METHODS:
            rule = f" A rule of integration is an option: method_options={{'method': {name!r}}}."
            hint = rule if name in RULES else ""
            raise ValueError(f"Explainer: method is {name!r}, {expected(name, METHODS)}.{hint}")
        self.name, self._options = name, dict(options or {})
        self._function = METHODS[name]
        parameters = dict(inspect.signature(self._function).parameters)
        if name == "smoothgrad":
            builder = self._options.get("builder", "saliency")
            others = ("smoothgrad", "layer_conductance", "expected_gradients", *MAPS)
            simple = [method for method in METHODS if method not in others]
            if builder not in simple:
                raise ValueError(
                    f"Explainer: method_options['builder'] is {builder!r}, {expected(builder, simple)}."
                )
            self._options["builder"] = METHODS[builder]
            parameters.update(inspect.signature(METHODS[builder]).parameters)
        del parameters["ys"], parameters["xs"]
        ours = ("grad_ys", "baselines", "baseline", "layer", "return_error", "name")
        self._given = [p for p in ours if p in parameters]
        self.takes_baselines = "baselines" in parameters or "baseline" in parameters
        self.draws = "baselines" in parameters and parameters["baselines"].default is inspect.Parameter.empty
        self.maps, self.per_group = name in MAPS, bool(self._options.get("per_group"))
        self.on_input_path = "layer" in parameters and not self.maps
        self.black_box, self.complete = name in BLACK_BOX, name in COMPLETE
        self.integrates = name in INTEGRALS
        self.tolerance = self._options.get("tolerance") if self.integrates else None
        self.most_steps = self._options.get("num_steps") or MOST_STEPS
        known = [p for p in parameters if p not in [*self._given, "builder_options", "per_row"]]
        for option in self._options:
            if option not in known:
                names = [*known, *(p for p in arguments if p not in ("model", "options"))]
                raise ValueError(
                    f"Explainer: the options have {option!r}, {expected(option, names)}: those of {name}, "
                    "and the arguments of Explainer. Baselines and targets are arguments of explain."
                )
        empty = inspect.Parameter.empty
        missing = [p for p in known if parameters[p].default is empty and p not in self._options]
        if missing:
            raise ValueError(
                f"Explainer: method_options lacks {listed(missing)}, expected every option of {name} that "
                f"has no default. Pass method_options={{{missing[0]!r}: ...}}."
            )
        if self.on_input_path and not hidden:
            raise ValueError(
                f"Explainer: layer is None, expected the name or index of a layer for {name}. Pass layer=..."
            )

    def check_call(self, baselines, return_delta, return_error):
        if baselines is not None and not self.takes_baselines:
            raise ValueError(
                f"Explainer: baselines were given to {self.name}, expected None: it compares with nothing. "
                "Leave them out, or choose another method."
            )
        if baselines is None and self.draws:
            raise ValueError(
                f"Explainer: baselines is None, expected the data set that {self.name} draws from, [M, ...]. "
                "Pass a sample of the training data."
            )
        if return_delta and not self.complete:
            raise ValueError(
                f"Explainer: return_delta is True for {self.name}, expected a method whose attributions sum "
                f"to the change of the output: {listed(COMPLETE)}. Leave it out."
            )

        if return_error and not self.integrates:
            raise ValueError(
                f"Explainer: return_error is True for {self.name}, expected a method that takes steps: "
                f"{listed(INTEGRALS)}. Leave it out."
            )

    def __call__(self, ys, xs, starts, weights, layer=None, **further):
        """What the function returns; `further` are options of one call, such as `return_error`."""
        options = {**self._options, **further}
        if weights is not None:
            options["grad_ys"] = weights
        if layer is not None:
            options["layer"] = layer
        if starts is not None:
            options["baselines" if "baselines" in self._given else "baseline"] = starts
        return self._function(ys=ys, xs=xs, **options)

    def jacobian(self, ys, xs, starts, weights, **further):
        return integrated_jacobian(ys, xs, starts, **self._options, **further)

    @property
    def finer(self):
        """The option, and its value, with which sums of an integral are closer."""
        if self.tolerance:
            return "tolerance", self.tolerance / 10
        return "num_steps", 4 * (self._options.get("num_steps") or STEPS)

    def remedy(self):
        """What to do where attributions do not sum to the change of the output."""
        if not self.integrates:
            return "Use method='integrated_gradients' with enough steps, or a network of ops that have rules."
        if self.name == "path_integrated_gradients":
            return "Let path return the baselines at time 0 and the inputs at time 1."
        rule = self._options.get("method", "auto")
        other = "gausslegendre" if rule == "secant" else "secant"
        name, value = self.finer
        return (
            f"Pass {name}={value:g}, or another rule, method_options={{'method': {other!r}, {name!r}: "
            f"{value:g}}}, and look at what return_delta=True returns."
        )


def merged_options(method_options, options):
    """The options of the method, from both places where they may be given."""
    if not isinstance(method_options, (dict, type(None))):
        raise TypeError(
            f"Explainer: method_options is a {type(method_options).__name__}, expected a dict of options, "
            'such as {"num_steps": 50}.'
        )
    twice = [name for name in options if name in (method_options or {})]
    if twice:
        raise ValueError(
            f"Explainer: {twice[0]!r} is an argument and in method_options, too, expected one of them. Leave "
            "one out."
        )
    return {**(method_options or {}), **options}
