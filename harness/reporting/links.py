"""Where the other pages of an output folder lie, as a page links to them: only to those that are there.

OUT/index.html                 all studies, the newest trials
OUT/NAME/report.html           a study's; OUT/chains/NAME/report.html a chain's
OUT/pages/KEY.html             a trial's
OUT/pages/A_and_B.html         of two networks
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PAGES, INDEX, STUDY_PAGE = "pages", "index.html", "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """From the page in the folder `here`; without one there are none."""

    out: Path | None = None
    here: Path = Path()

    def to(self, target: Path) -> str:
        """Relative, as an address; empty where there is no such file."""
        if self.out is None or not (self.out / target).is_file():
            return ""
        return quote(Path(os.path.relpath((self.out / target).absolute(), self.here.absolute())).as_posix())

    def trial(self, key: str) -> str:
        return self.to(trial_page(key))

    def study(self, name: str) -> str:
        return self.to(Path(name) / STUDY_PAGE)

    @property
    def index(self) -> str:
        return self.to(Path(INDEX))


def trial_page(key: str) -> Path:
    """Below OUT."""
    return Path(PAGES) / f"{key}.html"


def links_from(page: Path, out: Path) -> Links:
    """Of the page that is written there."""
    return Links(out=out, here=Path(page).parent)
