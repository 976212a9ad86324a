FROM composer:2 AS vendor
WORKDIR /app
COPY composer.json composer.lock ./
RUN composer install --no-dev --no-scripts --prefer-dist

FROM php:8.4-fpm-alpine
RUN apk add --no-cache --virtual .build-deps autoconf gcc make icu-dev \
    && docker-php-ext-install intl opcache \
    && apk del .build-deps
WORKDIR /var/www
COPY --from=vendor /app/vendor ./vendor
COPY . .
USER www-data
EXPOSE 9000
CMD ["php-fpm"]
