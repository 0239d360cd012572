"""`python -m service`: serves the model on the address that the settings name."""

import gc
import sys

if __name__ == "__main__":
    # What is imported stays; to look for garbage in it is a twentieth of the start.
    gc.disable()
    from service.server.main import main

    sys.exit(main())
