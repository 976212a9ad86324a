FROM debian:12
RUN echo one && \
    echo two && \
    # a comment
    echo three
COPY <<A <<B \
  /x/

one
A

two
B
