"""Texts as arrays: what a model reads of them, padded to a few lengths, and where baselines stand."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from igtf.explainer.arrays import listed
from igtf.language.tokens import Vocabulary

__all__ = ["Encoded", "Encoder", "arrays_of", "padded_length"]

# Lengths that texts are padded to where a mask tells padding from tokens, so that there are few traces.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
IDS, MASK = "token_ids", "padding_mask"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A text as a model reads it.

    Attributes:
      inputs: `{name: ints [T]}`; what a mask says is padding is left out.
      masked: whether there is a mask, so that padding may be added.
    """

    inputs: dict[str, np.ndarray]
    masked: bool

    @property
    def names(self) -> list[str]:
        """Of the inputs that are token ids: one, or those of an encoder and a decoder."""
        return [name for name in self.inputs if name.endswith(IDS)]

    @property
    def ids(self) -> list[np.ndarray]:
        return [self.inputs[name] for name in self.names]

    @property
    def lengths(self) -> tuple[int, ...]:
        """What the token ids are padded to."""
        return tuple(padded_length(len(ids)) if self.masked else len(ids) for ids in self.ids)

    def extended(self, ids: list[int]) -> "Encoded":
        """With further ids for the decoder, or the only input."""
        last, inputs = self.names[-1], dict(self.inputs)
        for name, value in inputs.items():
            if _prefix(name) == _prefix(last):
                filled = ids if name == last else [1] * len(ids) if name.endswith(MASK) else [0] * len(ids)
                inputs[name] = np.concatenate([value, np.array(filled, np.int32)])
        return Encoded(inputs, self.masked)


def padded_length(length: int) -> int:
    return next((size for size in LENGTHS if size >= length), length)


def _prefix(name):
    """What inputs that belong together begin with: `encoder_`, `decoder_` or nothing."""
    return next((prefix for prefix in ("encoder_", "decoder_") if name.startswith(prefix)), "")


class Encoder:
    """Makes of texts what a model reads."""

    def __init__(self, vocabulary: Vocabulary, preprocessor: Any, reads_mask: bool) -> None:
        self._vocabulary, self._preprocessor, self._reads_mask = vocabulary, preprocessor, reads_mask

    def text(self, text: str | tuple[str, ...]) -> Encoded:
        """What a classifier reads."""
        if self._preprocessor is None:
            return self._plain(text)
        if isinstance(text, tuple):  # which alone would be taken for a text and its label
            found = self._preprocessor(tuple([part] for part in text), y=None)
        else:
            found = self._preprocessor([text])
        encoded = self._cut(found[0] if isinstance(found, tuple) else found)
        read = sum(int(i) not in self._vocabulary.special for ids in encoded.ids for i in ids)
        parts = text if isinstance(text, tuple) else (text,)
        there = sum(int(i) not in self._vocabulary.special for p in parts for i in self._vocabulary.encode(p))
        if read < there:
            warnings.warn(
                f"TextExplainer: the preprocessor cuts the text {parts[0][:40]!r}... to {read} of its "
                f"{there} tokens, and so the model reads no more. Raise its sequence_length to read it all.",
                stacklevel=4,
            )
        return encoded

    def prompt(self, prompt: str) -> Encoded:
        """What a language model reads before it says the first token."""
        if self._preprocessor is None:
            return self._plain(prompt)
        length = len(self._vocabulary.encode(prompt)) + 8  # and what the preprocessor adds
        lengths: dict[str, Any] = {"sequence_length": length}
        if hasattr(self._preprocessor, "encoder_sequence_length"):
            lengths = {"encoder_sequence_length": length, "decoder_sequence_length": 8}
        return self._cut(self._preprocessor.generate_preprocess([prompt], **lengths))

    def continuation(self, prompt: str, text: str) -> list[int]:
        """The ids that go on with a prompt."""
        encode = self._vocabulary.encode
        alone, together = encode(prompt), encode(prompt + text)
        decoded_apart = hasattr(self._preprocessor, "encoder_sequence_length")
        if decoded_apart or together[: len(alone)] != alone or len(together) == len(alone):
            together, alone = encode(text), []
        return together[len(alone) :]

    def _plain(self, text):
        if not isinstance(text, str):
            raise TypeError(
                f"TextExplainer: a text is a {type(text).__name__}, expected a string: pairs are for models "
                "with a preprocessor that joins them. Join them yourself."
            )
        ids = np.array(self._vocabulary.encode(text), np.int32)
        if not ids.size:
            raise ValueError(f"TextExplainer: the text {text!r} has no tokens, expected at least one.")
        mask = {MASK: np.ones_like(ids)} if self._reads_mask else {}
        return Encoded({IDS: ids, **mask}, self._reads_mask)

    def _cut(self, arrays):
        """Without the padding at the end, where a mask tells."""
        if not isinstance(arrays, dict):
            arrays = {IDS: arrays}
        arrays = {name: np.asarray(value).astype(np.int32)[0] for name, value in arrays.items()}
        names = [name for name in arrays if name.endswith(IDS)]
        if not names:
            raise ValueError(
                f"TextExplainer: the preprocessor returns {listed(arrays)}, expected token ids "
                "under a name that ends in 'token_ids'. Pass a preprocessor that returns such a dict."
            )
        inputs = {
            name: arrays[name] for name in sorted(names, reverse=True) + list(arrays)
        }  # the encoder first
        masked = all(_fills_up(arrays.get(_prefix(name) + MASK)) for name in names)
        if masked:
            kept = {prefix: int(arrays[prefix + MASK].sum()) for prefix in map(_prefix, names)}
            inputs = {name: value[: kept.get(_prefix(name))] for name, value in inputs.items()}
        return Encoded(inputs, masked)


def _fills_up(mask):
    """Whether padding is at the end, and nowhere else."""
    return mask is not None and bool(mask[: mask.sum()].all()) and bool(mask.any())


def arrays_of(
    texts: list[Encoded],
    baseline: int,
    padding: int,
    moves: list[list[np.ndarray]],
    groups: list[list[np.ndarray]],
) -> dict[str, Any]:
    """What a traced function takes of texts of one padded length, but for what it explains of them.

    Args:
      texts: `B` of them.
      baseline, padding: the ids that stand for other tokens in the baseline, and that fill up.
      moves, groups: for each text and each of its inputs of token ids, what is replaced in the baseline,
        Booleans `[T]`, and what is switched together, ints `[T]`.
    """
    names, lengths = texts[0].names, texts[0].lengths
    of_prefix = {_prefix(name): length for name, length in zip(names, lengths)}
    inputs = {}
    for name in texts[0].inputs:
        length, fill = of_prefix[_prefix(name)], padding if name in names else 0
        inputs[name] = np.stack([_filled(text.inputs[name], length, fill) for text in texts])
    made: dict[str, Any] = {"inputs": inputs, "starts": {}, "moves": {}, "groups": {}}
    for n, (name, length) in enumerate(zip(names, lengths)):
        moving = np.stack([_filled(rows[n], length, False) for rows in moves])
        made["moves"][name] = moving
        made["starts"][name] = np.where(moving, np.int32(baseline), inputs[name])
        rest = [1 + max((int(g.max(initial=-1)) for g in rows), default=-1) for rows in groups]
        rows = [_filled(rows[n], length, -1) for rows in groups]
        made["groups"][name] = np.stack([np.where(g < 0, r, g) for g, r in zip(rows, rest)]).astype(np.int32)
    return made


def _filled(values, length, fill):
    return np.concatenate([values, np.full(length - len(values), fill, values.dtype)])
