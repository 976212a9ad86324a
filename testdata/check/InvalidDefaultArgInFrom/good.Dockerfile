ARG TAG=12
FROM debian:${TAG}
