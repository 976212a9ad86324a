FROM nginx:1.29 AS a
WORKDIR /srv
FROM a
WORKDIR html
