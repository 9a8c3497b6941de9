# SPDX-License-Identifier: GPL-2.0-only
"""The tasks of this repository: `nox --list`.

They run in the environment of nox itself (.venv, which tools/setup.sh makes), because bcc is a
package of the distribution, and an environment that nox makes would lack it. tools/test runs
everything that a change must pass.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "docs", "unit"]


def _scripts() -> list[str]:
    """The shell scripts; shellcheck follows the files that they source."""
    files = [each for each in (*Path("tools").iterdir(), Path(".ci/run")) if each.is_file()]
    return sorted(str(each) for each in files if each.read_bytes().startswith(b"#!/usr/bin/env ba"))


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, biome on the scripts and styles of the page, and shellcheck on shell scripts."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("biome", "check", "--error-on-warnings")
    session.run("shellcheck", "-S", "warning", "-x", "-P", "SCRIPTDIR", *_scripts())


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy in strict mode."""
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into site/; warnings are errors. `nox -s docs -- serve` serves it."""
    arguments = session.posargs or ["build", "--strict"]
    session.run("mkdocs", *arguments, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that need no rights."""
    session.run("pytest", "-m", "not live", *session.posargs)


@nox.session
def live(session: nox.Session) -> None:
    """Run the live tests on this kernel; as root."""
    session.run("pytest", "tests/live", *session.posargs, env={"PTESCOPE_LIVE": "1"})


@nox.session
def kernels(session: nox.Session) -> None:
    """Run the tests on other kernels, in virtual machines; as root."""
    session.run("pytest", "tests/vm", "--all-kernels", *session.posargs, env={"PTESCOPE_LIVE": "1"})


@nox.session
def schema(session: nox.Session) -> None:
    """Regenerate shadow/schema-1.json after adding a field."""
    session.run("python", "-m", "shadow.json_schema")


@nox.session
def shell(session: nox.Session) -> None:
    """Write the man page and the completions after a change of options; with Python 3.11."""
    session.run("python", "-m", "tools.shell", "scripts")


@nox.session
def figure(session: nox.Session) -> None:
    """Measure a figure again: `nox -s figure -- census python -m tools.bench.census`."""
    session.run("python", "-m", "tools.figures", *session.posargs)
