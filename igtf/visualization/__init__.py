"""Pictures of attributions: arrays in, Matplotlib figures (or arrays, or a page) out. No TensorFlow.

Every picture keeps the same few promises:

* Scales of signed values are symmetric around 0. In maps, bars and text red speaks for the output
  and blue against it; on photographs, green and magenta do. Colour-blind readers can tell these
  apart as well; `cmap` and `colours` take others, such as `"PuOr"`.
* Images may be grayscale or RGB, of any value range: `uint8` counts to 255, values in 0..1 stay
  as they are, anything else is stretched from its minimum to its maximum.
* Values that are NaN or infinite are drawn in yellow, and the legend counts them. It also says so
  when there is nothing to see because everything is 0.
* Figures never enter pyplot's list of open figures, so nothing has to be closed, and they display
  themselves in a notebook. Save one with `figure.savefig("name.png")`.

Shapes: `H` and `W` are height and width, `C` is the number of channels, `B` the rows of a batch.
Pixels of an image are `[H, W]`, `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`; three dimensions mean
one image with channels when the last one is 1 or 3, and a grayscale batch otherwise. Attributions
of the channels of a pixel are summed, as the sum is what the pixel contributes to the output.
Other input raises `ValueError` (shapes, ranges; the message holds the shapes) or `TypeError`.
`outlines`, `spotlight`, `largest_regions` and `clean` need SciPy, `segment` scikit-image; the other
pictures do without.
"""

from igtf.visualization.areas import least_area, segment, xrai
from igtf.visualization.charts import animate_path, bar, convergence_plot, path_plot
from igtf.visualization.datasets import beeswarm, importance, waterfall
from igtf.visualization.images import attribution_grid, heatmap, outlines, overlay, spotlight
from igtf.visualization.interactions import dependence, interaction_matrix
from igtf.visualization.judgement import evaluation_plot
from igtf.visualization.letters import logo
from igtf.visualization.page import explanation_page, generation_page, generation_view
from igtf.visualization.regions import largest_regions, strength
from igtf.visualization.series import series_plot
from igtf.visualization.text import highlight_text
from igtf.visualization.token_matrix import token_matrix

__all__ = [
    "animate_path",
    "attribution_grid",
    "bar",
    "beeswarm",
    "convergence_plot",
    "dependence",
    "evaluation_plot",
    "explanation_page",
    "generation_page",
    "generation_view",
    "heatmap",
    "highlight_text",
    "importance",
    "interaction_matrix",
    "largest_regions",
    "least_area",
    "logo",
    "outlines",
    "overlay",
    "path_plot",
    "segment",
    "series_plot",
    "spotlight",
    "strength",
    "token_matrix",
    "waterfall",
    "xrai",
]
