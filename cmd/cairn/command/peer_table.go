package command

import "slices"

// treatment is how cairn build treats a flag of another builder.
type treatment string

const (
	asOwn   treatment = "same"    // a flag of cairn build with this meaning
	mapped  treatment = "mapped"  // to another flag or option
	quiet   treatment = "quiet"   // accepted: it changes nothing here
	notice  treatment = "notice"  // accepted with a warning
	refused treatment = "refused" // an error with the reason
)

// peerFlag is a flag of docker build, podman build or buildah build.
type peerFlag struct {
	name, short string
	kind        string // of its value; "" for a switch
	of          string // builders that have it
	does        treatment
	text        string   // equivalent, reason or difference
	help        string   // description in the help of cairn build; "": the flag is hidden there
	harmless    []string // values that are accepted quietly in spite of the treatment
	set         func(b *buildCommand, value string) error
}

// Groups of builders in the table.
const (
	inAll    = "docker podman buildah"
	inDocker = "docker"
	inPodman = "podman buildah"
)

// peerFlags returns the flags of other builders in alphabetical order.
func peerFlags() []peerFlag {
	return slices.Concat(dockerOnly(), podmanImage(), podmanRegistry(), podmanSteps(), podmanRest(), shared())
}

// shared returns the flags that cairn build has under the same name.
func shared() (all []peerFlag) {
	add := func(of string, names ...string) {
		for _, name := range names {
			all = append(all, peerFlag{name: name, of: of, does: asOwn})
		}
	}
	add(inAll, "add-host", "annotation", "build-arg", "build-context", "cache-from", "cache-to", "cgroup-parent", "cpu-period", "cpu-quota",
		"cpu-shares", "iidfile", "label", "memory", "memory-swap", "metadata-file", "no-cache", "output", "platform", "quiet",
		"secret", "shm-size", "ssh", "tag", "target", "ulimit")
	add(inDocker, "allow", "call", "check", "load", "no-cache-filter", "progress", "push")
	add(inPodman, "authfile", "jobs")
	return append(all,
		peerFlag{name: "file", short: "f", of: inAll, does: asOwn, text: "one only: docker takes the last of several, podman joins them"},
		peerFlag{name: "pull", of: inAll, does: asOwn, text: "`always` and `true` take images from the registry, `newer` too, but those of the store if that fails; `missing` and `false` take images that the store lacks, `never` none"},
		peerFlag{name: "network", of: inAll, does: asOwn, text: "`private`, `bridge`, `slirp4netns` and `pasta` are the machine's network, with a warning"},
		peerFlag{name: "isolation", of: inAll, does: asOwn, text: "`default` and `oci` are `auto`"},
		peerFlag{name: "help", of: inAll, does: asOwn},
	)
}

const cpusetReason = "steps use the CPUs and memory nodes of cairn itself: start cairn with taskset or numactl"

