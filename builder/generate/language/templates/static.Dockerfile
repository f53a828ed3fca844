{{if eq .Generator "hugo"}}FROM {{if .Version}}hugomods/hugo:exts-{{.Version}}{{else}}hugomods/hugo:exts{{end}} AS build
WORKDIR /src
COPY . .
RUN hugo --minify --gc --destination /site

{{else if eq .Generator "mkdocs"}}FROM python:{{.Version}}-slim-bookworm AS build
WORKDIR /src
{{range .Manifests}}COPY {{.}} ./requirements.txt
{{end}}RUN --mount=type=cache,target=/root/.cache/pip \
    pip install {{if .Manifests}}-r requirements.txt{{else}}mkdocs mkdocs-material{{end}}
COPY . .
RUN mkdocs build --site-dir /site

{{else if eq .Generator "jekyll"}}FROM ruby:{{.Version}}-bookworm AS build
WORKDIR /src
{{if .Manifests}}COPY {{range .Manifests}}{{.}} {{end}}./
RUN bundle install
{{else}}RUN gem install jekyll --no-document
{{end}}COPY . .
RUN {{if .Manifests}}bundle exec {{end}}jekyll build --destination /site

{{end}}# nginx as an ordinary user, on port 8080.
FROM nginxinc/nginx-unprivileged:stable-alpine
COPY {{if .Generator}}--from=build /site{{else}}{{.Source}}{{end}} /usr/share/nginx/html
EXPOSE 8080
{{template "health" .}}
