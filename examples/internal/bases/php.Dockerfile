# Debian's Apache and PHP, with the files and programs of Docker's image that the
# Dockerfiles of cairn init use. Its extensions are those of Debian's packages.
FROM debian:bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends apache2 libapache2-mod-php php-cli php-intl curl \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /usr/local/etc/php \
 && cp /usr/lib/php/*/php.ini-production /usr/local/etc/php/php.ini-production \
 && chown -R www-data:www-data /var/log/apache2 /var/run/apache2 /var/lock /var/cache/apache2 \
 && rm /var/www/html/index.html
COPY --chmod=755 <<'SH' /usr/local/bin/docker-php-ext-install
#!/bin/sh
set -e
for name; do
  case $name in -*) ;; opcache) php -m | grep -q OPcache ;; *) php -m | grep -qix "$name" ;; esac
done
SH
COPY --chmod=755 <<'SH' /usr/local/bin/apache2-foreground
#!/bin/sh
. /etc/apache2/envvars
exec apache2 -DFOREGROUND "$@"
SH
RUN sed -i -e 's,^ErrorLog .*,ErrorLog /dev/stderr,' /etc/apache2/apache2.conf \
 && sed -i -e '/ErrorLog/d' -e '/CustomLog/d' /etc/apache2/sites-available/000-default.conf \
 && a2disconf other-vhosts-access-log \
 && echo 'ServerName localhost' >> /etc/apache2/apache2.conf
ENV PHP_INI_DIR=/usr/local/etc/php
STOPSIGNAL SIGWINCH
CMD ["apache2-foreground"]
