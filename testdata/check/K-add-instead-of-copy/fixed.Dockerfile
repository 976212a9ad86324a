FROM debian:12
ADD app.conf /etc/
COPY src/ /src/
