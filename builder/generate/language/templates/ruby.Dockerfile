{{template "assets" .}}
FROM ruby:{{.Version}}-slim-bookworm AS base
WORKDIR /app
ENV BUNDLE_WITHOUT=development:test{{if .Locked}} BUNDLE_DEPLOYMENT=1{{end}} BUNDLE_PATH=/usr/local/bundle{{if .Rails}} \
    RAILS_ENV=production RAILS_LOG_TO_STDOUT=1 RAILS_SERVE_STATIC_FILES=1{{else}} \
    RACK_ENV=production APP_ENV=production{{end}}
{{if .Libraries}}RUN apt-get update \
 && apt-get install -y --no-install-recommends{{range .Libraries}} {{.}}{{end}} \
 && rm -rf /var/lib/apt/lists/*
{{end}}
FROM base AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends{{range .Headers}} {{.}}{{end}} \
 && rm -rf /var/lib/apt/lists/*
# The gems are installed again only if these files change.
COPY {{range .Manifests}}{{.}} {{end}}./
RUN --mount=type=cache,target=/root/.bundle/cache \
    BUNDLE_GLOBAL_GEM_CACHE=true bundle install \
 && rm -rf /usr/local/bundle/ruby/*/cache
{{template "sources" .}}
{{if .Bootsnap}}RUN bundle exec bootsnap precompile --gemfile app/ lib/
{{end}}{{if .Compile}}# No secret is needed to compile the assets.
RUN {{.Compile}}
{{end}}
FROM base
RUN useradd --uid 10001 --no-create-home app
COPY --from=build /usr/local/bundle /usr/local/bundle
COPY --from=build /app ./
{{if .Writable}}RUN mkdir -p{{range .Writable}} {{.}}{{end}} && chown -R app:app{{range .Writable}} {{.}}{{end}}
{{end}}USER 10001:10001
{{if .Port}}EXPOSE {{.Port}}
{{end}}{{template "health" .}}
CMD {{.Command}}
