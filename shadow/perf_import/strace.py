# SPDX-License-Identifier: GPL-2.0-only
"""Parser for the output of strace: calls with their results, of one process or several.

It accepts the output of any of -f, -o, -t, -tt, -ttt, -r, -T, -y, -X and -e. A line has the form

    [PID or "[pid PID]"] [TIME] CALL(ARGUMENTS) = RESULT [ERROR (TEXT)] [<TOOK>]

A call that lines of other threads interrupt takes two lines: `CALL(... <unfinished ...>` and
`<... CALL resumed>...`. strace prints no page faults.
"""

import re
from collections.abc import Iterator

from shadow.perf_import.calls import ARGUMENTS
from shadow.perf_import.numbers import error_number, nanoseconds, number, split_result
from shadow.perf_import.said import (
    LONGEST_LINE,
    Called,
    Entered,
    Forked,
    OddLineError,
    Replaced,
    Returned,
    Said,
    What,
    line_of,
)

__all__ = ("Strace",)

_PREFIX = re.compile(
    r"(?a)(?:\[pid +(?P<bracketed>\d{1,8})\] |(?P<pid>\d{1,8}) +(?=[\d<a-z\[+-]))?"
    r" *(?:(?P<clock>\d\d:\d\d:\d\d(?:\.\d+)?)|(?P<seconds>\d+\.\d+)|(?P<relative>\+ *\d+\.\d+))? *"
    r"(?:\[[0-9a-f ]+\] )?"
)
_CALL = re.compile(r"(?a)(?P<call>[a-z_][a-z0-9_]{0,40})\((?P<rest>.*)", re.DOTALL)
_RESUMED = re.compile(r"(?a)<\.\.\. (?P<call>[a-z_0-9]{1,40}) resumed>,? ?(?P<rest>.*)")
_UNFINISHED = re.compile(r"(?a),? *<unfinished \.\.\.>(\)\s+= \?)?$")
_RESULT = re.compile(
    r"(?a)(?P<result>-?\d{1,20}|0x[0-9a-f]{1,16}|\?)(?:<.*>)?"
    r"(?: (?P<error>E[A-Z0-9]{1,30}) \(.*?\))?(?: \(.*?\))?(?: <\d+\.\d+>)?\s*"
)
_SPLIT = re.compile(r"(?a)strace: Process \d{1,8} attached$")
_OTHER_LINES = re.compile(r"(?a)(?:\+\+\+|---) .*|strace: .*| > .*|\)?\s*$")
_VECTOR = re.compile(r"(?a)iov_base=(0x[0-9a-f]{1,16}|NULL), iov_len=(\d{1,20}|0x[0-9a-f]{1,16})")
_FLAGS = re.compile(r"(?a)flags=([^,}]*)|\b(CLONE_[A-Z_|0-9x]+|SIGCHLD)\b")
_PREFIXES = {
    "madvise": ("", "", "MADV_"),
    "mlock2": ("", "", "MLOCK_"),
    "mlockall": ("MCL_",),
    "mmap": ("", "", "PROT_", "MAP_"),
    "mprotect": ("", "", "PROT_"),
    "mremap": ("", "", "", "MREMAP_"),
    "pkey_mprotect": ("", "", "PROT_", ""),
}
_FORKS = ("clone", "clone3", "fork", "vfork")
_DAY = 86_400 * 10**9


