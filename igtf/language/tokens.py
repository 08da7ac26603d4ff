"""Tokens as people read them: the pieces of text that ids stand for, and the words and spans they make up."""

import re
import unicodedata
from typing import Any, NamedTuple

import numpy as np

from igtf.explainer.arrays import listed

__all__ = ["GROUPS", "Piece", "Vocabulary", "groups_of", "label_of", "labels_of"]

GROUPS = ("tokens", "words", "sentences")


class Piece(NamedTuple):
    """A token: the bytes that it stands for, whether a word begins with it, whether it is no text at all."""

    raw: bytes
    starts: bool
    special: bool


class Vocabulary:
    """A tokenizer: texts to ids, and ids to the pieces that people read.

    Takes the tokenizers of KerasHub, and whatever has `encode(text)` and `decode(ids)`.

    Attributes:
      special: the ids that stand for no text, such as starts, separators and padding.
      padding: the id that fills up, 0 if the tokenizer names none.
      ends: the ids that end a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        keras_hub = hasattr(tokenizer, "tokenize") and hasattr(tokenizer, "detokenize")
        if not keras_hub and not (hasattr(tokenizer, "encode") and hasattr(tokenizer, "decode")):
            raise TypeError(
                f"TextExplainer: tokenizer is a {type(tokenizer).__name__}, expected one of KerasHub, or an "
                "object with encode(text), which returns ids, and decode(ids), which returns text."
            )
        self._split = tokenizer.tokenize if keras_hub else tokenizer.encode
        self._join = tokenizer.detokenize if keras_hub else tokenizer.decode
        named = _first(tokenizer, "special_token_ids", "all_special_ids") or ()
        self.padding = int(_first(tokenizer, "pad_token_id") or 0)
        self.special = frozenset(int(i) for i in named if i is not None)
        if keras_hub or _first(tokenizer, "pad_token_id") is not None:
            self.special |= {self.padding} if "pad" in str(self._name(self.padding)).lower() else set()
        ends = (_first(tokenizer, name) for name in ("end_token_id", "end_token2_id", "eos_token_id"))
        self.ends = tuple(int(i) for i in ends if i is not None)

    def encode(self, text: str) -> list[int]:
        found = self._split(text)
        found = getattr(found, "ids", found)  # as `tokenizers` has it
        return [int(i) for i in np.asarray(found).reshape(-1)]

    def id_of(self, argument: str, token: str | int) -> int:
        """The id of a token that is named by its id, its name or its text."""
        if isinstance(token, (int, np.integer)) and not isinstance(token, bool):
            return int(token)
        if not isinstance(token, str):
            raise TypeError(
                f"TextExplainer: {argument} is a {type(token).__name__}, expected the id of a token or a "
                "text that is one token."
            )
        try:
            found = int(self._tokenizer.token_to_id(token))
            if self._name(found) == token:
                return found
        except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
            pass
        ids = self.encode(token)
        if len(ids) != 1:
            parts = ", ".join(repr(label_of([piece])) for piece in self.pieces(ids))
            raise ValueError(
                f"TextExplainer: {argument} is {token!r}, which the tokenizer makes {len(ids)} tokens of "
                f"({parts}), expected a single one. Pass one of them, a text with a space before it if it is "
                "inside a sentence, or an id."
            )
        return ids[0]

    @property
    def mask(self) -> int | None:
        """The id that stands for a word that is hidden, or None."""
        return _first(self._tokenizer, "mask_token_id")

    def pieces(self, ids: Any) -> list[Piece]:
        """What each of the ids stands for, beside the others."""
        ids = [int(i) for i in ids]
        names = [self._name(i) for i in ids]
        if any(name is None for name in names):
            names = self._grown(ids)
            raws, suffix = [name.encode() for name in names], ""
        else:
            raws, suffix = self._bytes(names), self._suffix(names)
        pieces: list[Piece] = []
        for i, name, raw in zip(ids, names, raws):
            if i in self.special:
                pieces.append(Piece(str(name).encode(), True, True))
                continue
            continues = suffix != "" and name.startswith(suffix) and len(name) > len(suffix)
            if continues:
                raw = name[len(suffix) :].encode()
            fresh = not pieces or pieces[-1].special
            before = b"" if fresh else pieces[-1].raw
            # Spaces alone belong to the word that follows.
            joined = bool(before) and not before.strip(b" ")
            spaced = raw[:1].isspace() or before[-1:].isspace()
            starts = not continues if suffix else not joined and (spaced or _stands_alone(raw))
            pieces.append(Piece(raw, fresh or starts, False))
        return pieces

    def _name(self, number):
        """The token as it stands in the vocabulary, or None."""
        for method in ("id_to_token", "convert_ids_to_tokens"):
            if hasattr(self._tokenizer, method):
                try:
                    return str(getattr(self._tokenizer, method)(number))
                except NotImplementedError:
                    return None
        return None

    def _suffix(self, names):
        """What marks tokens that go on with a word, or "" where the beginnings of words are marked."""
        suffix = getattr(self._tokenizer, "suffix_indicator", None)
        return suffix or ("##" if any(name.startswith("##") and len(name) > 2 for name in names) else "")

    def _bytes(self, names):
        of_bytes = type(self._tokenizer).__name__.startswith("ByteTokenizer")
        marked = hasattr(self._tokenizer, "merges") or any("Ġ" in n or "Ċ" in n for n in names)
        if of_bytes or marked:
            table = {chr(n): n for n in range(256)} if of_bytes else BYTES
            return [
                bytes(table[c] for c in name) if all(c in table for c in name) else name.encode()
                for name in names
            ]
        return [_sentence_piece(name) for name in names]

    def _grown(self, ids):
        """What each id adds to the text, where the tokenizer names no tokens."""
        texts = [""] + [str(self._join(ids[: n + 1])) for n in range(len(ids))]
        return [
            after[len(before) :] if after.startswith(before) else str(self._join([i]))
            for i, before, after in zip(ids, texts, texts[1:])
        ]


def _first(holder, *names):
    """The first of these attributes that there is."""
    for name in names:
        try:
            found = getattr(holder, name, None)
        except (NotImplementedError, ValueError):
            continue
        if found is not None:
            return found
    return None


def _byte_alphabet():
    """Bytes that print stand for themselves, the others for the characters from 256 on (GPT-2)."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [n for n in range(256) if n not in printed]
    return {chr(n): n for n in printed} | {chr(256 + i): n for i, n in enumerate(others)}


