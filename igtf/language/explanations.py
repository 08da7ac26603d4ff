"""What a TextExplainer returns: tokens with their scores, as arrays and as pictures."""

import dataclasses
import os
from typing import Any

import numpy as np

__all__ = ["GenerationExplanation", "LayerScores", "TextExplanation"]


@dataclasses.dataclass(frozen=True, eq=False)
class TextExplanation:
    """What the tokens of a text contribute to a score of a classifier. A notebook shows the coloured text.

    `T`: tokens, words or whatever `groups` asked for.

    Attributes:
      tokens: `T` strings.
      scores: `[T]`; they sum to `output - base_value` but for `delta`, for methods that are complete.
      target: the number of the class, or None for weights and for a model with one output.
      label: its name, or "".
      output: the score that is explained.
      base_value: the same of the baseline; None for methods without one.
      delta: sum of the scores minus the change of the output; None for methods that promise none.
      error: the estimated relative error of the scores, with `return_error`, or None.
    """

    tokens: list[str]
    scores: np.ndarray
    target: int | None
    label: str
    output: float
    base_value: float | None = None
    delta: float | None = None
    error: float | None = None

    def plot(self, output: str = "html", **options: Any) -> Any:
        """The text with coloured words: HTML, or with `"figure"` a Matplotlib figure.

        Args:
          output, **options: as for `igtf.visualization.highlight_text`.
        """
        from igtf import visualization

        options.setdefault("labels", f"{self.label or 'output'}, {self.output:.3g}")
        return visualization.highlight_text(self.tokens, self.scores, output, **options)

    def largest(self, count: int = 5) -> list[tuple[str, float]]:
        """The tokens with the largest magnitudes and their scores."""
        order = np.argsort(-np.abs(self.scores), kind="stable")[:count]
        return [(self.tokens[i], float(self.scores[i])) for i in order]

    def _repr_html_(self) -> str:
        return str(self.plot())


@dataclasses.dataclass(frozen=True, eq=False)
class GenerationExplanation:
    """What each token of a continuation is due to: the tokens of the prompt, and of the continuation so far.

    `P`: tokens (words) of the prompt, `C` of the continuation. A notebook shows a view in which a click on a
    word of the continuation colours what it is due to.

    Attributes:
      prompt, continuation: `P` and `C` strings.
      scores: `[C, P + C]`: row `c` sums to `outputs[c] - base_values[c]` but for `deltas[c]`, for methods
        that are complete. What comes later in the continuation gets 0.
      outputs: `[C]`, what is explained: log-probabilities, logits, or differences of logits.
      base_values: `[C]`, the same of the baseline; None for methods without one.
      deltas: `[C]`, or None for methods that promise none.
      errors: `[C]`, estimated relative errors with `return_error`, or None.
      target: `"log_prob"`, `"logit"` or `"contrast"`.
      rivals: for a contrast, the `C` tokens that the ones of the continuation are compared with, or None.
    """

    prompt: list[str]
    continuation: list[str]
    scores: np.ndarray
    outputs: np.ndarray
    base_values: np.ndarray | None
    deltas: np.ndarray | None
    errors: np.ndarray | None
    target: str
    rivals: list[str] | None = None

    @property
    def to_prompt(self) -> np.ndarray:
        """The part of the scores that is due to the prompt, `[C, P]`."""
        return self.scores[:, : len(self.prompt)]

    def plot(self, **options: Any) -> Any:
        """The matrix, a Matplotlib figure.

        Args:
          **options: as for `igtf.visualization.token_matrix`.
        """
        from igtf import visualization

        options.setdefault("label", NAMES[self.target])
        return visualization.token_matrix(self.prompt, self._named(), self.scores, **options)

    def page(self, path: str | os.PathLike = "generation.html", **options: Any) -> Any:
        """Writes a page in which a click on a word of the continuation colours what it is due to.

        Args:
          path, **options: as for `igtf.visualization.generation_page`.
        """
        from igtf import visualization

        options = self._about() | options
        return visualization.generation_page(
            self.prompt, self.continuation, self.scores, path=path, **options
        )

    def _repr_html_(self) -> str:
        from igtf import visualization

        about = self._about()
        return str(visualization.generation_view(self.prompt, self.continuation, self.scores, **about))

    def _about(self):
        return {"label": NAMES[self.target], "outputs": self.outputs, "rivals": self.rivals}

    def _named(self):
        if self.rivals is None:
            return self.continuation
        return [f"{token}, not {rival}" for token, rival in zip(self.continuation, self.rivals)]


NAMES = {"log_prob": "log-probability", "logit": "logit", "contrast": "difference of logits"}


@dataclasses.dataclass(frozen=True, eq=False)
class LayerScores:
    """What goes through layers, or their heads, along the path of the embeddings (conductance).

    Attributes:
      layers: `L` names.
      tokens: `T` strings, or None for heads.
      scores: `[L, T]`, or `[L, heads]`.
      output, base_value: what is explained, at the text and at its baseline.
    """

    layers: list[str]
    tokens: list[str] | None
    scores: np.ndarray
    output: float
    base_value: float

    def plot(self, **options: Any) -> Any:
        """The matrix of layers and tokens or heads, a Matplotlib figure.

        Args:
          **options: as for `igtf.visualization.token_matrix`.
        """
        from igtf import visualization

        names = self.tokens or [f"head {n}" for n in range(self.scores.shape[1])]
        options.setdefault("label", "conductance")
        return visualization.token_matrix(names, self.layers, self.scores, **options)
