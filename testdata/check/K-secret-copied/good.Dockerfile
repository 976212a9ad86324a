FROM debian:12
COPY id_rsa.pub .env.example /root/