BYTES = _byte_alphabet()


def _sentence_piece(name):
    code = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", name)
    return bytes([int(code[1], 16)]) if code else name.replace("\u2581", " ").encode()


def _stands_alone(raw):
    """Whether a piece begins with an ideograph or the like, of scripts that leave no spaces between words."""
    text = raw.decode("utf-8", "ignore")
    wide = text[:1] != "" and unicodedata.east_asian_width(text[0]) in "WF"
    return wide and not unicodedata.name(text[0], "").startswith("HANGUL")


def label_of(pieces: list[Piece]) -> str:
    """What is shown of pieces that follow one another: bytes that are no whole character as they are."""
    if any(piece.special for piece in pieces):
        return " ".join(label_of([p._replace(special=False)]) for p in pieces)
    text = b"".join(piece.raw for piece in pieces).decode("utf-8", "backslashreplace")
    return text.strip(" ") or "\u2423" * len(text)


def labels_of(pieces: list[Piece], numbers: np.ndarray) -> list[str]:
    """The labels of groups 0, 1, ... that `groups_of` numbers."""
    count = 1 + max(numbers, default=-1)
    return [label_of([p for p, n in zip(pieces, numbers) if n == group]) for group in range(count)]


def groups_of(pieces: list[Piece], groups: Any, special: bool) -> np.ndarray:
    """Which group each piece belongs to, int `[T]`: 0, 1, ... in their order, and -1 for what is left out.

    Args:
      pieces: of one text.
      groups: `"tokens"`, `"words"`, `"sentences"`; a list of phrases of the text, each a group, beside which
        words are groups; or a function that gets the tokens, strings, and returns a number for each.
      special: whether special tokens are groups of their own.
    """
    shown = [special or not piece.special for piece in pieces]
    if callable(groups):
        numbers = np.asarray(groups([label_of([piece]) for piece in pieces]))
        if numbers.shape != (len(pieces),):
            raise ValueError(
                f"TextExplainer: groups returned shape {numbers.shape} for {len(pieces)} tokens, expected a "
                "number for each token."
            )
        _, numbers = np.unique(numbers, return_inverse=True)
    elif isinstance(groups, str):
        if groups not in GROUPS:
            raise ValueError(
                f"TextExplainer: groups is {groups!r}, expected one of {listed(GROUPS)}, a "
                "list of phrases of the text, or a function of its tokens."
            )
        numbers = np.cumsum(_begins(pieces, groups))
    else:
        numbers = _phrases(pieces, groups)
    order: dict = {}
    return np.array([order.setdefault(n, len(order)) if s else -1 for n, s in zip(numbers, shown)], int)


def _begins(pieces, groups):
    if groups == "tokens":
        return [True] * len(pieces)
    if groups == "words":
        return [p.starts or p.special for p in pieces]
    begins, ended = [], True
    for piece in pieces:
        begins.append(piece.special or (ended and piece.starts))
        text = piece.raw.decode("utf-8", "ignore").rstrip().rstrip("\"')]}\u201d\u2019\u00bb")
        if piece.special or piece.starts or text:
            ended = piece.special or text.endswith((".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f"))
    return begins


def _phrases(pieces, phrases):
    """A number for each phrase, and words for the rest."""
    if not isinstance(phrases, (list, tuple)) or not all(isinstance(p, str) and p.strip() for p in phrases):
        raise TypeError(
            f"TextExplainer: groups is {phrases!r}, expected one of {listed(GROUPS)}, a list "
            "of phrases of the text, or a function of its tokens."
        )
    numbers = len(phrases) + np.cumsum(_begins(pieces, "words"))
    spread = [
        (i, c)
        for i, p in enumerate(pieces)
        if not p.special
        for c in _letters(p.raw.decode("utf-8", "ignore"))
    ]
    text = "".join(c for _, c in spread)
    for number, phrase in enumerate(phrases):
        wanted = _letters(phrase)
        at = text.find(wanted)
        if at < 0 or not wanted:
            raise ValueError(
                f"TextExplainer: groups has {phrase!r}, expected phrases of the text, which reads "
                f"{label_of([p for p in pieces if not p.special])!r}."
            )
        while at >= 0:
            for i, _ in spread[at : at + len(wanted)]:
                numbers[i] = number
            at = text.find(wanted, at + len(wanted))
    return numbers


def _letters(text):
    """A text without its spaces, in lower case and without accents, as some tokenizers read it."""
    plain = unicodedata.normalize("NFD", text.casefold())
    return "".join(c for c in plain if not c.isspace() and not unicodedata.combining(c))
