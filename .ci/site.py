"""MkDocs' hook: README, CONTRIBUTING and CHANGELOG become pages; links hold there as on GitHub.

Pages of explanations, which are kept compressed, are unpacked.
"""

import gzip
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
# file at the root: page of the site
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files, config):
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=rewritten(text, ROOT)))
    for path in ROOT.glob("docs/*.gz"):
        files.remove(files.get_file_from_path(path.name))
        files.append(File.generated(config, path.stem, content=gzip.decompress(path.read_bytes())))
    return files


def on_page_markdown(markdown, page, config, files):
    made = page.file.src_uri in PAGES.values()
    return markdown if made else rewritten(markdown, ROOT / "docs")


def rewritten(markdown, folder):
    """Links, written for a file in `folder`, as the site needs them. Those out of it become bare words."""

    def replace(match):
        bang, words, target, anchor = match.groups(default="")
        if not target or target.startswith(("http:", "https:")):
            return match[0]
        path = (folder / target).resolve()
        if not path.exists():
            raise PluginError(f"a link to {target!r}, which is not there")
        name = path.relative_to(ROOT).as_posix()
        if name in PAGES or name.startswith("docs/"):
            name = name.removeprefix("docs/").removesuffix(".gz")
            return f"{bang}[{words}]({PAGES.get(name, name)}{anchor})"
        return words

    # Blocks of code stay as they are.
    fences = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in fences)
