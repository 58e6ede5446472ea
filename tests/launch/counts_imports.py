"""Says which process imported it."""

import os

IMPORTED_BY = os.getpid()