func dockerOnly() []peerFlag {
	const noAttestations = "attestations are not supported yet"
	return []peerFlag{
		{name: "attest", kind: "ATTESTATION", of: inDocker, does: refused, text: noAttestations},
		{name: "provenance", of: inDocker, does: refused, text: noAttestations, harmless: falseWords()},
		{name: "sbom", of: inAll, does: refused, text: noAttestations, harmless: falseWords()},
		{name: "builder", kind: "NAME", of: inDocker, does: refused, text: "cairn builds by itself and has no builder instances"},
		{name: "device", kind: "DEVICE", of: inAll, does: refused, text: "CDI devices are not supported"},
		{name: "cpuset-cpus", kind: "CPUS", of: inAll, does: refused, text: cpusetReason},
		{name: "cpuset-mems", kind: "NODES", of: inAll, does: refused, text: cpusetReason},
		{name: "policy", kind: "POLICY", of: inDocker, does: refused, text: "cairn does not evaluate policies: verify sources with ADD --checksum and digests in FROM", harmless: []string{"disabled=true"}},
		{name: "debug", short: "D", of: inDocker, does: mapped, text: "`--progress=plain`", set: setDebug},
		{name: "print", kind: "METHOD", of: inDocker, does: mapped, text: "`--call`", set: setPrint},
		{name: "resource", kind: "NAME=VALUE[,...]", of: inDocker, does: mapped, text: "the flag `NAME`: `memory`, `memory-swap`, `cpu-shares`, `cpu-period` or `cpu-quota`", set: setResource},
		{name: "compress", of: inAll, does: quiet, text: "the context is not sent to a daemon"},
		{name: "rm", of: inAll, does: quiet, text: "there are no intermediate containers"},
		{name: "force-rm", of: inAll, does: quiet, text: "there are no intermediate containers"},
		{name: "disable-content-trust", of: inAll, does: refused, text: "cairn can't verify the signatures of Docker Content Trust: name base images by digest", harmless: trueWords()},
		{name: "security-opt", kind: "OPTION", of: inAll, does: refused, text: "steps always run with the seccomp filter and without AppArmor or SELinux labels: use --allow security.insecure with RUN --security=insecure to lift restrictions", harmless: []string{"label=*", "label:*", "apparmor=unconfined", "apparmor:unconfined", "no-new-privileges=false", "no-new-privileges:false"}},
		{name: "squash", of: inAll, does: mapped, text: "merges the layers that the build adds; they stay in the cache", help: "Squash newly built layers into a single new layer",
			set: setBool(func(b *buildCommand) *bool { return &b.options.Squash })},
	}
}

