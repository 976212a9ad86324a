FROM debian:12
RUN apt-get update && apt-get -yqq install a && apt-get -qq install b && apt-get install --assume-yes c
RUN apt-get install -s d && yes | apt-get install e && apt-get install $APT_OPTIONS f
FROM debian:12
RUN echo 'APT::Get::Assume-Yes "true";' > /etc/apt/apt.conf.d/90yes
RUN apt-get install g
FROM fedora:42
RUN dnf -y install gcc && dnf install --assumeyes make
FROM opensuse/leap:15.6
RUN zypper -n install gcc && zypper --non-interactive in make
