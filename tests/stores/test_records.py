"""The records of shared stores: what was fetched comes back exactly, whatever is in it."""

import json
import sys
import unittest

from c42_proxy.stores.contract import Entry
from c42_proxy.stores.records import from_bytes, to_bytes


class RecordsTest(unittest.TestCase):
    def test_each_character(self) -> None:
        """The parser writes each character back as we have written it; else no shared tier would give it back."""
        valid = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)
        answer = {"id": "a", "title": None, "names": list(valid)}
        entry = Entry(200, json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode(), 1_700_000_000.25)
        self.assertEqual(entry, from_bytes("a", to_bytes("a", entry)))
