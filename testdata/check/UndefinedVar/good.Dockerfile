FROM alpine:3.22
ARG version=1
COPY app-$version /app
