# SPDX-License-Identifier: GPL-2.0-only
"""Makes the page: a skeleton, the scripts, and the data as JSON.

The scripts put every text from the data into the page as text, so a name is never markup.
"""

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from shadow.escape import valid
from shadow.mapping_names import MappingKind, mapping_kind_text
from shadow.report.page.assets import assets
from shadow.report.page.data import PageProcess, Source, process_data

__all__ = ("live_page", "report_page")


def report_page(
    document: dict[str, Any],
    processes: Sequence[PageProcess],
    sources: Sequence[Source],
    *,
    version: str,
    made: str,
) -> str:
    """A page that is complete in itself.

    Args:
        document: the JSON document, as `--json` prints it.
        processes: more about each process of the document, in its order.
        sources: where the processes come from.
        version: the version of ptescope.
        made: the date and time.
    """
    page = {
        "live": False,
        "version": version,
        "made": made,
        "sources": [{"name": source.name, "problem": source.problem} for source in sources],
        "processes": [process_data(process) for process in processes],
    }
    return _page(document, page)


def live_page(version: str) -> str:
    """A page that fetches its data again and again, from the server that has served it.

    Args:
        version: the version of ptescope.
    """
    return _page({}, {"live": True, "version": version})


def _page(document: dict[str, Any], page: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader(__package__, "static"), autoescape=True, undefined=StrictUndefined
    )
    kinds = {kind.value: mapping_kind_text(kind) for kind in MappingKind}
    return environment.get_template("page.html").render(
        assets=assets(),
        policy=assets().policy(connect=page["live"]),
        document=_embedded(document),
        page=_embedded({**page, "kinds": kinds}),
    )


def _embedded(data: dict[str, Any]) -> str:
    """JSON inside a script element, which must not contain its end."""
    text = json.dumps(valid(data), separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c")
