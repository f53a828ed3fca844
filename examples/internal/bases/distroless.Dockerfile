# In place of Google's distroless images: Debian with their user.
FROM debian:bookworm
RUN useradd --uid 65532 --no-create-home nonroot
USER 65532:65532
