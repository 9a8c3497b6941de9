# SPDX-License-Identifier: GPL-2.0-only
"""Take the screenshots of the docs from the page of the demo.

    ./tools/demo && python -m tools.screenshot [PAGE]

It shows the moment at which most PTE pages were empty, light and dark, in docs/images/.
"""

import sys
from pathlib import Path
from typing import Literal

from tools.chromium import chromium, ready

_ROOT = Path(__file__).parent.parent
_FOLDER = _ROOT / "docs" / "images"
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_WIDTH, _HEIGHT = 1200, 1640


def main() -> None:
    """Write the pictures."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else _ROOT / ".demo" / "redis.html"
    _FOLDER.mkdir(exist_ok=True)
    with chromium() as browser:
        for scheme in _SCHEMES:
            context = browser.new_context(
                viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme=scheme
            )
            page = ready(context.new_page(), source.absolute().as_uri())
            worst = page.get_by_role("button", name="Show that moment")
            if worst.count():
                worst.click()
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            page.screenshot(path=_FOLDER / f"report-{scheme}.png")
            context.close()


if __name__ == "__main__":
    main()
