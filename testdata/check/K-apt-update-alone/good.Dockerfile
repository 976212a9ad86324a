FROM debian:12
RUN apt-get update && ./install.sh
RUN <<E
apt-get update
cat <<X
X
E
