# nextword on CPU: two stages, so that the image holds an environment and the models, and nothing that built them.
#   docker build -t nextword . && docker run --rm --read-only -p 127.0.0.1:8000:8000 nextword

FROM python:3.11-slim AS builder

# `strip`, below, and a compiler for the library that models are computed by.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# pip works from outside: the environment never holds it.
RUN python -m venv --without-pip /opt/nextword
COPY requirements.txt /build/
RUN pip --python /opt/nextword/bin/python install --no-cache-dir --no-compile --requirement /build/requirements.txt

# What libraries ship for testing themselves and for building extensions is no use to a server; nor are the symbol
# tables of torch's two large files, which only a debugger reads. torch looks for its torch_shm_manager when imported.
RUN site=/opt/nextword/lib/python3.11/site-packages \
    && find $site/torch/bin -mindepth 1 ! -name torch_shm_manager -delete \
    && rm -rf $site/torch/include $site/torch/share $site/torch/test $site/torch/lib/*.a $site/torch/lib/*_test.so \
    && find $site/numpy $site/sympy $site/networkx -type d -name tests -prune -exec rm -rf {} + \
    && find $site -name '*.pyi' -delete \
    && strip --strip-unneeded $site/torch/lib/libtorch_cpu.so $site/torch/lib/libtorch_python.so \
    && /opt/nextword/bin/python -c 'import torch; print(torch.nn.Linear(2, 2)(torch.ones(2)))'

COPY pyproject.toml setup.py LICENSE README.md /build/
COPY app /build/app
COPY models /build/models
COPY training /build/training
# Compiled here, never checked against the sources' dates: a read-only container can't write bytecode of its own.
# (torch's own test tools, left out, hold syntax of a newer Python.)
RUN pip --python /opt/nextword/bin/python install --no-cache-dir --no-compile --no-deps --no-build-isolation /build \
    && /opt/nextword/bin/python -B -c 'from models import native; print(native.instructions())' \
    && pip --python /opt/nextword/bin/python uninstall --yes setuptools \
    && python -m compileall -q -j 0 -x torch/testing/_internal --invalidation-mode unchecked-hash /opt/nextword/lib

# Readable by any user, whatever the permissions were in the folder that this is built from.
COPY checkpoints /build/checkpoints
RUN chmod -R a+rX /build/checkpoints


FROM python:3.11-slim

# A number that an orchestrator can check to be other than root; no home, no shell.
RUN groupadd --gid 10001 nextword \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nextword

COPY --from=builder /opt/nextword /opt/nextword
COPY --from=builder /build/checkpoints /app/checkpoints

ENV PATH=/opt/nextword/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NEXTWORD_HOST=0.0.0.0 \
    NEXTWORD_PORT=8000 \
    NEXTWORD_MODELS_DIR=/app/checkpoints

WORKDIR /app
USER 10001:10001
EXPOSE 8000

# http.client, not urllib: a proxy from the environment must not be asked for our own address.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['NEXTWORD_PORT']), timeout=4); c.request('GET', '/ready'); sys.exit(c.getresponse().status != 200)"]

CMD ["nextword", "serve"]
