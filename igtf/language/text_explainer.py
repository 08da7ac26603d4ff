"""Texts in, scores of words out: the TextExplainer."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from igtf.arguments import is_int
from igtf.explainer.arrays import expected, listed
from igtf.explainer.method import METHODS, Method, merged_options
from igtf.language.classes import choice_of_classes
from igtf.language.cost import Cost, cost_of
from igtf.language.encoding import Encoder
from igtf.language.explanations import GenerationExplanation, LayerScores, TextExplanation
from igtf.language.generation import (
    choice_of,
    continuation_groups,
    continuation_of,
    explained_generation,
    joined_reading,
    rivals_of,
)
from igtf.language.graph import PREDICTED, Setup, class_scores, next_tokens
from igtf.language.layers import conductances
from igtf.language.network import TextNetwork
from igtf.language.notes import warn_of_deltas
from igtf.language.runner import Runner
from igtf.language.tokens import Vocabulary

__all__ = ["TextExplainer"]

Text: TypeAlias = str | tuple[str, ...]
Groups: TypeAlias = str | Sequence[str] | Callable[[list[str]], Sequence[int]]

REFUSED = ("grad_cam", "layer_cam", "blur_integrated_gradients", "layer_conductance")
TARGETS = ("log_prob", "logit", "contrast")
AT_ONCE = 64  # tokens of a continuation that are explained in one run


class TextExplainer:
    """Explains what a model says of texts, or says next, by their words.

    Integrated gradients (Sundararajan et al., https://arxiv.org/abs/1703.01365) of the embeddings that token
    ids are looked up as, summed over each embedding, unless another `method` is named. What is traced is
    traced once for each padded length and kept.

    Args:
      model: a classifier, causal or sequence-to-sequence model of KerasHub; or any callable on ids `[B, T]`
        (and, if it takes two arguments, on their padding mask `[B, T]`) that returns scores `[B]` or `[B,
        C]`, or logits `[B, T, V]` of the next token; or a signature of such a model. Ids are found where
        they are looked up in a table.
      tokenizer: of KerasHub, or an object with `encode(text)` and `decode(ids)`. A model of KerasHub brings
        its own.
      preprocessor: what makes inputs of texts, a dict of arrays; that of the model if it has one. For its
        exported signatures, pass it.
      method: name of a function of `igtf`, as for `igtf.Explainer`. `"occlusion"`, `"shapley_value_sampling"`
        and `"kernel_shap"` switch groups of tokens as they are asked for; for `"expected_gradients"`,
        `baselines` are a list of texts to draw from.
      baselines: what tokens are compared with: `"padding"`, `"mask"` (the tokens of those names), `"mean"`
        of the whole table of embeddings, or a token by its id or text. Special tokens and padding stay.
      method_options: dict of options of the method, such as `{"num_steps": 100}`.
      labels: names of the classes.
      special_tokens: whether special tokens (starts, separators) are compared with the baseline and shown
        like others. Otherwise they are the same in the baseline, and so have no share.
      batch_size: texts to explain at once.
      jit_compile: whether to compile with XLA.
      **options: further options of the method, as in `TextExplainer(model, num_steps=100)`.

    Attributes:
      traces: how many times the model was traced so far.

    Raises:
      TypeError: `model` is not callable, `tokenizer` is none, or an option has the wrong type.
      ValueError: unknown method, baseline or option; no tokenizer; a model that looks nothing up.

    >>> class Letters:  # a tokenizer
    ...     def encode(self, text):
    ...         return [ord(c) - 97 for c in text]
    ...
    ...     def decode(self, ids):
    ...         return "".join(chr(97 + i) for i in ids)
    >>> table = tf.constant([[0.0], [1.0], [2.0], [4.0]])  # of a, b, c, d
    >>> model = lambda ids: tf.reduce_sum(tf.gather(table, ids), axis=[1, 2])
    >>> found = TextExplainer(model, Letters()).explain("bad", groups="tokens", progress=False)
    >>> found.tokens, found.scores.round(4).tolist()
    (['b', 'a', 'd'], [1.0, 0.0, 4.0])
    """

    def __init__(
        self,
        model: Callable,
        tokenizer: Any = None,
        preprocessor: Any = None,
        method: str = "integrated_gradients",
        baselines: Any = "padding",
        method_options: dict[str, Any] | None = None,
        labels: Sequence[str] | None = None,
        special_tokens: bool = False,
        batch_size: int = 8,
        jit_compile: bool = False,
        **options: Any,
    ) -> None:
        preprocessor = preprocessor if preprocessor is not None or tokenizer is not None else _of(model)
        tokenizer = tokenizer if tokenizer is not None else getattr(preprocessor, "tokenizer", None)
        if tokenizer is None:
            raise ValueError(
                "TextExplainer: tokenizer is None and the model brings no preprocessor, expected one of "
                "them: they make ids of texts. Pass tokenizer=..."
            )
        if method in REFUSED:
            hint = " Call its method conductance." if method == "layer_conductance" else ""
            fitting = listed(sorted(set(METHODS) - set(REFUSED)))
            raise ValueError(f"TextExplainer: method is {method!r}, expected one for texts: {fitting}.{hint}")
        self._options = merged_options(method_options, options)
        chosen = Method(method, self._options, False, _arguments())
        if not is_int(batch_size) or batch_size < 1:
            raise ValueError(f"TextExplainer: batch_size is {batch_size!r}, expected a positive int.")
        network = TextNetwork(model, preprocessor is not None)
        vocabulary = Vocabulary(tokenizer)
        encoder = Encoder(vocabulary, preprocessor, network.reads_mask)
        setup = Setup(network, chosen, isinstance(baselines, str) and baselines == "mean", bool(jit_compile))
        self._runner = Runner(setup, vocabulary, encoder, bool(special_tokens))
        if chosen.draws:
            self._runner.drawn = _texts_to_draw(encoder, baselines)
        else:
            self._runner.baseline = _baseline(vocabulary, baselines)
        self._model, self._preprocessor, self._size = model, preprocessor, int(batch_size)
        self._labels = None if labels is None else list(map(str, labels))

    @property
    def traces(self) -> int:
        return self._runner.setup.traces

    def explain(
        self,
        texts: Text | Sequence[Text],
        targets: Any = None,
        groups: Groups = "words",
        return_error: bool = False,
        progress: bool = True,
    ) -> Any:
        """What the words of texts contribute to the scores of a classifier.

        Args:
          texts: a text, or a list of them. For models that read two, pairs `(premise, hypothesis)`.
          targets: which score is explained. `None` or `"predicted"`: the largest one of each text. A number
            or label of a class for all texts, or a list of one for each. Weights of the classes, floats
            `[N, C]`.
          groups: what has a score: `"tokens"`, `"words"`, `"sentences"`, a list of phrases of the text
            (beside them words), or a function that gets the tokens of a text, strings, and returns a number
            for each; tokens of one number are a group. Scores of a group are the sum of those of its tokens;
            methods
            that switch tokens off and on switch the group.
          return_error: whether to estimate the error (`igtf.attribution_error`), which without the option
            `tolerance` costs half as much again.
          progress: whether to show Keras' progress bar.

        Returns:
          A `TextExplanation` for a text, a list of them for a list.

        Raises:
          TypeError, ValueError: texts, targets or groups that do not fit.

        Warns:
          UserWarning: a text that the preprocessor cuts; scores that are more than 5 % from adding up.
        """
        single = isinstance(texts, (str, tuple))
        given = [texts] if single else list(texts) if isinstance(texts, (list, np.ndarray)) else []
        if not given or not all(isinstance(t, (str, tuple)) for t in given):
            raise TypeError(
                f"TextExplainer.explain: texts is {texts!r}, expected a string or a list of them."
            )
        choice = choice_of_classes(targets, self._labels, len(given))
        readings = [self._runner.reading_of(text, groups) for text in given]
        results: list = [None] * len(given)
        batches = _batches(readings, self._size)
        bar = tf.keras.utils.Progbar(len(batches), unit_name="batch") if progress else None
        for numbers in batches:
            rows, chosen = [readings[n] for n in numbers], {k: v[numbers] for k, v in choice.items()}
            found = self._runner.run(class_scores, "classes", rows, chosen, return_error)
            for i, n in enumerate(numbers):
                results[n] = self._explanation(rows[i], {key: value[i] for key, value in found.items()})
            if bar:
                bar.add(1)
        found = [(" ".join(r.tokens), r.scores, r.output - (r.base_value or 0), r.delta) for r in results]
        warn_of_deltas("TextExplainer.explain", self._runner.setup.method, found)
        return results[0] if single else results

    def _explanation(self, reading, found):
        """That of one text, from its row of what was found."""
        scores, complete = reading.sums(found["scores"])[0], self._runner.setup.method.complete
        number, count = int(found["classes"]), int(found["counts"])
        if number >= count:
            raise ValueError(
                f"TextExplainer.explain: targets has the class {number}, expected numbers from 0 to "
                f"{count - 1}: the model has {count} output{'s' * (count > 1)}."
            )
        target = None if number == PREDICTED else number
        label = "" if target is None or self._labels is None else self._labels[target]
        output = float(found["outputs"][0])
        base = float(found["base_values"][0]) if "base_values" in found else None
        delta = (
            float(scores.sum(dtype=np.float64)) - (output - base) if complete and base is not None else None
        )
        error = float(found["errors"][0]) if "errors" in found else None
        return TextExplanation(reading.labels, scores, target, label, output, base, delta, error)

    def explain_generation(
        self,
        prompt: str,
        continuation: str | Sequence[int] | None = None,
        target: str | None = None,
        contrast: Any = None,
        groups: Groups = "tokens",
        max_new_tokens: int = 32,
        return_error: bool = False,
        progress: bool = True,
    ) -> GenerationExplanation:
        """What each token of a continuation is due to: the tokens of the prompt, and those said before it.

        All tokens of the continuation are explained from one replay of the model on the path from the
        baseline to the text; what comes later has no part in a token, and so the matrix has a row of scores
        for each. Integrated gradients of the chosen tokens alone, not of the vocabulary.

        Args:
          prompt: the text that the model goes on with; of a sequence-to-sequence model, what its encoder
            reads.
          continuation: a text, or ids. `None`: what the model says itself: with the sampler that a model of
            KerasHub was compiled with, otherwise the likeliest token each time.
          target: `"log_prob"`, the logarithm of the probability of each token (unless there is a
            `contrast`); `"logit"`; or `"contrast"`, by how much its logit is above that of a rival, why this
            and not that (Yin and Neubig, https://arxiv.org/abs/2202.10419).
          contrast: the rival, a token by its text or id, or a list of one for each token of the continuation.
            `None` with the target `"contrast"`: the likeliest other token each time.
          groups: as for `explain`, of the prompt. Of the continuation `"words"` and `"sentences"` too, whose
            rows are the sums over their tokens; beside phrases, words; otherwise tokens.
          max_new_tokens: the most tokens to generate.
          return_error, progress: as for `explain`.

        Returns:
          A `GenerationExplanation`, with scores `[C, P + C]`.

        Raises:
          TypeError, ValueError: arguments that do not fit; a model that returns no logits `[B, T, V]`.

        Warns:
          UserWarning: scores of tokens that are more than 5 % from adding up.
        """
        if not isinstance(prompt, str):
            raise TypeError(
                f"TextExplainer.explain_generation: prompt is a {type(prompt).__name__}, expected a string. "
                "Explain one prompt after the other."
            )
        target = ("log_prob" if contrast is None else "contrast") if target is None else target
        if target not in TARGETS:
            raise ValueError(
                f"TextExplainer.explain_generation: target is {target!r}, {expected(target, TARGETS)}."
            )
        if contrast is not None and target != "contrast":
            raise ValueError(
                f"TextExplainer.explain_generation: contrast was given for the target {target!r}, expected "
                "it with 'contrast'. Leave one of them out."
            )
        runner = self._runner
        start = runner.encoder.prompt(prompt)
        ids = self._ids(prompt, continuation, start, max_new_tokens)
        rivals = None
        if target == "contrast":
            rivals = rivals_of(runner, contrast, start, ids)
        made = explained_generation(
            runner, start, ids, target, rivals, groups, AT_ONCE, return_error, progress
        )
        if made.deltas is not None:
            changes = made.outputs - made.base_values
            found = list(zip(made.continuation, made.scores, changes, made.deltas))
            warn_of_deltas("TextExplainer.explain_generation", runner.setup.method, found)
        return made

    def estimate(
        self,
        prompt: str,
        continuation: str | Sequence[int] | None = None,
        max_new_tokens: int = 32,
    ) -> Cost:
        """How long `explain_generation` will take, told by a run of the model and a way back through it.

        Args:
          prompt, continuation, max_new_tokens: as for `explain_generation`.

        Returns:
          A `Cost`, whose text says it; the trace comes on top.

        Raises:
          ValueError: a method other than integrated gradients; as `explain_generation`.
        """
        runner, method = self._runner, self._runner.setup.method.name
        if method != "integrated_gradients":
            raise ValueError(
                f"TextExplainer.estimate: method is {method!r}, expected 'integrated_gradients', whose steps "
                "cost the same. Explain one token, and look at the clock."
            )
        start = runner.encoder.prompt(prompt)
        ids = self._ids(prompt, continuation, start, max_new_tokens)
        return cost_of(runner, start, ids, self._options)

    def conductance(
        self,
        text: Text,
        layers: Any,
        targets: Any = None,
        continuation: str | Sequence[int] | None = None,
        heads: bool = False,
        groups: Groups = "words",
        progress: bool = True,
    ) -> LayerScores:
        """What goes through layers on the way from the words to the output.

        Conductance (Dhamdhere, Sundararajan and Yan, https://arxiv.org/abs/1805.12233) of the units of each
        layer along the path of the embeddings, summed for each word, or for each head of its attention. What
        goes around a layer, such as the other branch of a residual connection, is not in it.

        Args:
          text: as for `explain`; with a continuation, the prompt.
          layers: names of layers that return `[B, T, units]`, such as `"transformer_layer_0"`, or the layers
            themselves; one or a list.
          targets: as for `explain`.
          continuation: as for `explain_generation`, of a language model, whose log-probabilities are summed.
          heads: whether to sum for each head of the (first) attention in a layer.
          groups: as for `explain`.
          progress: whether to show Keras' progress bar.

        Returns:
          `LayerScores`, `[L, words]` or `[L, heads]`.

        Raises:
          TypeError, ValueError: no such layer, or one without heads; as `explain`.
        """
        names = list(layers) if isinstance(layers, (list, tuple)) else [layers]
        conducting = Method("layer_conductance", self._options, True, _arguments())
        setup = dataclasses.replace(self._runner.setup, method=conducting)
        if continuation is None:
            choice = choice_of_classes(targets, self._labels, 1)
            reading = self._runner.reading_of(text, groups)
            return conductances(self._runner, setup, class_scores, choice, reading, names, heads, progress)
        if not isinstance(text, str):
            raise TypeError(f"TextExplainer.conductance: text is {text!r}, expected a prompt, a string.")
        start = self._runner.encoder.prompt(text)
        ids = self._ids(text, continuation, start, 1)
        prompt, parts, _ = continuation_groups(self._runner, start, ids, groups)
        reading = joined_reading(self._runner, start, ids, prompt, parts)
        choice = choice_of(start, ids, None) | {"weights": np.ones([1, len(ids)], np.float32)}
        explained = next_tokens("log_prob", every=False)
        return conductances(self._runner, setup, explained, choice, reading, names, heads, progress)

    def _ids(self, prompt, continuation, start, longest):
        return continuation_of(
            self._runner, self._model, self._preprocessor, prompt, continuation, start, longest
        )


def _arguments():
    return inspect.signature(TextExplainer).parameters


def _of(model):
    return getattr(model, "preprocessor", None)


def _baseline(vocabulary, baselines):
    """The id of the token that others are compared with."""
    if isinstance(baselines, str) and baselines in ("padding", "mean"):
        return vocabulary.padding
    if isinstance(baselines, str) and baselines == "mask":
        if vocabulary.mask is None:
            raise ValueError(
                "TextExplainer: baselines is 'mask' and the tokenizer has no mask_token_id, expected one. "
                "Pass 'padding', 'mean', or a token by its id or text."
            )
        return int(vocabulary.mask)
    return vocabulary.id_of("baselines", baselines)


def _texts_to_draw(encoder, texts):
    if isinstance(texts, str) or not isinstance(texts, (list, tuple)) or not texts:
        raise ValueError(
            f"TextExplainer: baselines is {texts!r}, expected a list of texts that expected_gradients draws "
            "from. Pass some of the training data."
        )
    return [encoder.text(text) for text in texts]


def _batches(readings, size):
    """Numbers of texts that are padded to one length, at most `size` at a time."""
    by_length: dict = {}
    for n, reading in enumerate(readings):
        by_length.setdefault(reading.encoded.lengths, []).append(n)
    return [some[i : i + size] for some in by_length.values() for i in range(0, len(some), size)]
