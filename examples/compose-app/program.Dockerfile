FROM scratch
ARG PROGRAM
COPY --from=code /out/$PROGRAM /program
USER 65534:65534
ENTRYPOINT ["/program"]
