"""Small language models with vocabularies of their own, and what their scores are by brute force."""

import io

import numpy as np
import pytest
import tensorflow as tf

WORDS = "the cat dog sat ran on mat to in a good bad movie was it".split()
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "run", "##ning", "##s", ".", "!", "great"]


def keras_hub():
    """The module, or a skip that says why."""
    reason = "KerasHub needs a newer TensorFlow: its tokenizers come in TensorFlow's own version"
    return pytest.importorskip("keras_hub", reason=reason, exc_type=ImportError)


def randomized(model, seed=0, size=0.7):
    """The model with weights that are no small numbers, so that there is something to attribute."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        value = weight.numpy()
        if value.dtype.kind != "f" and "float" not in str(value.dtype):
            continue
        if "gamma" in weight.name:
            weight.assign(1 + 0.3 * draw.normal(size=value.shape))
        else:
            scale = 0.4 if "embedding" in weight.path else size / max(1, value.shape[0]) ** 0.5
            weight.assign(scale * draw.normal(size=value.shape))
    return model


def bert(dtype="float32", length=12, classes=3):
    hub = keras_hub()
    tokenizer = hub.models.BertTokenizer(vocabulary=BERT, lowercase=True)
    preprocessor = hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=length)
    backbone = hub.models.BertBackbone(len(BERT), 2, 2, 8, 16, max_sequence_length=32, dtype=dtype)
    return randomized(hub.models.BertTextClassifier(backbone, classes, preprocessor))


def gpt2(dtype="float32", length=32):
    hub = keras_hub()
    letters = [*"abcdefghijklmnopqrstuvwxyz.!?", "Ġ", "Ċ", *[chr(n) for n in BYTES]]
    words = ["Ġ" + word for word in WORDS if len(word) == 3]
    merges = [
        pair for word in words for pair in (f"Ġ {word[1]}", f"Ġ{word[1]} {word[2]}", f"{word[:3]} {word[3]}")
    ]
    merges = list(dict.fromkeys(merges))
    made = [pair.replace(" ", "") for pair in merges]
    names = list(dict.fromkeys(["!", *letters, *made, "<|endoftext|>"]))  # padding is the first
    tokenizer = hub.models.GPT2Tokenizer({name: n for n, name in enumerate(names)}, merges)
    preprocessor = hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=length)
    backbone = hub.models.GPT2Backbone(len(names), 2, 2, 8, 16, max_sequence_length=64, dtype=dtype)
    return randomized(hub.models.GPT2CausalLM(backbone, preprocessor))


# Of characters beyond ASCII, as GPT-2 writes them.
BYTES = sorted({ord(c) for c in "ðŁĺĢÃ©ä¸ŃæĸĩĩÑĤ"})


def sentences(hub_tokenizer, **options):
    """A tokenizer of KerasHub over SentencePiece, trained on a few words."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 4),
        model_writer=model,
        vocab_size=40,
        model_type="unigram",
        hard_vocab_limit=False,
        **options,
    )
    return hub_tokenizer(proto=model.getvalue())


def gemma(dtype="float32"):
    hub = keras_hub()
    ids = dict(
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>"
    )
    tokenizer = sentences(hub.models.GemmaTokenizer, **ids)
    preprocessor = hub.models.GemmaCausalLMPreprocessor(tokenizer, sequence_length=24)
    backbone = hub.models.GemmaBackbone(tokenizer.vocabulary_size(), 2, 2, 1, 8, 16, 4, dtype=dtype)
    return randomized(hub.models.GemmaCausalLM(backbone, preprocessor), size=0.4)


def t5(dtype="float32"):
    hub = keras_hub()
    ids = dict(
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>"
    )
    tokenizer = sentences(hub.models.T5Tokenizer, **ids)
    preprocessor = hub.models.T5Seq2SeqLMPreprocessor(
        tokenizer, encoder_sequence_length=24, decoder_sequence_length=16
    )
    backbone = hub.models.T5Backbone(tokenizer.vocabulary_size(), 2, 2, 8, 16, dtype=dtype)
    return randomized(hub.models.T5Seq2SeqLM(backbone, preprocessor))


def on_embeddings(model, inputs, embeddings):
    """What a model of KerasHub returns where its embedding of ids returns these, one call after the other."""
    layer, given = model.backbone.token_embedding, iter(embeddings)
    call = layer.call
    layer.__dict__["call"] = lambda ids, reverse=False: call(ids, reverse=True) if reverse else next(given)
    try:
        return model(inputs, training=False)
    finally:
        del layer.__dict__["call"]


def brute_force(model, inputs, starts, score, steps=2000, at_once=500):
    """Integrated gradients of the embeddings of one text, summed over each, by the midpoint rule.

    Args:
      inputs: `{name: ints [T]}`; `starts`: of the token ids among them, what they are in the baseline.
      score: function of the outputs of a batch to a number for each row, or several, `[S, C]`.

    Returns:
      Scores `[C, T]` over the token ids of all inputs, one after the other; outputs at both ends, `[2, C]`.
    """
    layer, names = model.backbone.token_embedding, list(starts)
    ends = [tf.cast(layer(inputs[name][None]), tf.float64)[0] for name in names]
    begins = [tf.cast(layer(starts[name][None]), tf.float64)[0] for name in names]
    sums = None

    def outputs(alphas):
        points = [b + tf.reshape(alphas, [-1, 1, 1]) * (e - b) for b, e in zip(begins, ends)]
        repeated = {name: np.repeat(value[None], len(alphas), 0) for name, value in inputs.items()}
        found = score(on_embeddings(model, repeated, points))
        return points, found[:, None] if found.shape.rank == 1 else found

    for first in range(0, steps, at_once):
        alphas = tf.constant((np.arange(first, first + at_once) + 0.5) / steps)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            points = [b + tf.reshape(alphas, [-1, 1, 1]) * (e - b) for b, e in zip(begins, ends)]
            tape.watch(points)
            repeated = {name: np.repeat(value[None], at_once, 0) for name, value in inputs.items()}
            found = score(on_embeddings(model, repeated, points))
            found = found[:, None] if found.shape.rank == 1 else found
            columns = [tf.reduce_sum(found[:, c]) for c in range(found.shape[1])]
        grads = [[tf.reduce_sum(g, 0) for g in tape.gradient(column, points)] for column in columns]
        part = [[tf.reduce_sum(g * (e - b), -1) for g, e, b in zip(some, ends, begins)] for some in grads]
        part = np.array([np.concatenate(row) for row in part]) / steps
        sums = part if sums is None else sums + part
    _, both = outputs(tf.constant([0.0, 1.0], tf.float64))
    return sums, both.numpy()


class Letters:
    """A tokenizer of single characters, `a` first."""

    pad_token_id = None

    def encode(self, text):
        return [ord(c) - 97 for c in text.replace(" ", "{")]

    def decode(self, ids):
        return "".join(chr(97 + int(i)) for i in ids).replace("{", " ")
