"""Write docs/parity.md from the stored values of the releases."""

from tests import ROOT
from tests.released.reference import page

(ROOT / "docs/parity.md").write_text(page())
