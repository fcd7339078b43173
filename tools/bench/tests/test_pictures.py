"""The pictures of the performance page."""

import re
import unittest
from xml.etree import ElementTree

from harness.processes import ROOT

DOCS = ROOT / "docs"


class PicturesTest(unittest.TestCase):
    def test_text_is_text(self) -> None:
        """The title and the numbers of each picture can be searched and read aloud: they are text, not outlines."""
        pictures = re.findall(r"!\[(.*)\]\((performance/\w+\.svg)\)", (DOCS / "performance.md").read_text())
        self.assertEqual(
            {f"performance/{path.name}" for path in DOCS.glob("performance/*.svg")}, {p for _, p in pictures}
        )
        for title, path in pictures:
            with self.subTest(path):
                svg = ElementTree.parse(DOCS / path)
                texts = ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]
                self.assertIn(title, texts)
                self.assertGreater(sum(any(map(str.isdigit, text)) for text in texts), 5)


if __name__ == "__main__":
    unittest.main()
