"""What is printed of files: nothing in it acts, and it repeats no credentials."""

import logging

import pytest

from kod_bench.visible import VisibleFormatter, is_visible, visible

SECRET = "hun/ter2"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://AKIA:{SECRET}@bucket/x",
        f"s3:/AKIA:{SECRET}@bucket/x",  # as a path has it
        f"'folder:s3://AKIA:{SECRET}@bucket' is not allowed",
        f"data folder /home/me/s3:/AKIA:{SECRET}@bucket does not exist",
        f"connect to http://user:{SECRET}@127.0.0.1:9000 failed",
        f"ray://me:{SECRET}@head:10001",
        f"s3://AKIA:a@{SECRET}@bucket",
    ],
)
def test_credentials_in_an_address_are_left_out(text: str) -> None:
    assert "@" in visible(text)
    for part in ("AKIA", *SECRET.split("/")):
        assert part not in visible(text)


@pytest.mark.parametrize(
    "text", ["s3://bucket/x, me@uni.edu", "me@uni.edu", "a:/b c@d", "https://host/x 'a@b'"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["a", "a:/", "@", "a:/@", "a://b@ "])
def test_it_takes_time_in_proportion(part: str) -> None:
    assert visible(part * 1_000_000 + "@")


def test_a_log_acts_on_no_terminal_and_has_no_credentials() -> None:
    record = logging.LogRecord(
        *("x", logging.ERROR, "", 0, "\x1b[2J %s\u202e", (f"s3://AKIA:{SECRET}@b",), None)
    )
    assert VisibleFormatter("%(message)s").format(record) == "\\x1b[2J s3://...@b\\u202e"


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u00ad", "\u2060"])
def test_what_has_no_width_is_shown(hidden: str) -> None:
    assert visible(f"ddpm{hidden}") != f"ddpm{hidden}"
    assert not is_visible(f"ddpm{hidden}")


def test_a_secret_may_have_a_quote() -> None:
    assert "c/ret" not in visible("error: s3:/KEY:se'c/ret@bucket/x: does not exist")
