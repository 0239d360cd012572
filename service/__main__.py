"""`python -m service`: serves the model on the address that the settings name."""

import sys

from service.server.main import main

if __name__ == "__main__":
    sys.exit(main())
