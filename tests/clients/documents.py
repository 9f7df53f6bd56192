"""The files and commands that the documents give to those who write clients, as they would copy them."""

import re
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(r"(?:`([\w./-]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"\A(?://|#) ([\w./-]+\.\w+)\n")


@dataclass
class Project:
    """What one section of a document gives: files by their names, and commands in their order."""

    files: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def projects(path: Path) -> dict[str, Project]:
    """The sections of a document, by their headings. A block whose file has a name, in its
    first line or right before it, is that file."""
    found: dict[str, Project] = {}
    for section in re.split(r"^##+ ", path.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        project = found[heading] = Project()
        for named, language, content in BLOCK.findall(text):
            if language == "sh":
                project.commands += content.splitlines()
            elif name := named or (NAME.match(content) or [None, None])[1]:
                project.files[name] = content
    return found
