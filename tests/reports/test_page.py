import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kod_bench.reports import make_content, read_frame
from kod_bench.reports.page import MOST_BYTES, page, write_page
from kod_bench.results import write_rows
from tests.reports.study import HOSTILE, make_study
from tests.rows import make_row


class Elements(HTMLParser):
    """What a browser would see: elements with their attributes, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._script = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if not self._script:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_a_page_has_all_its_parts_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    report = make_study(tmp_path, failures=(("ddpm-9", "out of memory"),))
    path = write_page(report.content, [tmp_path], tmp_path, paper=False)
    assert path.stat().st_size < MOST_BYTES
    seen = Elements(path.read_text())
    for heading in (
        "What the evidence supports",
        "Comparison",
        "Differences",
        "Samples",
        "Nearest training images",
        "From the prior to the image",
        "Where the forward process ends",
        "Published numbers, not ranked with ours",
        "Provenance",
        "Failures and exclusions",
    ):
        assert heading in seen.text
    anchors = {a["id"] for _, a in seen.found if "id" in a}
    links = [a["href"] for a in seen.named("a")]
    assert links
    assert all(link and link.startswith("#") and link[1:] in anchors for link in links)
    pictures = seen.named("img")
    assert len(pictures) > 10
    assert all(p["alt"] and (p["src"] or "").startswith("data:image/") for p in pictures)
    assert not any("src" in a for a in seen.named("script"))
    assert [link["href"] for link in seen.named("link")] == ["data:,"]
    assert "out of memory" in seen.text


def test_texts_of_rows_and_errors_stay_texts(tmp_path: Path) -> None:
    report = make_study(
        tmp_path,
        failures=((HOSTILE, f"error: {HOSTILE}"),),
        hostname=HOSTILE,
        features=HOSTILE,
        version=HOSTILE,
    )
    honest = Elements(page(make_study(tmp_path / "honest").content))
    seen = Elements(page(report.content, [tmp_path]))
    assert "window.hacked" in seen.text
    assert len(seen.named("script")) == len(honest.named("script"))
    assert not any("onerror" in attributes for _, attributes in seen.found)
    assert not any(attributes.get("src") == "x" for attributes in seen.named("img"))


def test_names_of_models_cannot_end_the_script_that_holds_the_figures(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = write_rows(tmp_path / "a", [make_row(model=f"</script>{HOSTILE}")])
    text = page(make_content(read_frame([file]).rows, title=HOSTILE))
    held = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S)
    assert held is not None
    assert held.group(1).endswith("}")
    assert "window.hacked" in held.group(1)
    assert "<" not in held.group(1)


@pytest.mark.parametrize(
    "changes", [[{}], [{"kid": float("nan")}], [{"kid": float("inf"), "fid": float("nan")}, {}]]
)
def test_few_and_odd_rows_make_a_page(tmp_path: Path, changes: list[dict[str, float]]) -> None:
    paths = []
    for seed, each in enumerate(changes):
        (tmp_path / str(seed)).mkdir()
        paths.append(write_rows(tmp_path / str(seed), [make_row(seed=seed, **each)]))
    content = make_content(read_frame(paths).rows, title="odd")
    text = page(content)
    assert "Infinity" not in text.split('id="figures">')[-1].split("</script>")[0]
    assert "odd" in Elements(text).text


def test_no_rows_make_a_page_that_says_so() -> None:
    text = page(make_content(read_frame([]).rows, title="nothing yet"))
    assert "there is nothing to compare yet" in text
    assert len(text) < 50_000  # and no library that would draw nothing


def test_pictures_never_make_a_page_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make_study(tmp_path, seeds=1)
    assert len(page(report.content, [tmp_path])) < MOST_BYTES
    most = len(page(report.content)) + 150_000  # beside text and tables, room for a few
    monkeypatch.setattr("kod_bench.reports.page.write.MOST_BYTES", most)
    text = page(report.content, [tmp_path])
    assert len(text) < most
    assert re.search(r"\d+ more pictures are in the folders of the trials", text)
