{{template "assets" .}}
{{if .Composer}}FROM composer:2 AS vendor
WORKDIR /app
# The packages are installed again only if these files change.
COPY {{range .Manifests}}{{.}} {{end}}./
RUN --mount=type=cache,target=/tmp/cache \
    {{.Install}}
{{template "sources" .}}
RUN composer dump-autoload --no-dev --optimize --no-scripts --ignore-platform-reqs

{{end}}FROM php:{{.Version}}-apache-bookworm
{{if .Packages}}RUN apt-get update \
 && apt-get install -y --no-install-recommends{{range .Packages}} {{.}}{{end}} \
 && rm -rf /var/lib/apt/lists/*
{{end}}{{if .Extensions}}RUN docker-php-ext-install -j"$(nproc)"{{range .Extensions}} {{.}}{{end}}
{{end}}{{if .PECL}}RUN pecl install{{range .PECL}} {{.}}{{end}} && docker-php-ext-enable{{range .PECL}} {{.}}{{end}}
{{end}}# Apache as an ordinary user, on a port that it may listen on.
RUN sed -i 's/^Listen 80$/Listen {{.Port}}/' /etc/apache2/ports.conf \
 && sed -i -e 's/:80>/:{{.Port}}>/'{{if .Root}} -e 's,/var/www/html$,/var/www/html/{{.Root}},'{{end}} /etc/apache2/sites-available/000-default.conf \
 && a2enmod rewrite \
 && cp "$PHP_INI_DIR/php.ini-production" "$PHP_INI_DIR/php.ini"
WORKDIR /var/www/html
{{if .Composer}}COPY --from=vendor /app ./{{else}}{{template "sources" .}}{{end}}
{{if .Symfony}}ENV APP_ENV=prod
{{end}}{{if .Writable}}RUN mkdir -p{{range .Writable}} {{.}}{{end}}{{if .Laravel}} storage/framework/cache storage/framework/sessions storage/framework/views storage/logs{{end}} \
 && chown -R www-data:www-data{{range .Writable}} {{.}}{{end}}
{{end}}USER www-data
EXPOSE {{.Port}}
{{template "health" .}}
{{if .Laravel}}# The configuration is cached at the start, when the environment is known.
CMD ["sh", "-c", "php artisan config:cache && php artisan route:cache && php artisan view:cache && exec apache2-foreground"]
{{else}}CMD ["apache2-foreground"]
{{end}}
