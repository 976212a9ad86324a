FROM debian:12
COPY repo.asc /etc/apt/keyrings/
RUN echo "deb [signed-by=/etc/apt/keyrings/repo.asc] https://example.com/apt stable main" > /etc/apt/sources.list.d/repo.list
