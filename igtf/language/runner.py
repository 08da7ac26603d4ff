"""Runs of a traced function over texts: the groups of each text go in, their scores come out."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.language.encoding import Encoded, Encoder, arrays_of
from igtf.language.graph import Setup, traced
from igtf.language.network import at_positions
from igtf.language.tokens import Piece, Vocabulary, groups_of, labels_of

__all__ = ["Reading", "Runner"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """A text as a model reads it and as people do.

    Attributes:
      encoded: what the model reads.
      pieces: for each input of token ids, what they stand for.
      groups: for each of them, which group a token is in, ints `[T]`, counted through; -1: not shown.
    """

    encoded: Encoded
    pieces: list[list[Piece]]
    groups: list[np.ndarray]

    @property
    def labels(self) -> list[str]:
        pieces = [piece for some in self.pieces for piece in some]
        return labels_of(pieces, np.concatenate(self.groups))

    def sums(self, scores: np.ndarray) -> np.ndarray:
        """Scores `[C, T]` of padded tokens as those of groups, `[C, G]`."""
        flat, start = [], 0
        for ids, length in zip(self.encoded.ids, self.encoded.lengths):
            flat.append(scores[:, start : start + len(ids)])
            start += length
        values, groups = np.concatenate(flat, 1), np.concatenate(self.groups)
        totals = np.zeros([len(scores), 1 + max(groups, default=-1)], scores.dtype)
        for column, group in enumerate(groups):
            if group >= 0:
                totals[:, group] += values[:, column]
        return totals


class Runner:
    """What runs and reads texts for a TextExplainer.

    Attributes:
      setup, vocabulary, encoder: of the model.
      special: whether special tokens are explained like others.
      baseline: the id that others are compared with.
      drawn: texts, encoded, that baselines are drawn from, or None.
    """

    def __init__(self, setup: Setup, vocabulary: Vocabulary, encoder: Encoder, special: bool) -> None:
        self.setup, self.vocabulary, self.encoder, self.special = setup, vocabulary, encoder, special
        self.baseline: int = vocabulary.padding
        self.drawn: list[Encoded] | None = None
        self._traced: dict = {}
        self._forward: Any = None

    def reading(self, encoded: Encoded, groups: Any) -> Reading:
        """A text with its groups, those of a decoder after those of an encoder."""
        pieces = [self.vocabulary.pieces(ids) for ids in encoded.ids]
        numbers, count = [], 0
        for some in pieces:
            own = groups_of(some, groups, self.special)
            numbers.append(np.where(own < 0, -1, own + count))
            count += 1 + max(own, default=-1)
        return Reading(encoded, pieces, numbers)

    def reading_of(self, text: Any, groups: Any) -> Reading:
        """A text that a classifier reads."""
        return self.reading(self.encoder.text(text), groups)

    def run(
        self,
        explained: Any,
        key: str,
        readings: Sequence[Reading],
        choice: dict[str, np.ndarray],
        return_error: bool = False,
        layer: Any = None,
        heads: bool = False,
        setup: Setup | None = None,
    ) -> dict[str, np.ndarray]:
        """What the traced function returns of texts of one padded length; traced under this key."""
        setup = setup or self.setup
        moves = [
            [np.array([self.special or not p.special for p in some], bool) for some in reading.pieces]
            for reading in readings
        ]
        texts, groups = [reading.encoded for reading in readings], [reading.groups for reading in readings]
        arrays = arrays_of(texts, self.baseline, self.vocabulary.padding, moves, groups)
        if self.drawn is not None:
            arrays["starts"] = self._to_draw(texts[0])
        arrays["choice"] = choice
        shapes = tf.nest.map_structure(lambda a: (a.shape[1:], a.dtype.str), arrays)
        signature = repr((key, shapes, return_error, layer and id(layer), heads))
        if signature not in self._traced:
            self._traced[signature] = traced(setup, arrays, explained, layer, heads, return_error)
        found = self._traced[signature](tf.nest.map_structure(tf.constant, arrays))
        return {name: value.numpy() for name, value in found.items()}

    def _to_draw(self, text):
        """The texts to draw from as ids, cut or filled up to the length of this one."""
        starts: dict[str, np.ndarray] = {}
        for name, length in zip(text.names, text.lengths):
            rows = [drawn.inputs[name][:length] for drawn in self.drawn or ()]
            fill = np.int32(self.vocabulary.padding)
            starts[name] = np.stack([np.pad(r, (0, length - len(r)), constant_values=fill) for r in rows])
        return starts

    def logits(self, text: Encoded, places: np.ndarray) -> np.ndarray:
        """What a language model says after these places of a text, `[C, V]`."""
        if self._forward is None:
            names = text.names

            def forward(inputs, places):
                self.setup.traces += 1
                return at_positions(self.setup.network(inputs), [inputs[name] for name in names], places)

            specs = {name: tf.TensorSpec([None, None], tf.int32) for name in text.inputs}
            signature = [specs, tf.TensorSpec([None, None], tf.int32)]
            self._forward = tf.function(forward, input_signature=signature, autograph=False)
        inputs = {name: tf.constant(value[None]) for name, value in text.inputs.items()}
        return self._forward(inputs, tf.constant(places[None], tf.int32)).numpy()[0]
