"""`python -m service`: serves the model on the address that the settings name."""

import sys

if __name__ == "__main__":
    from service.server.main import main

    sys.exit(main())
