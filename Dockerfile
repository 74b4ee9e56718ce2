FROM python:3.13-slim AS builder
WORKDIR /build
RUN python -m venv /venv
COPY requirements/image.txt requirements/build.txt requirements/sbom.txt requirements/
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r requirements/image.txt \
 && python -m venv /tools \
 && /tools/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r requirements/build.txt -r requirements/sbom.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
# The wheel is built with the pinned setuptools and goes into /venv, which needs no pip from then on.
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index dist/*.whl \
 && /venv/bin/pip uninstall --yes --quiet pip \
 && /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-file /venv/sbom.cdx.json /venv

FROM python:3.13-slim
LABEL org.opencontainers.image.title="mipos-pos-sync" \
      org.opencontainers.image.description="The POS side of mipOS inventory synchronisation" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=8080
COPY --from=builder /venv /venv
# `.env` of the working directory is read, so nobody but root may write here.
WORKDIR /
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# No --start-interval: Docker before 25 and buildah refuse the file for it.
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s CMD ["python", "-m", "app.server.healthcheck"]
ENTRYPOINT ["pos-sync"]
CMD ["serve"]
