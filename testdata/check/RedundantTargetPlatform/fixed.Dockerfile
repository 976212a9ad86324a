FROM alpine:3.22
FROM alpine:3.22 AS b
