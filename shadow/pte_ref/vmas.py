"""VMAs of private anonymous memory: how they split, and when they merge again.

What tells two neighbours apart besides their protection: VM_ACCOUNT, which
mprotect drops from memory that was never written to and may not be any more
(mm/mprotect.c, mprotect_fixup), and the anon_vma, which is given at the first write
and shared with a neighbour where that is possible (mm/vma.c, find_mergeable_anon_vma,
is_mergeable_anon_vma).
"""

from dataclasses import dataclass, replace

__all__ = ("Vma", "Vmas")


@dataclass
class Vma:
    """Pages [start, end), by number."""

    start: int
    end: int
    writable: bool = True
    accounted: bool = True
    anon: int | None = None


class Vmas:
    """The VMAs of a process, ascending."""

    def __init__(self) -> None:
        self.all: list[Vma] = []
        self._anon_vmas = 0

    def over(self, start: int, end: int) -> list[Vma]:
        """Those that overlap [start, end)."""
        return [vma for vma in self.all if vma.start < end and start < vma.end]

    def _cut(self, at: int) -> None:
        for i, vma in enumerate(self.all):
            if vma.start < at < vma.end:
                self.all.insert(i + 1, replace(vma, start=at))
                vma.end = at
                return

    def _merge(self, at: int) -> None:
        """Let the VMAs that meet at page `at` be one, if they are alike."""
        for left, right in zip(self.all, self.all[1:], strict=False):
            alike = (left.writable, left.accounted) == (right.writable, right.accounted)
            anon = left.anon is None or right.anon is None or left.anon == right.anon
            if left.end == right.start == at and alike and anon:
                left.end = right.end
                left.anon = right.anon if left.anon is None else left.anon
                self.all.remove(right)
                return

    def map(self, start: int, end: int) -> None:
        """A new mapping, readable and writable; what was there is gone already."""
        self.all.append(Vma(start, end))
        self.all.sort(key=lambda vma: vma.start)
        self._merge(start)
        self._merge(end)

    def unmap(self, start: int, end: int) -> None:
        """No VMA is left in [start, end)."""
        self._cut(start)
        self._cut(end)
        self.all = [vma for vma in self.all if not (start <= vma.start < end)]

    def protect(self, start: int, end: int) -> None:
        """Mprotect to PROT_NONE, up to the first hole."""
        at = start
        while at < end:
            (vma, *_) = [*self.over(at, at + 1), None]
            if vma is None:
                return
            last = min(vma.end, end)
            if vma.writable:
                self._cut(at)
                self._cut(last)
                (piece,) = self.over(at, last)
                piece.writable = False
                piece.accounted = piece.accounted and piece.anon is not None
                self._merge(at)
                self._merge(last)
            at = last

    def write(self, page: int) -> bool:
        """A write fault; returns whether it is allowed."""
        vma = next(iter(self.over(page, page + 1)), None)
        if vma is None or not vma.writable:
            return False
        if vma.anon is None:
            vma.anon = self._anon_of_neighbour(vma)
        return True

    def _anon_of_neighbour(self, vma: Vma) -> int:
        """The next one's anon_vma, or the one before's, or a new one."""
        for page in (vma.end, vma.start - 1):
            for near in self.over(page, page + 1):
                if near.anon is not None and near.accounted == vma.accounted:
                    return near.anon
        self._anon_vmas += 1
        return self._anon_vmas
