"""`tests.engine.kit` and `tests.oracle` are imported from the project's root, however pytest is started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