class Strace:
    """Reads lines of strace.

    Attributes:
        name: name of the tool.
        made_by: command that produces the text.
        limits: sentences about what the text lacks.
        header: facts about host and kernel: none.
    """

    name = "strace"
    made_by = "strace -f -ttt -T -o FILE"
    limits = (
        "strace has no page faults, so the touched pages are unknown. Only the PTE pages and "
        "entries that calls fill themselves (MAP_POPULATE, mlock, MADV_POPULATE) are known; all "
        "others are missing, and so are the empty PTE pages.",
    )

    def __init__(self) -> None:
        self.header: dict[str, str] = {}
        self._open: dict[int, tuple[str, str]] = {}
        """Unfinished calls by thread: name and arguments so far."""
        self._begun: tuple[int, str] | None = None
        """A line that a message of strace itself interrupted: thread and text so far."""
        self._now = self._days = self._relative = 0

    @staticmethod
    def recognises(line: str) -> bool:
        """Whether a line looks like output of strace."""
        rest = _PREFIX.sub("", line.strip(), count=1)
        if _RESUMED.match(rest) or (_CALL.match(rest) and rest.endswith("<unfinished ...>")):
            return True
        called = _CALL.match(rest)
        try:
            return called is not None and bool(_RESULT.fullmatch(split_result(called["rest"])[1]))
        except OddLineError:
            return False

    def _time(self, prefix: re.Match[str]) -> int:
        """The time of a line, ns; one without a time is a microsecond after the line before."""
        if prefix["clock"]:
            hours, minutes, seconds = prefix["clock"].split(":")
            time = nanoseconds(seconds) + (int(hours) * 60 + int(minutes)) * 60 * 10**9
            if time + self._days < self._now - _DAY // 2:
                self._days += _DAY
            time += self._days
        elif prefix["seconds"] and len(prefix["seconds"].partition(".")[0]) >= 9:
            time = nanoseconds(prefix["seconds"])
        elif prefix["seconds"] or prefix["relative"]:
            text = prefix["seconds"] or prefix["relative"].lstrip("+ ")
            time = self._relative = self._relative + nanoseconds(text)
        else:
            time = self._now + 1000
        self._now = max(self._now, time)
        return self._now

    def take(self, line: str) -> Iterator[Said]:
        """Parse a line.

        Raises:
            OddLineError: the line cannot be parsed.
        """
        line = line.rstrip()
        if _OTHER_LINES.fullmatch(line):
            return
        prefix = _PREFIX.match(line)
        assert prefix
        tid, text = int(prefix["bracketed"] or prefix["pid"] or 0), line[prefix.end() :]
        if self._begun and not prefix[0].strip() and _OTHER_LINES.match(text) is None:
            tid, text = self._begun[0], self._begun[1] + line
        self._begun = None
        if len(text) > LONGEST_LINE:
            raise OddLineError("a line of too many parts")
        time = self._time(prefix)
        cut = _SPLIT.search(text)
        if cut:
            self._begun = (tid, text[: cut.start()]) if cut.start() else None
            return
        if _OTHER_LINES.fullmatch(text):
            return
        for what in self._whats(tid, text):
            yield line_of(Said(time, None, tid, 0, "", what))

    def _whats(self, tid: int, text: str) -> Iterator[What]:
        resumed = _RESUMED.match(text)
        if resumed:
            call, rest = resumed["call"], resumed["rest"]
            begun = self._open.pop(tid, None)
            if begun is None or begun[0] != call:
                return  # the call began before strace attached
            yield from self._ended(call, begun[1] + rest, entered=True)
            return
        called = _CALL.match(text)
        if called is None:
            raise OddLineError("not a call")
        call, rest = called["call"], called["rest"]
        unfinished = _UNFINISHED.search(rest)
        if unfinished:
            self._open[tid] = call, rest[: unfinished.start()] + ", "
            if call in ("munmap", "mremap"):
                yield Entered(call, self._arguments(call, rest[: unfinished.start()]))
            return
        yield from self._ended(call, rest, entered=False)

    def _ended(self, call: str, rest: str, *, entered: bool) -> Iterator[What]:
        text, result_text = split_result(rest)
        end = _RESULT.fullmatch(result_text)
        if end is None:
            raise OddLineError("an invalid result")
        if end["result"] == "?":
            return
        result = -error_number(end["error"]) if end["error"] else number(end["result"])
        if call in ARGUMENTS:
            if entered and call in ("munmap", "mremap"):
                yield Returned(call, result)
            else:
                yield Called(call, self._arguments(call, text), result)
        elif call == "process_madvise":
            yield self._vectors(text, result)
        elif call in _FORKS and result > 0:
            yield Forked(result, self._is_thread(text))
        elif call in ("execve", "execveat") and result == 0:
            yield Replaced()
        elif call == "set_tid_address":
            yield Called("gettid", [], result)

    def _arguments(self, call: str, text: str) -> list[int]:
        parts = re.split(r", *", text)[: len(ARGUMENTS[call])]
        prefixes = _PREFIXES.get(call, ("",) * len(parts))
        return [number(part, prefix) for part, prefix in zip(parts, prefixes, strict=False)]

    def _vectors(self, text: str, result: int) -> What:
        ranges = [number(part) for pair in _VECTOR.findall(text) for part in pair]
        advice = re.search(r"\], *[^,]+, *([^,]+), *[^,]+$", text)
        if advice is None or "..." in text:
            raise OddLineError("process_madvise without its ranges")
        return Called("process_madvise", [number(advice[1], "MADV_"), *ranges], result)

    def _is_thread(self, text: str) -> bool:
        found = _FLAGS.search(text)
        if found is None or found[2] == "SIGCHLD":
            return False
        flags = re.sub(r"\|?SIG[A-Z0-9]+", "", found[1] or found[2])
        return number(flags, "CLONE_") & 0x10000 != 0
