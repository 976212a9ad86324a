FROM debian:12
WORKDIR /srv
RUN ./configure
