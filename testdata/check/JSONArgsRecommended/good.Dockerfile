FROM alpine:3.22
SHELL ["/bin/bash", "-c"]
CMD my-server
