"""Pieces, words and spans: what ids stand for, without a model."""

import numpy as np
import pytest
from language_models import Letters

from igtf.language.tokens import Vocabulary, groups_of, label_of, labels_of


class Named:
    """A tokenizer whose vocabulary is a list of names; texts are lists of them, joined by a bar."""

    def __init__(self, names, **attributes):
        self.names = names
        vars(self).update(attributes)

    def encode(self, text):
        return [self.names.index(name) for name in text.split("|")]

    def decode(self, ids):
        return "".join(self.names[i] for i in ids)

    def id_to_token(self, number):
        return self.names[number]

    def token_to_id(self, name):
        return self.names.index(name)


def read(names, special=(), **attributes):
    vocabulary = Vocabulary(Named(names, special_token_ids=list(special), **attributes))
    return vocabulary.pieces(range(len(names)))


def shown(pieces, groups="words", special=False):
    return labels_of(pieces, groups_of(pieces, groups, special))


class TestPieces:
    def test_word_pieces_that_go_on_belong_to_their_word(self):
        pieces = read(["[CLS]", "un", "##known", "dog", ".", "[SEP]"], special=[0, 5])
        assert shown(pieces) == ["unknown", "dog", "."]
        assert shown(pieces, "tokens") == ["un", "known", "dog", "."]
        assert shown(pieces, "tokens", special=True) == ["[CLS]", "un", "known", "dog", ".", "[SEP]"]

    def test_bytes_begin_words_with_their_spaces_and_show_what_is_no_character(self):
        # An e with an accent is C3 A9, a smiling face F0 9F 98 80.
        pieces = read(["Hello", "Ġw", "Ã", "©", "Ġ", "ðŁ", "ĺĢ", "Ċ"], merges=[])
        assert shown(pieces, "tokens") == [
            "Hello",
            "w",
            "\\xc3",
            "\\xa9",
            "\u2423",
            "\\xf0\\x9f",
            "\\x98\\x80",
            "\n",
        ]
        assert shown(pieces) == ["Hello", "wé", "\U0001f600", "\n"]

    def test_sentence_pieces_have_their_space_and_their_bytes(self):
        pieces = read(["▁Par", "is", "▁is", "<0xC3>", "<0xA9>"])
        assert shown(pieces) == ["Paris", "isé"]

    def test_scripts_without_spaces_have_a_word_for_each_ideograph_and_others_have_not(self):
        assert shown(read(["我", "爱", "你"])) == ["我", "爱", "你"]
        assert shown(read(["한", "국", "▁어"])) == ["한국", "어"]
        assert shown(read(["▁שלום", "▁עול", "ם"])) == ["שלום", "עולם"]

    def test_a_tokenizer_without_names_is_read_by_what_ids_add_to_the_text(self):
        pieces = Vocabulary(Letters()).pieces(Letters().encode("ab cd"))
        assert [piece.raw for piece in pieces] == [b"a", b"b", b" ", b"c", b"d"]
        assert shown(pieces) == ["ab", "cd"]

    def test_a_byte_of_a_byte_tokenizer_is_itself(self):
        class ByteTokenizer(Named):
            pass

        names = [chr(n) for n in range(256)]
        pieces = Vocabulary(ByteTokenizer(names)).pieces("é!".encode())
        assert shown(pieces) == ["é!"] and shown(pieces, "tokens") == ["\\xc3", "\\xa9", "!"]


class TestGroups:
    PIECES = ["The", "▁cat", "▁sat", ".", "▁Was", "▁it", '▁"good', '?"', "▁Yes"]

    def test_sentences_end_at_their_marks_and_what_closes_them(self):
        assert shown(read(self.PIECES), "sentences") == ["The cat sat.", 'Was it "good?"', "Yes"]

    def test_special_tokens_divide_sentences(self):
        pieces = read(["[CLS]", "▁a", "▁b", "[SEP]", "▁c"], special=[0, 3])
        assert shown(pieces, "sentences") == ["a b", "c"]

    def test_phrases_are_groups_beside_words_whatever_their_case_and_spaces(self):
        found = shown(read(self.PIECES), ["cat  SAT", "it"])
        assert found == ["The", "cat sat", ".", "Was", "it", '"good?"', "Yes"]

    def test_a_phrase_that_is_there_twice_is_one_group(self):
        pieces = read(["a", "▁b", "▁a"])
        assert groups_of(pieces, ["a"], False).tolist() == [0, 1, 0]

    def test_a_function_numbers_tokens(self):
        pieces = read(self.PIECES)
        numbers = groups_of(pieces, lambda tokens: [len(token) > 2 for token in tokens], False)
        assert numbers.tolist() == [0, 0, 0, 1, 0, 1, 0, 1, 0]

    def test_what_is_left_out_has_no_group(self):
        pieces = read(["[CLS]", "▁a", "▁b"], special=[0])
        assert groups_of(pieces, "words", False).tolist() == [-1, 0, 1]
        assert groups_of(pieces, "words", True).tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        "groups, error, message",
        [
            ("lines", ValueError, "groups is 'lines', expected one of 'tokens'"),
            (["dog"], ValueError, "'dog', expected phrases of the text, which reads 'The cat"),
            ([""], TypeError, "expected one of 'tokens'"),
            (3, TypeError, "groups is 3"),
            (lambda tokens: [0], ValueError, r"shape \(1,\) for 9 tokens"),
        ],
    )
    def test_other_groups_are_refused(self, groups, error, message):
        with pytest.raises(error, match=message):
            groups_of(read(self.PIECES), groups, False)


class TestIds:
    NAMES = ["[PAD]", "[CLS]", "cat", "▁cat"]

    def test_a_token_is_named_by_its_id_its_name_or_its_text(self):
        vocabulary = Vocabulary(Named(self.NAMES))
        assert [vocabulary.id_of("x", token) for token in (2, np.int64(3), "▁cat", "[CLS]")] == [2, 3, 3, 1]

    def test_a_text_of_several_tokens_is_refused_with_them(self):
        with pytest.raises(ValueError, match=r"contrast is 'ab', which .* 2 tokens of \('a', 'b'\)"):
            Vocabulary(Letters()).id_of("contrast", "ab")

    def test_what_is_no_token_is_refused(self):
        with pytest.raises(TypeError, match="baselines is a float, expected the id of a token"):
            Vocabulary(Named(self.NAMES)).id_of("baselines", 0.5)

    def test_padding_is_special_where_it_is_called_so(self):
        assert Vocabulary(Named(self.NAMES, pad_token_id=0)).special == {0}
        assert Vocabulary(Named(["!", "a"], pad_token_id=0)).special == set()

    def test_what_cannot_encode_is_no_tokenizer(self):
        with pytest.raises(
            TypeError, match="tokenizer is a int, expected one of KerasHub, or an object with"
        ):
            Vocabulary(3)

    def test_encodings_of_the_library_tokenizers_are_read(self):
        class Encoding:
            ids = [2, 3]

        tokenizer = Named(self.NAMES)
        tokenizer.encode = lambda text: Encoding()
        assert Vocabulary(tokenizer).encode("x") == [2, 3]

    def test_a_label_of_special_tokens_is_their_name(self):
        pieces = read(["[CLS]", "▁a"], special=[0])
        assert label_of(pieces[:1]) == "[CLS]"
