FROM debian:12
RUN cd /tmp && make
RUN cd /usr/src && ./configure && make && make install
RUN (cd /opt/a && make) && (cd /opt/b && make)
RUN cd "$HOME" && a && b
RUN cd /opt || true
