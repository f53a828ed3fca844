# Debian's Maven and JDK, with the plugins of the default life cycle in Debian's repository.
FROM debian:bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven libmaven-compiler-plugin-java libmaven-resources-plugin-java libmaven-jar-plugin-java libsurefire-java libmaven-dependency-plugin-java \
 && rm -rf /var/lib/apt/lists/*
COPY <<'XML' /etc/maven/settings.xml
<settings>
  <localRepository>/usr/share/maven-repo</localRepository>
  <offline>true</offline>
</settings>
XML
CMD ["mvn"]
