FROM alpine:3.22
ENV LANG=C.UTF-8
LABEL title="a longer text"
ENV quoted "x y"
ENV A=1
