# Debian's nginx as an ordinary user, as nginxinc/nginx-unprivileged.
FROM debian:bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends nginx-light wget \
 && rm -rf /var/lib/apt/lists/* /etc/nginx/sites-enabled/* /usr/share/nginx/html/* \
 && useradd --uid 101 --no-create-home nginx \
 && sed -i -e '/^user /d' -e 's,^pid .*,pid /tmp/nginx.pid;,' -e 's,access_log .*,access_log off;,' -e 's,error_log .*,error_log /dev/stderr;,' /etc/nginx/nginx.conf \
 && chown -R nginx /var/lib/nginx /var/log/nginx
ARG PORT=8080
COPY <<CONF /etc/nginx/conf.d/default.conf
server {
    listen ${PORT};
    root /usr/share/nginx/html;
}
CONF
USER 101
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
