"""studio.log: nobody can write a line of it but the studio."""

import logging
from pathlib import Path

import pytest

from app import keep_log


@pytest.mark.parametrize("mark", ["\n", "\r", "\r\n", "\x0b", "\x1b[2K", "\x85", "\u2028"])
def test_a_name_with_a_line_break_makes_no_line_of_its_own(tmp_path: Path, mark: str) -> None:
    log = logging.getLogger("studio")
    before = [*log.handlers]
    keep_log(tmp_path)
    (handler,) = set(log.handlers) - {*before}
    try:
        log.warning(
            "refused: %s from %s", f"/x{mark}2026-01-01 INFO 'admin' logged in", "127.0.0.1"
        )
    finally:
        log.removeHandler(handler)
        handler.close()
    lines = (tmp_path / "studio.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 and "\\x" in lines[0] and lines[0].endswith("from 127.0.0.1")
