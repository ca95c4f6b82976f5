"""Let the tests here import the harnesses by the names they have when started by hand."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
