"""Griffe's extension: examples become a section, arguments that share a description one entry each."""

import re

import griffe

SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): ", re.M)


class Docstrings(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = prepared(obj.docstring.value)


def prepared(text):
    lines, made, inside = text.splitlines(), [], False
    for i, line in enumerate(lines):
        if line.startswith(">>>") and not inside:
            made.append("Examples:")
            inside = True
        elif inside and not line and i + 1 < len(lines) and not lines[i + 1].startswith((">>>", "...")):
            inside = False
        made.append("  " + line if inside and line else line)
    return SHARED.sub(_each, "\n".join(made))


def _each(match):
    *others, last = match[2].split(", ")
    return "".join(f"{match[1]}{name}: see `{last}`.\n" for name in others) + f"{match[1]}{last}: "
