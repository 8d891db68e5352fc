import pytest
from PIL import ImageFont

from kod_bench.evaluation.colour_wheel import LEGEND_HEIGHT, NOTE, legend
from kod_bench.evaluation.lettering import wrapped_lines

FONT = ImageFont.load_default(size=14)


@pytest.mark.parametrize("width", [1, 40, 90, 300, 2000])
@pytest.mark.parametrize(
    "text", ["", NOTE, "a-name-of-one-word-that-is-wider-than-most-pictures b"]
)
def test_lines_lose_no_letter_and_are_no_wider_than_asked(text: str, width: int) -> None:
    lines = wrapped_lines(text, FONT, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(FONT.getlength(line) <= width or len(line) == 1 for line in lines)


def test_words_stay_whole_where_they_fit() -> None:
    lines = wrapped_lines(NOTE, FONT, 200)
    assert len(lines) > 1
    assert " ".join(lines) == NOTE


@pytest.mark.parametrize("width", [300, 512, 1500])
def test_a_legend_has_its_words_inside(width: int) -> None:
    strip = legend(width)
    assert strip.size == (width, LEGEND_HEIGHT)
    beside = (
        strip.crop((LEGEND_HEIGHT, 0, width, LEGEND_HEIGHT)).convert("L").point(lambda v: 255 - v)
    )
    left, top, right, bottom = beside.getbbox() or (0, 0, 0, 0)
    assert left < right < width - LEGEND_HEIGHT
    assert 0 < top < bottom < LEGEND_HEIGHT