func podmanImage() []peerFlag {
	const inherited = "as in BuildKit, labels of the base image are inherited and its annotations are not"
	return []peerFlag{
		{name: "arch", kind: "ARCH", of: inPodman, does: mapped, text: "`--platform`", set: setPlatformPart(func(p *peerOptions) *string { return &p.arch })},
		{name: "os", kind: "OS", of: inPodman, does: mapped, text: "`--platform`", set: setPlatformPart(func(p *peerOptions) *string { return &p.os })},
		{name: "variant", kind: "VARIANT", of: inPodman, does: mapped, text: "`--platform`", set: setPlatformPart(func(p *peerOptions) *string { return &p.variant })},
		{name: "os-version", kind: "VERSION", of: inPodman, does: refused, text: "use --platform 'OS(VERSION)/ARCH'"},
		{name: "os-feature", kind: "FEATURE", of: inPodman, does: refused, text: "use --platform 'OS(VERSION+FEATURE)/ARCH'"},
		{name: "all-platforms", of: inPodman, does: refused, text: "name the platforms with --platform", harmless: falseWords()},
		{name: "format", kind: "oci|docker", of: inPodman, does: mapped, text: "media types of all outputs, as `-o type=...,oci-mediatypes=true|false`", set: setFormat},
		{name: "compression-format", kind: "gzip|zstd", of: inPodman, does: mapped, text: "`-o type=image,compression=...`", set: setCompressionFormat},
		{name: "compression-level", kind: "N", of: inPodman, does: mapped, text: "`-o type=image,compression-level=...`", set: setCompressionLevel},
		{name: "force-compression", of: inPodman, does: mapped, text: "`-o type=image,force-compression=true`", set: setForceCompression},
		{name: "disable-compression", of: inPodman, does: quiet, text: "layers in the store are compressed as they are pushed"},
		{name: "timestamp", kind: "SECONDS", of: inPodman, does: mapped, text: "`SOURCE_DATE_EPOCH`; later times become this one, earlier ones stay", set: setTimestamp},
		{name: "source-date-epoch", kind: "SECONDS", of: inPodman, does: mapped, text: "`SOURCE_DATE_EPOCH`", set: setTimestamp},
		{name: "rewrite-timestamp", of: inPodman, does: quiet, text: "`SOURCE_DATE_EPOCH` limits the times in layers too"},
		{name: "created-annotation", of: inPodman, does: refused, text: "cairn adds no such annotation: use --annotation org.opencontainers.image.created=TIME", harmless: falseWords()},
		{name: "identity-label", of: inPodman, does: quiet, text: "cairn adds no label of its own"},
		{name: "layer-label", kind: "LABEL", of: inPodman, does: quiet, text: "there are no images of intermediate layers"},
		{name: "stage-labels", of: inPodman, does: refused, text: "stages are not kept as images: build one with --target and --label", harmless: falseWords()},
		{name: "save-stages", of: inPodman, does: refused, text: "stages are not kept as images: build one with --target", harmless: falseWords()},
		{name: "inherit-annotations", of: inPodman, does: refused, text: inherited, harmless: falseWords()},
		{name: "unsetannotation", kind: "NAME", of: inPodman, does: quiet, text: inherited},
		{name: "inherit-labels", of: inPodman, does: refused, text: inherited + ": remove one with --unsetlabel", harmless: trueWords()},
		{name: "unsetlabel", kind: "NAME", of: inPodman, does: mapped, text: "the label is not taken over from base images", set: func(b *buildCommand, s string) error {
			b.options.UnsetLabels = append(b.options.UnsetLabels, s)
			return nil
		}},
		{name: "env", kind: "NAME[=VALUE]", of: inPodman, does: mapped, text: "`ENV` at the start of each stage", set: addEnv},
		{name: "unsetenv", kind: "NAME", of: inPodman, does: mapped, text: "the image does not have the variable; its steps do", set: func(b *buildCommand, s string) error { b.options.UnsetEnv = append(b.options.UnsetEnv, s); return nil }},
		{name: "omit-history", of: inPodman, does: mapped, text: "the config has no history, that of the base image neither", set: setBool(func(b *buildCommand) *bool { return &b.options.OmitHistory })},
		{name: "squash-all", of: "podman", does: mapped, text: "merges all layers, those of the base image too", set: setBool(func(b *buildCommand) *bool { return &b.options.SquashAll })},
		{name: "layers", of: inPodman, does: notice, text: "each instruction makes a layer, and steps are cached: use --squash for one layer, --no-cache to run all steps", harmless: trueWords()},
		{name: "manifest", kind: "NAME", of: inPodman, does: mapped, text: "`cairn manifest create --amend NAME IMAGE` after the build", set: func(b *buildCommand, s string) error { return setReference(&b.peer.manifest, s) }},
		{name: "iidfile-raw", kind: "FILE", of: inPodman, does: mapped, text: "`--iidfile`, without `sha256:`", set: setText(func(p *peerOptions) *string { return &p.rawIDFile })},
		{name: "cw", kind: "OPTIONS", of: inPodman, does: refused, text: "confidential workloads are not supported"},
		{name: "from", kind: "IMAGE", of: inPodman, does: mapped, text: "the image of the first `FROM`", set: func(b *buildCommand, s string) error { return setReference(&b.options.From, s) }},
	}
}

func podmanRegistry() []peerFlag {
	const signatures = "cairn does not verify or make signatures of images"
	const retries = "requests to registries are always repeated with growing pauses"
	return []peerFlag{
		{name: "creds", kind: "USER[:PASSWORD]", of: inPodman, does: mapped, text: "`cairn login` for this build, to the registry of the names on the command line", set: setCredentials},
		{name: "tls-verify", of: inPodman, does: mapped, text: "`false` is `--insecure-registry` for the registries of the names on the command line", set: setTLSVerify},
		{name: "cert-dir", kind: "DIR", of: inPodman, does: mapped, text: "`--registry-certificate` and `--registry-client-cert` for the registries of the names on the command line", set: setText(func(p *peerOptions) *string { return &p.certDir })},
		{name: "retry", kind: "N", of: inPodman, does: quiet, text: retries},
		{name: "retry-delay", kind: "DURATION", of: inPodman, does: quiet, text: retries},
		{name: "pull-always", of: inPodman, does: mapped, text: "`--pull=always`", set: setPullWord("always")},
		{name: "pull-never", of: inPodman, does: mapped, text: "`--pull=never`", set: setPullWord("never")},
		{name: "decryption-key", kind: "KEY", of: inPodman, does: refused, text: "encrypted images are not supported"},
		{name: "sign-by", kind: "FINGERPRINT", of: inPodman, does: refused, text: signatures + ": sign after the push"},
		{name: "signature-policy", kind: "FILE", of: inPodman, does: refused, text: signatures},
		{name: "source-policy-file", kind: "FILE", of: inPodman, does: refused, text: "cairn does not evaluate source policies"},
	}
}

