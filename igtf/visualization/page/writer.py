"""The files of a page, written sample by sample."""

import base64
import hashlib
import pathlib
import urllib.parse
import warnings

from igtf.visualization.page import encode

__all__ = ["STYLE", "Writer", "policy"]

LARGEST = 100_000_000  # bytes of a file
HERE = pathlib.Path(__file__).parent
STYLE = (HERE / "page.css").read_text("utf-8")
SCRIPT = "".join((HERE / name).read_text("utf-8") for name in ("data.js", "views.js", "page.js"))
# What comes before the samples, and after them.
HEAD, TAIL = (HERE / "page.html").read_text("utf-8").split("<!-- samples -->")
FIXED = len(TAIL) + len(SCRIPT) + 1000


class Writer:
    """Writes samples as they come and keeps of each what the gallery shows; a failure leaves no file.

    Attributes:
      paths: the files, once they are complete.
      about: what goes into the index beside the rows.
    """

    def __init__(self, path, about):
        self.paths = [path]
        self.about, self._file, self._rows, self._first = about, None, [], 0
        self._index = 0  # bytes of the rows

    def __enter__(self):
        return self

    def add(self, row, content):
        text, line = encode.as_json(content), encode.as_json(row)
        if self._file and self._file.tell() + self._index + len(text) + len(line) + FIXED > LARGEST:
            self._finish(further=True)
            self.paths.append(self._path(len(self.paths)))
        if self._file is None:
            self._file = _part(self.paths[-1]).open("w", encoding="utf-8", newline="\n")
            head = HEAD.replace("/* style */", STYLE)
            self._file.write(head.replace("<!-- policy -->", policy(STYLE, SCRIPT)))
        number = len(self._rows)
        self._file.write(f'<script type="application/json" id="sample-{number}">{text}</script>\n')
        self._rows.append(line)
        self._index += len(line)

    def _finish(self, further):
        place = len(self.paths)
        about = self.about | {
            "first": self._first,
            "previous": _link(self._path(place - 2)) if place > 1 else None,
            "next": _link(self._path(place)) if further else None,
        }
        index = f'{encode.as_json(about)[:-1]},"rows":[{",".join(self._rows)}]}}'
        tail = TAIL.replace("/* script */", SCRIPT)
        self._file.write(f'<script type="application/json" id="index">{index}</script>\n{tail}')
        self._file.close()
        self._first += len(self._rows)
        self._file, self._rows, self._index = None, [], 0

    def _path(self, place):
        """The file in this place, from 0."""
        first = self.paths[0]
        return first.with_name(f"{first.stem}-{place + 1}{first.suffix}") if place else first

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self._finish(further=False)
            for path in self.paths:
                _part(path).replace(path)
            if len(self.paths) > 1:
                warnings.warn(
                    f"explanation_page: the samples make more than {LARGEST // 1_000_000} MB, so there are "
                    f"{len(self.paths)} pages, which link to one another: "
                    f"{', '.join(map(str, self.paths))}. For one, pass fewer samples or smaller maps.",
                    stacklevel=3,
                )
            return
        if self._file:
            self._file.close()
        for path in self.paths:
            _part(path).unlink(missing_ok=True)


def _part(path):
    return path.with_name(path.name + ".part")


def _link(path):
    return urllib.parse.quote(path.name)


def policy(style, script):
    """The page runs our script and no other, and loads nothing."""
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style", style), ("script", script))
    }
    sources = " ".join(f"{name}-src 'sha256-{value}';" for name, value in hashes.items())
    content = f"default-src 'none'; img-src data:; {sources}"
    return f'<meta http-equiv="Content-Security-Policy" content="{content}">'
