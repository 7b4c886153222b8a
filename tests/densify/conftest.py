"""Makes the splats that both test modules start from importable by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
