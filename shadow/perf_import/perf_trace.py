# SPDX-License-Identifier: GPL-2.0-only
"""Parser for the output of `perf trace`: system calls, and with -F also page faults.

A line has the form `MILLISECONDS ( TOOK ms): COMM/TID CALL(name: value, ...) = RESULT`. perf
omits arguments that are 0, and COMM/TID if there is only one process.
"""

import re
from collections.abc import Iterator

from shadow.perf_import.calls import ARGUMENTS
from shadow.perf_import.numbers import error_number, number, split_result
from shadow.perf_import.said import (
    Called,
    Forked,
    OddLineError,
    Replaced,
    Said,
    Touched,
    What,
    line_of,
)

__all__ = ("PerfTrace",)

_LINE = re.compile(
    r"(?a)\s*(?P<at>\?|\d{1,15}(?:\.\d{1,9})?)\s*(?:\(\s*(?P<took>[\d.]*)\s*(?:ms)?\s*\):)?\s+"
    r"(?:(?P<comm>.{0,64}?)/(?P<tid>\d{1,8})\s+)?(?P<rest>(?:\.\.\. \[continued\]: )?\w+[\(\s].*)"
)
_CALL = re.compile(r"(?a)(?P<call>[a-z_][a-z0-9_]{0,40})\((?P<arguments>.*)")
_RESULT = re.compile(
    r"(?a)(?P<result>-?\d{1,20}|0x[0-9a-f]{1,16})?(?: ?(?P<error>E[A-Z0-9]{1,30}))?(?: \(.*\))?\s*"
)
_FAULT = re.compile(
    r"(?a)(?:maj|min)fault \[.*?\] => (?:(?://anon|\[heap\])@)?"
    r"0x(?P<address>[0-9a-f]{1,16}) \(.*\)\s*"
)
_OF_A_FILE = re.compile(r"(?a)(?:maj|min)fault \[.*?\] => .*@0x[0-9a-f]+ \(.*\)\s*")
_WAITS = re.compile(r"(?a)\w+\(.*\)? *\.\.\.\s*")
_NAMED = re.compile(r"(?a)(\w+): ([^,]*)")
_OF_ANY = {"behavior": "MADV_", "prot": "PROT_"}
_PREFIXES = {
    ("mmap", "flags"): "MAP_",
    ("mremap", "flags"): "MREMAP_",
    ("mlockall", "flags"): "MCL_",
    ("mlock2", "flags"): "MLOCK_",
    ("clone", "clone_flags"): "CLONE_",
}
_USER_WRITE = 6
_OTHER_NAMES = {"len_in": "len", "start": "addr"}
"""Names of arguments in other releases of perf."""


class PerfTrace:
    """Reads lines of perf trace.

    Attributes:
        name: name of the tool.
        made_by: command that produces the text.
        limits: sentences about what the text lacks.
        header: facts about host and kernel: none.
    """

    name = "perf trace"
    made_by = "perf trace -F all -o FILE"
    limits = (
        "perf trace prints page faults only with -F, and no addresses of faults on files: not all "
        "touched pages are known, so PTE pages and entries are missing.",
        "perf trace does not distinguish threads from processes: each thread counts as a process.",
    )

    def __init__(self) -> None:
        self.header: dict[str, str] = {}
        self._now = 0

    @staticmethod
    def recognises(line: str) -> bool:
        """Whether a line looks like output of perf trace."""
        match = _LINE.match(line)
        if match is None or (match["took"] is None and match["tid"] is None):
            return False
        rest = match["rest"]
        return (
            bool(_CALL.match(rest))
            or any(pattern.fullmatch(rest) for pattern in (_OF_A_FILE, _FAULT))
            or rest.startswith("... [continued]")
        )

    def _time(self, match: re.Match[str]) -> int:
        if match["at"] != "?":
            at, took = float(match["at"]), float(match["took"] or 0)
            self._now = max(self._now, 1 + round((at + took) * 1e6))
        return self._now

    def take(self, line: str) -> Iterator[Said]:
        """Parse a line.

        Raises:
            OddLineError: the line cannot be parsed.
        """
        match = _LINE.match(line.rstrip())
        if match is None:
            raise OddLineError("not a line of perf trace")
        rest = match["rest"].removeprefix("... [continued]: ").replace("()) ", "() ", 1)
        tid, comm = int(match["tid"] or 0), match["comm"] or ""
        try:
            time = self._time(match)
        except ValueError as error:
            raise OddLineError("an invalid time") from error
        for what in self._whats(rest, continued=rest != match["rest"]):
            yield line_of(Said(time, None, tid, 0, comm, what))

    def _whats(self, rest: str, *, continued: bool) -> Iterator[What]:
        fault = _FAULT.fullmatch(rest)
        if fault:
            yield Touched(int(fault["address"], 16), _USER_WRITE)
            return
        if _OF_A_FILE.fullmatch(rest) or _WAITS.fullmatch(rest):
            return
        called = _CALL.fullmatch(rest)
        if called is None:
            raise OddLineError("not a call")
        arguments, result_text = split_result(called["arguments"] + " ")
        match = _RESULT.fullmatch(result_text)
        if match is None:
            raise OddLineError("an invalid result")
        call = called["call"]
        if match["result"] is None:
            if match["error"] is None:
                return  # a child, where clone returns 0
            result = -error_number(match["error"])
        else:
            result = number(match["result"])
            result = -error_number(match["error"]) if match["error"] else result
        yield from self._call(call, arguments, result, continued=continued)

    def _call(self, call: str, text: str, result: int, *, continued: bool) -> Iterator[What]:
        if call in ("execve", "execveat") and result == 0:
            yield Replaced()
        elif call in ("clone", "fork", "vfork") and result > 0:
            yield Forked(result, self._is_thread(call, text))
        elif call == "process_madvise":
            yield Called(call, [], result)
        elif call in ARGUMENTS:
            if continued:
                raise OddLineError(f"{call} without its arguments")
            yield Called(call, self._arguments(call, text), result)

    def _arguments(self, call: str, text: str) -> list[int]:
        named: dict[str, str] = dict(_NAMED.findall(text))
        found = []
        for name in ARGUMENTS[call]:
            value: str = named.get(name, named.get(_OTHER_NAMES.get(name, ""), "0"))
            prefix = _PREFIXES.get((call, name), _OF_ANY.get(name, ""))
            found.append(number(value, prefix))
        return found

    def _is_thread(self, call: str, text: str) -> bool:
        flags = dict(_NAMED.findall(text)).get("clone_flags", "0")
        return call == "clone" and number(flags, "CLONE_") & 0x10000 != 0