func podmanSteps() []peerFlag {
	const private = "namespaces of a step are its own"
	const users = "steps run in the user namespace of cairn itself: see --isolation"
	own := []string{"", "private", "container"}
	return []peerFlag{
		{name: "cap-add", kind: "CAPABILITY", of: inPodman, does: mapped, text: "the capability is not dropped by `--cap-drop=ALL`; a step never has more than the default capabilities of docker, unless it is a `RUN --security=insecure` with `--allow security.insecure`", set: addCapabilities},
		{name: "cap-drop", kind: "CAPABILITY", of: inPodman, does: mapped, text: "no `RUN` has the capability, an insecure one neither; `ALL` drops those that no `--cap-add` names", set: dropCapabilities},
		{name: "cdi-config-dir", kind: "DIR", of: "buildah", does: refused, text: "CDI devices are not supported"},
		{name: "cgroupns", kind: "private|host", of: inPodman, does: refused, text: private, harmless: own},
		{name: "ipc", kind: "private|host", of: inPodman, does: refused, text: private, harmless: own},
		{name: "pid", kind: "private|host", of: inPodman, does: refused, text: private, harmless: own},
		{name: "uts", kind: "private|host", of: inPodman, does: refused, text: private, harmless: own},
		{name: "userns", kind: "host|container", of: inPodman, does: refused, text: users, harmless: append(own, "host", "auto")},
		{name: "userns-uid-map", kind: "MAP", of: inPodman, does: refused, text: users},
		{name: "userns-gid-map", kind: "MAP", of: inPodman, does: refused, text: users},
		{name: "userns-uid-map-user", kind: "NAME", of: inPodman, does: refused, text: users},
		{name: "userns-gid-map-group", kind: "NAME", of: inPodman, does: refused, text: users},
		{name: "compat-volumes", of: inPodman, does: notice, text: "changes to the directories of VOLUME are kept, as in BuildKit", harmless: falseWords()},
		{name: "dns", kind: "IP", of: inPodman, does: mapped, text: "`nameserver` in /etc/resolv.conf of each `RUN`; not in the cache key", set: func(b *buildCommand, s string) error { return b.peer.dns.setServer(s) }},
		{name: "dns-option", kind: "OPTION", of: inPodman, does: mapped, text: "`options` in /etc/resolv.conf of each `RUN`", set: func(b *buildCommand, s string) error { return addDNSWord(&b.peer.dns.options, s) }},
		{name: "dns-search", kind: "DOMAIN", of: inPodman, does: mapped, text: "`search` in /etc/resolv.conf of each `RUN`; `.` is none", set: func(b *buildCommand, s string) error { return addDNSWord(&b.peer.dns.search, s) }},
		{name: "group-add", kind: "GROUP", of: inPodman, does: mapped, text: "a further group of the user of each `RUN`: a number, or a name in /etc/group of the image", set: addGroup},
		{name: "hooks-dir", kind: "DIR", of: inPodman, does: refused, text: "there is no OCI runtime that would run hooks"},
		{name: "http-proxy", of: inPodman, does: mapped, text: "`--build-arg` for each of `HTTP_PROXY`, `HTTPS_PROXY`, `FTP_PROXY`, `NO_PROXY` and `ALL_PROXY` in the environment, where podman does this by default", set: setProxies},
		{name: "mount", kind: "MOUNT", of: "buildah", does: refused, text: "use RUN --mount"},
		{name: "no-hostname", of: inPodman, does: quiet, text: "/etc/hostname is the image's"},
		{name: "no-hosts", of: inPodman, does: mapped, text: "/etc/hosts of each `RUN` is the image's", set: setBool(func(b *buildCommand) *bool { return &b.options.NoHosts })},
		{name: "runtime", kind: "PATH", of: "buildah", does: notice, text: "cairn runs steps itself, without an OCI runtime: see --isolation"},
		{name: "runtime-flag", kind: "FLAG", of: inPodman, does: notice, text: "cairn runs steps itself, without an OCI runtime: see --isolation"},
		{name: "stdin", of: inPodman, does: refused, text: "steps have no standard input: use RUN --mount=type=secret or a heredoc", harmless: falseWords()},
		{name: "volume", short: "v", kind: "HOST:PATH[:OPTIONS]", of: inPodman, does: mapped, text: "`RUN --mount=type=bind` in each `RUN`, of a copy of the files, which belong to root; read-only, or with `O` such that writes are discarded; `z` and `Z` change nothing", set: addVolume},
	}
}

