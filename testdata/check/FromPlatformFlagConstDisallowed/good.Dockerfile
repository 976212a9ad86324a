FROM --platform=linux/arm64 alpine:3.22 AS linux
