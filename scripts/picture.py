"""Draw README's picture: the first screen of a page, in Chromium: python scripts/picture.py PAGE PICTURE."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE = "1280,1450"  # px; a laptop's width, and down to the end of the first picture


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(str(__doc__))
    page, picture = (Path(word).resolve() for word in sys.argv[1:])
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit("the picture is drawn by Chromium, and none is on the PATH; scripts/system-packages.sh installs it")
    if not page.is_file():
        sys.exit(f"there is no page {page}; `make demo` ends with one")
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        flags += [f"--window-size={SIZE}", f"--user-data-dir={profile}", "--virtual-time-budget=15000"]
        subprocess.run([browser, *flags, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)
    print(picture)


if __name__ == "__main__":
    main()
