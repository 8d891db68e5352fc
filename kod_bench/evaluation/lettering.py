"""Words in pictures."""

from PIL import ImageFont


def wrapped_lines(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Text in lines no wider than so many pixels, broken between words or, if need be, in one."""
    lines = [""]
    for word in text.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while font.getlength(lines[-1]) > width and len(lines[-1]) > 1:
            fits = next(
                (n for n in range(len(lines[-1]), 0, -1) if font.getlength(lines[-1][:n]) <= width),
                1,
            )
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines
