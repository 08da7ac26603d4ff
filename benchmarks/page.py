"""What a page of explanations costs: time and memory to write it, its size, and the time until it is open.

`python benchmarks/page.py` prints one Markdown table. 200 photographs of 224x224x3 (pieces of the two that
come with scikit-learn) have ten maps each, made one sample at a time: noise that follows the edges of the
photograph, as attributions do, and noise of the same size everywhere, which no compression can make small.
Sizes are shares of the float32 arrays. Memory is the peak of the process that writes, TensorFlow included,
which `import igtf` brings. The page is open when the pictures in view are drawn, in a headless Chromium
(apt-get install chromium chromium-driver; pip install selenium), without which that is left out.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import measure
import numpy as np

sys.path.append(str(measure.ROOT / "tests/visualization"))
import browser

SIDE, MAPS = 224, 10
KINDS = {"along edges": True, "noise": False}
DRAWN = """
const pictures = [...document.querySelectorAll('.look')];
const inView = pictures.filter((picture) => picture.getBoundingClientRect().top < innerHeight);
return inView.length > 0 && inView.every((picture) => picture.firstChild);
"""


def photographs(count, random):
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    for n in range(count):
        row, column = (random.integers(length - SIDE) for length in photos[0].shape[:2])
        yield photos[n % 2][row : row + SIDE, column : column + SIDE]


def maps(images, edges, random):
    """`[10, H, W]` of each image, one at a time."""
    for image in images:
        grey = image.mean(-1)
        size = np.hypot(*np.gradient(grey)) / 50 if edges else np.ones([SIDE, SIDE])
        yield (random.normal(size=[MAPS, SIDE, SIDE]) * size).astype(np.float32)


def write(kind, count, path):
    from igtf import visualization

    warnings.simplefilter("ignore")  # the number of pages is in the table
    random = np.random.default_rng(0)
    images = np.stack(list(photographs(count, random)))
    start = time.perf_counter()
    scores = random.dirichlet(np.ones(MAPS), count)
    page = visualization.explanation_page(images, maps(images, KINDS[kind], random), scores, path=path)
    seconds = time.perf_counter() - start
    raw = 4 * count * SIDE * SIDE * (3 + MAPS)
    sizes = [each.stat().st_size for each in page.paths]
    return {
        "paths": [str(each) for each in page.paths],
        "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "size": sum(sizes) / 1e6,
        "share": sum(sizes) / raw,
    }


def opened(paths):
    """Seconds until the slowest page is open, and until one of its samples is; None without a browser."""
    try:
        driver = browser.start()
    except LookupError as reason:
        measure.progress(f"not opened: {reason}")
        return None
    pages, samples = [], []
    for path in paths:
        start = time.perf_counter()
        driver.get(Path(path).as_uri())
        wait(driver, DRAWN)
        pages.append(time.perf_counter() - start)
        start = time.perf_counter()
        driver.execute_script("cards[rows.length - 1].querySelector('button').click()")
        wait(driver, "return document.querySelector('#views canvas') !== null")
        samples.append(time.perf_counter() - start)
    driver.quit()
    return max(pages), max(samples)


def wait(driver, condition):
    while not driver.execute_script(condition):
        time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument(
        "--repeats", type=int, default=3, help="how often pages are opened; the median counts"
    )
    parser.add_argument("--write", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        print(json.dumps(write(args.write[0], args.samples, args.write[1])))
        return
    print("| maps | pages | MB | share of float32 | s to write | MiB, peak | s to open | s to a sample |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        measure.progress(kind)
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                __file__,
                "--samples",
                str(args.samples),
                "--write",
                kind,
                f"{folder}/page.html",
            ]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(output.splitlines()[-1])
            times = [opened(found["paths"]) for _ in range(args.repeats)]
        shown = ["-", "-"] if None in times else [f"{t:.1f}" for t in np.median(times, axis=0)]
        cells = [kind, len(found["paths"]), f"{found['size']:.0f}", f"{found['share']:.2f}"]
        cells += [f"{found['seconds']:.0f}", f"{found['peak']:.0f}", *shown]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
