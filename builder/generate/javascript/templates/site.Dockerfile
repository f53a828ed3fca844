FROM {{.Image}} AS build
WORKDIR /app
{{template "install" .}}
{{if not .Early}}{{template "all" .}}{{end}}{{template "build" .}}

# nginx as an ordinary user, on port 8080.
FROM nginxinc/nginx-unprivileged:stable-alpine
{{if .SPA}}# The application has a router: paths without a file are answered with index.html.
COPY <<'CONF' /etc/nginx/conf.d/default.conf
server {
    listen 8080;
    root /usr/share/nginx/html;
    location / {
        try_files $uri $uri/ /index.html;
    }
}
CONF
{{end}}COPY --from=build {{.Site}} /usr/share/nginx/html
EXPOSE 8080
{{template "health" .}}
