"""Lines are cut where they end, wherever the bytes were."""

from codecs import BOM_UTF8

from hypothesis import given
from hypothesis import strategies as st

from app.bulk.lines import LineSplitter

pieces = st.lists(st.lists(st.sampled_from([b"a", b"b", b"\n", b"\r"]), max_size=9).map(b"".join))


def cut(parts: list[bytes], most: int) -> list[bytes]:
    splitter = LineSplitter(most)
    return [line for part in parts for line in splitter.feed(part)] + list(splitter.finish())


@given(pieces)
def test_the_lines_are_those_of_the_whole(parts):
    *whole, rest = b"".join(parts).split(b"\n")
    assert cut(parts, 1000) == [*whole, *([rest] if rest else [])]


@given(pieces, st.integers(0, 4))
def test_a_line_that_is_too_long_is_one_line_and_one_byte_too_long(parts, most):
    assert cut(parts, most) == [line[: most + 1] for line in cut(parts, 1000)]


@given(pieces, st.integers(0, 9), st.integers(0, 4))
def test_a_byte_order_mark_belongs_to_no_line(parts, position, most):
    """Whole, or in pieces; and not one that stands elsewhere."""
    marked = BOM_UTF8 + b"".join(parts)
    assert cut([marked[:position], marked[position:]], most) == cut(parts, most)
    ones = [bytes([byte]) for byte in marked]
    assert cut(ones, most) == cut(parts, most)
    assert cut([b"a\n" + BOM_UTF8], 1000) == [b"a", BOM_UTF8]


def test_no_more_is_held_than_a_line():
    splitter = LineSplitter(10)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 1000)) == []
    assert len(splitter._begun) == 11 + len(BOM_UTF8)
    assert list(splitter.feed(b"\nab\n")) == [b"x" * 11, b"ab"]
