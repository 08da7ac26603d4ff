"""Groups and areas beside shap, PAIR saliency and tf-keras-vis, on the same network, masks and segments.

`python benchmarks/groups.py` compares: `kernel_shap` beside `shap.KernelExplainer` (how
far both, and random orders with as many runs, are from the Shapley values over all coalitions, and their
time), `xrai` beside that of PAIR saliency on the same segments of eight photographs, `grad_cam` beside that
of tf-keras-vis before it is resized, and the peak memory of `kernel_shap` for few and many samples, each in
a process of its own.
"""

import argparse
import json
import time

import keras
import measure
import numpy as np
import tensorflow as tf
from scipy.stats import spearmanr
from sklearn.datasets import load_digits, load_sample_images

import igtf as ig
from igtf import Explainer, visualization

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "ihc.png")
SAMPLES = (64, 256, 520, 1024, 2048, 8192)


# Kernel SHAP ------------------------------------------------------------------------------------------


def digits():
    """A network trained on digits of 8x8 pixels, ten of them, and patches of 2x2 pixels."""
    keras.utils.set_random_seed(0)
    data = load_digits()
    x = (data.images.reshape(-1, 64) / 16).astype("float32")
    stack = [keras.layers.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
    model = keras.Sequential(stack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x[100:], data.target[100:], epochs=10, verbose=0)
    patches = (np.arange(8)[:, None] // 2 * 4 + np.arange(8) // 2).ravel()  # 16 groups
    return model, x[:10], patches


def ours(model, mask, num_samples, method=ig.kernel_shap):
    @tf.function
    def explain(x, seed):
        ys, options = model(x, training=False)[:, 3], {"feature_mask": mask, "per_group": True}
        return method(ys, x, num_samples=num_samples, seed=seed, **options)

    return explain


def of_shap(model, x, mask, num_samples, seed):
    """One row after the other, each a game of its own: which groups are there, `[n, G]`."""
    import shap

    np.random.seed(seed)  # noqa: NPY002 (it draws from there)
    groups, found = mask.max() + 1, []
    for row in x:
        values = lambda z, row=row: model(np.float32(z[:, mask] * row), training=False).numpy()[:, 3]  # noqa: E731
        explainer = shap.KernelExplainer(values, np.zeros([1, groups]))
        found.append(explainer.shap_values(np.ones(groups), nsamples=num_samples, l1_reg=False, silent=True))
    return np.stack(found)


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def kernel_shap():
    model, x, patches = digits()
    data, lines = tf.constant(x), np.arange(64) // 8  # 8 groups, 254 coalitions
    exact = ours(model, lines, 1024)(data, 0).numpy()
    theirs = of_shap(model, x, lines, 1024, 0)
    measure.progress("the Shapley values of 16 groups, over all coalitions")
    truth = ours(model, patches, 2**16)(data, 0).numpy()
    error = lambda found: f"{np.sqrt(np.mean((found - truth) ** 2)) / np.abs(truth).max():.2%}"  # noqa: E731
    table = []
    for samples in SAMPLES:
        measure.progress(f"{samples} coalitions")
        explain = ours(model, patches, samples)
        explain(data, 0)
        # An order of the groups takes as many runs as there are groups.
        of_orders = ours(model, patches, samples // 16, ig.shapley_value_sampling)
        table.append(
            (
                samples,
                error(np.stack([ours(model, patches, samples)(data, seed) for seed in range(3)])),
                error(np.stack([of_shap(model, x, patches, samples, seed) for seed in range(3)])),
                error(np.stack([of_orders(data, seed) for seed in range(3)])),
                f"{measure.milliseconds(seconds(lambda f=explain: f(data, 0).numpy()))}",
                f"{measure.milliseconds(seconds(lambda n=samples: of_shap(model, x, patches, n, 0)))}",
            )
        )
    difference = np.abs(exact - theirs).max() / np.abs(exact).max()
    print(f"Eight groups, all 254 coalitions: differs by {difference:.0e} of the largest value.\n")
    header = (
        "coalitions of 16 groups",
        "error",
        "error, shap",
        "error, orders",
        "ms for 10 rows",
        "ms, shap",
    )
    print(measure.markdown(header, table) + "\n")


# XRAI -------------------------------------------------------------------------------------------------


def photographs():
    """`{name: [224, 224, 3]}`, values in 0..1."""
    from skimage import data, io, transform

    folder = data.__path__[0] if hasattr(data, "__path__") else data.data_dir
    pictures = {name.split(".")[0]: io.imread(f"{folder}/{name}")[..., :3] for name in PHOTOGRAPHS}
    pictures |= dict(zip(("pagoda", "dahlia"), load_sample_images().images))
    return {
        name: transform.resize(picture, (224, 224), anti_aliasing=True).astype("float32")
        for name, picture in pictures.items()
    }


def xrai():
    """Integrated gradients of a network of random weights, averaged over black and white, ranked by both."""
    from saliency.core.xrai import XRAI, XRAIParameters, _get_segments_felzenszwalb

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, classes=10, classifier_activation=None)
    explainer, table = Explainer(model, num_steps=20), []
    for name, picture in photographs().items():
        measure.progress(name)
        ends = np.float32([0, 1])[:, None, None, None, None]
        maps = explainer.explain(picture[None], 3, ends, progress=False)[0].sum(-1)
        masks = _get_segments_felzenszwalb(picture)
        full = XRAIParameters(algorithm="full")
        start = time.perf_counter()
        theirs = XRAI().GetMask(maps, None, segments=masks, base_attribution=maps, extra_parameters=full)
        middle = time.perf_counter()
        found = visualization.xrai(maps, np.stack(masks))
        end = time.perf_counter()
        alike = np.abs(found - theirs).max() / np.abs(theirs).max()
        own = explainer.xrai(picture[None], 3, ends, progress=False)[0]  # with its own segments
        table.append(
            (
                f"{name}, {len(masks)} segments",
                f"{spearmanr(found.ravel(), theirs.ravel())[0]:.5f}",
                f"{alike:.0e}",
                f"{spearmanr(own.ravel(), theirs.ravel())[0]:.3f}",
                f"{end - middle:.2f}",
                f"{middle - start:.2f}",
            )
        )
    header = "photograph|Spearman|largest difference|Spearman, own segments|seconds|seconds, PAIR"
    print(measure.markdown(header.split("|"), table) + "\n")


# Grad-CAM ---------------------------------------------------------------------------------------------


def grad_cam():
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    keras.utils.set_random_seed(0)
    images = keras.layers.Input((64, 64, 3))
    h = keras.layers.MaxPooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(images))
    h = keras.layers.Conv2D(16, 3, activation="relu", name="last")(h)
    model = keras.Model(images, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(h)))
    hidden = keras.Model(images, [h, model.output])
    x = np.stack(list(photographs().values()))[:, ::3, ::3][:, :64, :64]

    @tf.function
    def explain(x):
        layer, ys = hidden(x, training=False)
        return ig.grad_cam(ys[:, 3], layer, layer)[..., 0]

    theirs = Gradcam(model, clone=False)(
        CategoricalScore([3] * len(x)), x, penultimate_layer="last", expand_cam=False, normalize_cam=False
    )
    found = explain(tf.constant(x)).numpy()
    difference = np.abs(found - theirs).max() / np.abs(theirs).max()
    print(f"Grad-CAM of {len(x)} photographs: differs by {difference:.0e} of the largest value.\n")


# Memory -----------------------------------------------------------------------------------------------


def child(num_samples):
    model, x, patches = digits()
    explain = ours(model, patches, int(num_samples))
    return measure.peak_memory(lambda: explain(tf.constant(x), 0).numpy())


def memory():
    table = []
    for samples in (500, 5000, 50000):
        measure.progress(f"memory of {samples} samples")
        above, whole = measure.in_child(__file__, samples)
        table.append((f"{samples:,}", f"{above / measure.MIB:.0f}", f"{whole / measure.MIB:.0f}"))
    print(measure.markdown(("coalitions", "MiB above idle", "MiB in all"), table))


PARTS = {"kernel_shap": kernel_shap, "xrai": xrai, "grad_cam": grad_cam, "memory": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child)))
        return
    print(f"{measure.machine()}.\n")
    for part in options.only:
        PARTS[part]()


if __name__ == "__main__":
    main()
