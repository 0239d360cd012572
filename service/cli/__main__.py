"""`python -m service.cli`: the command `captcha-ocr` where it is not installed."""

from service.cli import main

if __name__ == "__main__":
    main()
