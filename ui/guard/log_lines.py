"""Lines of studio.log: a line is one event, whatever the names and addresses in it hold."""

import logging
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OneLine(logging.Formatter):
    """Writes what would end a line, or move a terminal's cursor, as \\x0a: names, paths and
    addresses come from anybody, and must not make up lines of their own."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
