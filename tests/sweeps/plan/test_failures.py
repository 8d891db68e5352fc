"""Why a trial failed, as it is recorded for whoever gets the results."""

from pathlib import Path

from kod_bench.sweeps.plan.failures import ERROR_FILE, read_error, write_error


def test_a_record_has_no_credentials_and_nothing_that_acts(tmp_path: Path) -> None:
    try:
        raise OSError("http://AKIA:hun/ter2@127.0.0.1:9000: \x1b[2J refused")
    except OSError as error:
        write_error(tmp_path, error)
    content = (tmp_path / ERROR_FILE).read_text()
    assert "Traceback" in content
    for part in ("AKIA", "hun", "ter2", "\\u001b"):
        assert part not in content
    assert read_error(tmp_path) == "http://...@127.0.0.1:9000: \\x1b[2J refused"
