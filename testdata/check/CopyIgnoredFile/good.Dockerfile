FROM scratch
COPY src /