func podmanRest() []peerFlag {
	const noSBOM = "attestations are not supported yet"
	return []peerFlag{
		{name: "build-arg-file", kind: "FILE", of: inPodman, does: mapped, text: "`--build-arg` for each line", set: addArgFile},
		{name: "cache-ttl", kind: "DURATION", of: inPodman, does: mapped, text: "`0` is `--no-cache`; results in the cache have no largest age", set: setCacheTTL},
		{name: "cpp-flag", kind: "FLAG", of: inPodman, does: refused, text: "Dockerfiles are not preprocessed: run cpp before cairn"},
		{name: "ignorefile", kind: "FILE", of: inPodman, does: mapped, text: "the ignore file, in place of `.dockerignore`", help: "Ignore file, in place of .dockerignore", set: func(b *buildCommand, s string) error { b.options.IgnoreFile = s; return nil }},
		{name: "logfile", kind: "FILE", of: inPodman, does: mapped, text: "standard error of the build", set: setText(func(p *peerOptions) *string { return &p.logFile })},
		{name: "logsplit", of: inPodman, does: refused, text: "the log of all platforms is one", harmless: falseWords()},
		{name: "loglevel", kind: "N", of: inPodman, does: quiet, text: "see `--progress`"},
		{name: "log-rusage", of: inPodman, does: notice, text: "use --trace FILE for the time of each step", harmless: falseWords()},
		{name: "rusage-logfile", kind: "FILE", of: inPodman, does: refused, text: "use --trace FILE for the time of each step"},
		{name: "skip-unused-stages", of: inPodman, does: notice, text: "only stages that the image needs are built", harmless: trueWords()},
		{name: "sbom-scanner-image", kind: "IMAGE", of: inPodman, does: refused, text: noSBOM},
		{name: "sbom-scanner-command", kind: "COMMAND", of: inPodman, does: refused, text: noSBOM},
		{name: "sbom-merge-strategy", kind: "METHOD", of: inPodman, does: refused, text: noSBOM},
		{name: "sbom-output", kind: "FILE", of: inPodman, does: refused, text: noSBOM},
		{name: "sbom-image-output", kind: "PATH", of: inPodman, does: refused, text: noSBOM},
		{name: "sbom-purl-output", kind: "FILE", of: inPodman, does: refused, text: noSBOM},
		{name: "sbom-image-purl-output", kind: "PATH", of: inPodman, does: refused, text: noSBOM},
	}
}

func trueWords() []string  { return []string{"true", "1", "t", "T", "TRUE", "True"} }
func falseWords() []string { return []string{"false", "0", "f", "F", "FALSE", "False"} }
