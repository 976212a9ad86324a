FROM debian:12
RUN service mariadb start && mariadb -e "CREATE DATABASE app"
RUN service nginx stop && systemctl enable nginx
RUN npm start
