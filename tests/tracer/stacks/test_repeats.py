# SPDX-License-Identifier: GPL-2.0-only
"""A stack is recognised by its return addresses, all of them and at their places."""

from hypothesis import given
from hypothesis import strategies as st

from tracer.stacks import repeats
from tracer.stacks.repeats import Repeats

_START = (0x1000, -1, 8192)
_PLACES = [(2, 0xA), (5, 0xB), (9, 0xC)]


def _words(**changes: int) -> list[int]:
    words = [0] * 16
    for place, word in _PLACES:
        words[place] = word
    for name, word in changes.items():
        words[int(name[1:])] = word
    return words


def _known() -> Repeats:
    known = Repeats()
    known.add(_START, _PLACES, 7)
    return known


def test_other_words_do_not_matter() -> None:
    assert _known().find(_START, _words(w0=99, w3=99, w15=99), 16) == 7


def test_each_return_address_matters() -> None:
    for place, _ in _PLACES:
        assert _known().find(_START, _words(**{f"w{place}": 99}), 16) is None


def test_start_and_size_matter() -> None:
    for start in ((0x1001, -1, 8192), (0x1000, 16, 8192), (0x1000, -1, 4096)):
        assert _known().find(start, _words(), 16) is None
    assert _known().find(_START, _words(), 9) is None


def test_a_longer_stack_is_another() -> None:
    known = _known()
    known.add(_START, [*_PLACES[:2], (12, 0xD)], 8)
    assert known.find(_START, _words(), 16) == 7
    assert known.find(_START, _words(w9=0, w12=0xD), 16) == 8
    assert known.find(_START, _words(w9=0), 16) is None


def test_a_stack_of_one_frame() -> None:
    known = Repeats()
    known.add(_START, [], 3)
    assert known.find(_START, [], 0) == 3


def test_the_memory_is_bounded() -> None:
    known = Repeats()
    for number in range(repeats._MOST_NODES // 100 + 10):
        known.add((number, -1, 0), [(place, number) for place in range(100)], number)
    assert known._nodes <= repeats._MOST_NODES + 101
    assert known.find((number, -1, 0), [number] * 100, 100) == number


_Stack = st.lists(
    st.tuples(st.integers(0, 7), st.integers(1, 3)), max_size=4, unique_by=lambda e: e[0]
)


@given(st.lists(_Stack, max_size=12), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_what_is_found_has_exactly_these_words(
    stacks: list[list[tuple[int, int]]], words: list[int]
) -> None:
    known = Repeats()
    for number, stack in enumerate(stacks):
        known.add(_START, sorted(stack), number)
    found = known.find(_START, words, 8)
    if found is not None:
        assert all(words[place] == word for place, word in stacks[found])
