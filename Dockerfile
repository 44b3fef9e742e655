# undo-jax on CPUs: docker build -t undo-jax . && docker run -v $PWD/runs:/runs undo-jax undo --config=arithmetic:tiny --workdir=/runs/arithmetic
FROM python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254

WORKDIR /undo_jax
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt '.[run]' \
  && useradd --create-home --uid 1000 runner \
  && install --directory --owner=1000 /runs

USER 1000
WORKDIR /runs
ENTRYPOINT ["undo-jax"]
