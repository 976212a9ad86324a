FROM debian:13
# The fix of a hole that the base does not have yet.
RUN apt-get update && apt-get upgrade -y openssl && rm -rf /var/lib/apt/lists/*
