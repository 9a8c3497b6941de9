# SPDX-License-Identifier: GPL-2.0-only
"""Documents of live commands validate against the JSON Schema."""

import json
import subprocess
import sys
from collections.abc import Iterator

import jsonschema
import pytest

from shadow.json_schema import json_schema
from tests.live.actor import Actor

_CLOSED = jsonschema.Draft202012Validator(json_schema(closed=True))


@pytest.fixture(scope="module")
def pid() -> Iterator[int]:
    actor = Actor()
    yield actor.pid
    actor.close()


@pytest.mark.parametrize(
    "command",
    [
        "attach --slots -d 1 -p {pid}",
        "census --slots {pid}",
        "census --all",
        "advise -d 1 -p {pid}",
        "daemon -d 5 --min-vmpte 4K --max-memory 2G --listen 127.0.0.1:0",
    ],
)
def test_live_documents_are_valid(command: str, pid: int) -> None:
    arguments = command.format(pid=pid).split()
    said = subprocess.run(
        [sys.executable, "-m", "tracer", *arguments, "--json"],
        stdout=subprocess.PIPE,
        timeout=180,
        check=True,
    )
    document = json.loads(said.stdout)
    _CLOSED.validate(document)
    pids = [process["process"]["pid"] for process in document["processes"]]
    # The daemon follows a whole host, and may not have reached this process yet.
    assert pids if command.startswith("daemon") else pid in pids
