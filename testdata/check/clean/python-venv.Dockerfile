FROM python:3.13-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential libpq-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH"
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

FROM python:3.13-slim-bookworm
RUN set -eux; \
    apt-get update; \
    apt-get install -y --no-install-recommends \
        libpq5 \
        tini \
    ; \
    rm -rf /var/lib/apt/lists/*; \
    groupadd --system app; \
    useradd --system --gid app app
COPY --from=build /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH"
WORKDIR /srv/app
COPY --chown=app:app src/ ./src/
USER app
EXPOSE 8080
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "src.main"]
