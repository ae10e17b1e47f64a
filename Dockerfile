# The app as a small service: non-root, its own health check, screens mounted at /screens.
# PyTorch's CPU build is a tenth of the size of the CUDA one that pip takes on Linux: give the index that serves it as
# --build-arg PIP_EXTRA_INDEX_URL=... All other packages are checked against their hashes.
# The demo writes into /screens as user 10001: a folder mounted there must let that user write, or be given with --user.
# The root file system may be read-only (--read-only --tmpfs /tmp). Besides /screens two things are written: numba's cache,
# which is lost with the container, and the quiz's answers, which lie in the volume /var/lib/cytovae.
FROM python:3.11-slim AS build
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /src
COPY requirements.lock requirements-dev.lock requirements-hashes.lock ./
RUN python3 -m venv /opt/cytovae \
  && /opt/cytovae/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements-hashes.lock \
  && /opt/cytovae/bin/pip install --no-cache-dir $(grep -h '^torch==' requirements.lock; grep -h '^psycopg' requirements-dev.lock)
COPY pyproject.toml README.md LICENSE ./
COPY cytovae cytovae
COPY app app
COPY models models
RUN /opt/cytovae/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 cytovae && mkdir -p /screens /var/lib/cytovae && chown cytovae /screens /var/lib/cytovae
COPY --from=build /opt/cytovae /opt/cytovae
ENV PATH=/opt/cytovae/bin:$PATH NUMBA_CACHE_DIR=/tmp/numba CYTOVAE_QUIZ_DB=sqlite:////var/lib/cytovae/quiz.sqlite PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
VOLUME /var/lib/cytovae
USER cytovae
WORKDIR /screens
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=15s --start-period=300s CMD ["cytovae", "app", "--check", "http://127.0.0.1:8501"]
CMD ["cytovae", "demo", "--dir", "/screens/demo", "--address", "0.0.0.0", "--no-login"]
