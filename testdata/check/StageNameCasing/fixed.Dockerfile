FROM debian:12 AS base
FROM debian:12 AS two
COPY --from=Base /a /
