"""`tests.mutations` and its neighbours are imported from the project's root, however pytest is started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
