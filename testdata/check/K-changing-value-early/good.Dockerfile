FROM golang:1.25
RUN go install example.com/tool@v1.0.0
ARG GIT_COMMIT
LABEL org.opencontainers.image.revision=$GIT_COMMIT
