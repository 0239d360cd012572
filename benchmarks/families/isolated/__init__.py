"""What runs in the environment of `requirements.txt` beside this file: generators and ddddocr."""
