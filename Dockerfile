ARG PYTHON_IMAGE=python:3.13-slim-trixie

# Build stage: the service's locked dependencies, and nothing else, in a virtual environment.
FROM ${PYTHON_IMAGE} AS build
# The extra to install: `traces` is the service and what exports its traces, `bulk` reads in bulk.
ARG EXTRA=service
RUN python3 -m venv /opt/venv
COPY requirements/${EXTRA}.txt /tmp/requirements.txt
RUN /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      --no-compile --require-hashes -r /tmp/requirements.txt \
 && /opt/venv/bin/python -m pip uninstall --yes --quiet pip setuptools \
 && /opt/venv/bin/python -m compileall -q /opt/venv/lib

FROM ${PYTHON_IMAGE}
# git rev-parse HEAD
ARG REVISION=
LABEL org.opencontainers.image.title="captcha-ocr" \
      org.opencontainers.image.description="Reads small pictures with a few characters on them." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OCR_HOST=0.0.0.0
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY service/ service/
COPY models/ models/
RUN python3 -m compileall -q service
# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 \
  CMD ["python3", "-m", "service.server.healthcheck"]
CMD ["python3", "-m", "service"]
