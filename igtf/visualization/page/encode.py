"""Arrays as text of a page: maps with one scale each, deflated; images as browsers read them; JSON."""

import base64
import io
import json
import math
import zlib

import numpy as np
from PIL import Image

__all__ = ["LEVELS", "as_json", "eight_bits", "half_floats", "number", "packed", "picture"]

LEVELS = 125  # of each sign; the codes above are NaN and the infinities
NAN, INFINITE = -128, 127
PHOTOGRAPH = 64  # pixels; from this size on, images in colour are JPEG
QUALITY = 90


def eight_bits(values):
    """Bytes and their scale: whole multiples of scale / 125, so at most scale / 250 off."""
    scale = scale_of(values)
    with np.errstate(invalid="ignore"):
        codes = np.rint(values / scale * LEVELS)
    codes = np.where(np.isinf(values), np.sign(values) * INFINITE, codes)
    return np.where(np.isnan(values), NAN, codes).astype(np.int8).tobytes(), scale


def half_floats(values):
    """Bytes and their scale: float16 of values / scale, low bytes before high ones, which deflates better."""
    scale = scale_of(values)
    halves = (values / scale).astype("<f2").reshape(-1, 1).view(np.uint8)
    return halves.T.tobytes(), scale


def scale_of(values):
    size = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return float(size) or 1.0


def packed(chunks):
    """One text for all of the bytes."""
    return base64.b64encode(zlib.compress(b"".join(chunks))).decode("ascii")


def picture(image):
    """A data URL of an image `[H, W, 3]` with values in 0..1."""
    pixels = np.rint(255 * image).astype(np.uint8)
    grey = not np.ptp(pixels, axis=-1).any()
    photograph = min(pixels.shape[:2]) >= PHOTOGRAPH and not grey
    kind, options = ("jpeg", {"quality": QUALITY, "subsampling": 0}) if photograph else ("png", {})
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(stream, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def number(value):
    """A number as JSON takes it, and as JavaScript's Number() reads it."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return "NaN"
    return float(f"{value:.9g}") if math.isfinite(value) else f"{'-' * (value < 0)}Infinity"


def as_json(value):
    """ASCII that ends no script element, whatever is in it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
