"""Methods by name: a graph builder, its options, and what it needs and promises."""

import inspect

import igtf.methods as methods
from igtf.attributions import integrated_gradients, integrated_jacobian, layer_conductance
from igtf.explainer.arrays import expected, listed

__all__ = ["COMPLETE", "METHODS", "Method"]


METHODS = {
    "integrated_gradients": integrated_gradients,
    "layer_conductance": layer_conductance,
    **{name: getattr(methods, name) for name in methods.__all__},
}
RULES = (
    "auto",
    "secant",
    "gausslegendre",
    *(f"riemann_{r}" for r in ("left", "right", "middle", "trapezoid")),
)
# Those whose attributions sum to F(x) - F(baseline).
COMPLETE = ("integrated_gradients", "layer_conductance", "deeplift", "shapley_value_sampling")
# Those that need no gradient: of ids, too.
BLACK_BOX = ("occlusion", "shapley_value_sampling")


class Method:
    """A graph builder with its options: called as `method(ys, xs, starts, weights)` for attributions.

    Attributes:
      takes_baselines: whether it compares with a baseline.
      draws: whether its baselines are a data set to draw from.
      black_box: whether it needs no gradient.
      complete: whether its attributions sum to F(x) - F(baseline).
      on_input_path: whether it explains a hidden layer along the path of the inputs.
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
            others = ("smoothgrad", "layer_conductance", "expected_gradients")
            simple = [method for method in METHODS if method not in others]
            if builder not in simple:
                raise ValueError(
                    f"Explainer: method_options['builder'] is {builder!r}, {expected(builder, simple)}."
                )
            self._options["builder"] = METHODS[builder]
            parameters.update(inspect.signature(METHODS[builder]).parameters)
        del parameters["ys"], parameters["xs"]
        self._given = [p for p in ("grad_ys", "baselines", "baseline", "layer", "name") if p in parameters]
        self.takes_baselines = "baselines" in parameters or "baseline" in parameters
        self.draws = "baselines" in parameters and parameters["baselines"].default is inspect.Parameter.empty
        self.on_input_path = "layer" in parameters
        self.black_box, self.complete = name in BLACK_BOX, name in COMPLETE
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

    def check_call(self, baselines, return_delta):
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

    def __call__(self, ys, xs, starts, weights, layer=None):
        options = dict(self._options)
        if weights is not None:
            options["grad_ys"] = weights
        if layer is not None:
            options["layer"] = layer
        if starts is not None:
            options["baselines" if "baselines" in self._given else "baseline"] = starts
        return self._function(ys=ys, xs=xs, **options)

    def jacobian(self, ys, xs, starts, weights):
        return integrated_jacobian(ys, xs, starts, **self._options)

    def remedy(self):
        """What to do where attributions do not sum to the change of the output."""
        if self.name not in ("integrated_gradients", "layer_conductance"):
            return "Use method='integrated_gradients' with enough steps, or a network of ops that have rules."
        steps, rule = self._options.get("num_steps", 50), self._options.get("method", "auto")
        other = "gausslegendre" if rule == "secant" else "secant"
        return (
            f"Pass more steps, such as num_steps={4 * steps}, or another rule, method_options={{'method': "
            f"{other!r}, 'num_steps': {4 * steps}}}, and look at what return_delta=True returns."
        )
