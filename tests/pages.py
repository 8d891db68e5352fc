"""Files that pages of the documentation tell their readers to copy."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


def files_of(page: str) -> dict[str, str]:
    """The files on a page, by name."""
    return dict(_FILE.findall((ROOT / page).read_text()))


def copy_files(page: str, folder: Path) -> Path:
    """Do what a reader of the page does."""
    folder.mkdir()
    for name, content in files_of(page).items():
        (folder / name).write_text(content)
    return folder
