FROM scratch
COPY src /
COPY . /
