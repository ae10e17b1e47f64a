"""Log lines as JSON, for machines that gather them."""

from __future__ import annotations

import datetime as dt
import enum
import json
import logging

LOG = "CYTOVAE_LOG"
"""Environment variable: the `LogForm` of the app's server."""


class LogForm(enum.StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


class JsonLines(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message`` and, of an error, ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line."""
        said = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)
