"""Blocks of random models, and what makes them: functions of a network and a shape."""

import tensorflow as tf


def dense(net, shape, units=None, activation=None):
    return net.layer("Dense", units or net.draw(4, 5, shape[-1]), activation=activation)


def same(net, shape):
    """Affine in the last axis, same shape."""
    return net.layer("Dense", shape[-1])


def keras(kind, **choices):
    """A Keras layer; a list is drawn from, a function gets the shape."""

    def make(net, shape):
        options = {}
        for name, value in choices.items():
            value = value(shape) if callable(value) else value
            options[name] = net.draw(*value) if isinstance(value, list) else value
        return net.layer(kind, **options)

    return make


def op(function):
    return lambda net, shape: net.op(function)


def jump(maker):
    """Where the network is not continuous the sum of gradients is not what F changes by."""

    def make(net, shape):
        net.jumps = True
        return maker(net, shape)

    return make


def flat(maker):
    """Normalization without a gradient to speak of where its input is constant."""

    def make(net, shape):
        net.flat = True
        return maker(net, shape)

    return make


def chain(*makers):
    def make(net, shape):
        x, made = tf.zeros([1, *shape], net.dtype), []
        for maker in makers:
            made.append(maker(net, x.shape.as_list()[1:]))
            x = made[-1](x)

        def call(x):
            for f in made:
                x = f(x)
            return x

        return call

    return make


def beside(combine, *makers):
    """`combine` of what several blocks make of the same tensor."""

    def make(net, shape):
        made = [maker(net, shape) for maker in makers]
        combined = combine(net, shape)
        return lambda x: combined([f(x) for f in made])

    return make


def identity(net, shape):
    return lambda x: x


def activation(name):
    return lambda net, shape: net.layer("Activation", name)


def relu_dense(net, shape):
    return net.layer("Dense", shape[-1], activation="relu")


def sigmoid_dense(net, shape):
    return net.layer("Dense", shape[-1], activation="sigmoid")


def merged(kind, **options):
    return lambda net, shape: net.layer(kind, **options)


def function(f):
    """A function of a list of tensors."""
    return lambda net, shape: net.op(f)


def constant(f, *extra, scale=1.0):
    """A function of a tensor and a constant `[last axis, *extra]`."""

    def make(net, shape):
        value = net.values(shape[-1], *extra, scale=scale)
        return net.op(lambda x: f(x, tf.constant(value)))

    return make


def squeeze_excite(net, shape):
    small, back = (
        net.layer("Dense", 2, activation="relu"),
        net.layer("Dense", shape[-1], activation="sigmoid"),
    )
    axes = list(range(1, len(shape)))
    pool = net.op(lambda x: tf.reduce_mean(x, axes, keepdims=True))
    multiply = net.layer("Multiply")
    return lambda x: multiply([x, back(small(pool(x)))])


def rms_norm(x):
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6)


def mish(x):
    return x * tf.tanh(tf.nn.softplus(x))


def highway(parts):
    x, h, gate = parts
    return h * gate + x * (1 - gate)


def glu(x):
    a, b = tf.split(tf.concat([x, tf.reverse(x, [-1])], -1), 2, -1)
    return a * tf.sigmoid(b * 1.5)
