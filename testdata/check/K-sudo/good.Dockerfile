FROM debian:12
USER root
RUN mkdir /srv/app
USER 1000
