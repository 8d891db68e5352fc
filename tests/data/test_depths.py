"""More than 8 bits => 8, and what is said of ranges that are not filled."""

import numpy as np
import pytest

from kod_bench.data.depths import Depth, Span, depth_notes, to_bytes

TWELVE = Span(Depth(16), 0, 4080)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_range_of_n_bits_keeps_the_upper_eight(bits: int) -> None:
    values = np.arange(2**bits)
    found = to_bytes(values, Depth(16), (0, 2**bits - 1))
    np.testing.assert_array_equal(found, values >> (bits - 8))


def test_without_a_range_sixteen_bits_keep_the_upper_eight() -> None:
    values = np.arange(2**16, dtype=np.uint16)
    np.testing.assert_array_equal(to_bytes(values, Depth(16), None), values >> 8)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (-3.5, 1050.25)])
def test_floats_are_rounded(low: float, high: float) -> None:
    levels = np.arange(256)
    values = (low + levels / 255 * (high - low)).astype(np.float32)
    np.testing.assert_array_equal(to_bytes(values, Depth(32, "float"), (low, high)), levels)


def test_beyond_the_range_is_black_or_white() -> None:
    found = to_bytes(np.array([-50.0, 2.0]), Depth(64, "float"), (0, 1))
    assert found.tolist() == [0, 255]


@pytest.mark.parametrize(
    ("spans", "value_range", "parts"),
    [
        ([], None, []),
        ([], (0, 1), ["value_range changes nothing: all images have 8 bits"]),
        ([Span(Depth(16), 0, 40_000)], None, []),
        ([TWELVE, Span(Depth(16), 0, 40_000)], None, []),
        ([Span(Depth(12), 0, 4095)], None, []),
        (
            [TWELVE, TWELVE],
            None,
            [
                "2 images of 16 bits reach no more than 4080 (12 bits)",
                "16 gray levels",
                "[0, 4095]",
            ],
        ),
        ([Span(Depth(16), 0, 1050)], None, ["(11 bits)", "at most 5 gray levels", "[0, 2047]"]),
        ([Span(Depth(16, colour=True), 0, 4095)], None, ["(12 bits)", "save them in 8 bits"]),
        (
            [Span(Depth(32, "float"), -1, 1), Span(Depth(32, "float"), 0, 1)],
            (0, 1),
            ["clipped values outside value_range [0, 1] in 1 image", "values from -1 to 1"],
        ),
    ],
)
def test_notes(spans: list[Span], value_range: tuple[float, float], parts: list[str]) -> None:
    notes = depth_notes(spans, value_range)
    assert len(notes) == (1 if parts else 0)
    for part in parts:
        assert part in notes[0]
