FROM python:3.13-slim AS quiet
ENV PIP_NO_CACHE_DIR=1
FROM quiet
COPY requirements.txt .
RUN pip install -r requirements.txt
RUN --mount=type=cache,target=/home/app/.cache/pip pip install a
RUN pip install --no-cache b && pip install --no-cache-dir c && pip3 install d && pip3 cache purge
RUN apk add --no-network --virtual .rundeps $deps
RUN wget https://example.com/glibc.apk && apk add --allow-untrusted glibc.apk && apk --no-cache add e
RUN dnf -y install f && dnf clean all
