package kaniko

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/registry/auth/native"
)

// registryFlags returns the flags for access to registries.
func registryFlags() []Flag {
	return append([]Flag{
		{Name: "insecure", Usage: "Push by plain HTTP", Treatment: Mapped, Cairn: "`--insecure-registry` with the registries of the destinations and the cache", Set: boolean(func(o *Options) *bool { return &o.Insecure })},
		{Name: "skip-tls-verify", Usage: "Push without verification of certificates", Treatment: Mapped, Cairn: "as `--insecure`", Set: anyTrue(func(o *Options) *bool { return &o.Insecure })},
		{Name: "registry-client-cert", Kind: "HOST=CERT,KEY", Usage: "Client certificate for a registry", Treatment: Mapped, Cairn: "`--registry-client-cert`", Repeated: true, Set: func(o *Options, s string) error {
			host, files, _ := strings.Cut(s, "=")
			if cert, key, _ := strings.Cut(files, ","); host == "" || cert == "" || key == "" {
				return errors.New("want HOST=CERT,KEY")
			}
			o.ClientCerts = append(o.ClientCerts, s)
			return nil
		}},
		{Name: "image-download-retry", Kind: "N", Default: "0", Usage: "Retries of requests to registries", Treatment: Mapped, Cairn: "the larger of N and Cairn's own four", Set: setRetries},
		{Name: "credential-helpers", Kind: "NAME", Usage: "Built-in credential helpers to ask: env, google, ecr, acr or gitlab; all by default, none if empty", Treatment: Done,
			Cairn: "the same, see [credentials](#credentials)", Fork: true, Repeated: true, Set: setHelper},
	}, pullFlags()...)
}

// pullFlags returns the flags for access to registries that the warmer has too.
func pullFlags() []Flag {
	return []Flag{
		{Name: "insecure-pull", Usage: "Pull by plain HTTP", Treatment: Mapped, Cairn: "`--insecure-registry` with each registry of a FROM, for pulls only", Set: boolean(func(o *Options) *bool { return &o.InsecurePull })},
		{Name: "skip-tls-verify-pull", Usage: "Pull without verification of certificates", Treatment: Mapped, Cairn: "as `--insecure-pull`", Set: anyTrue(func(o *Options) *bool { return &o.InsecurePull })},
		{Name: "insecure-registry", Kind: "HOST", Usage: "Registry to reach by plain HTTP", Treatment: Mapped, Cairn: "`--insecure-registry`", Repeated: true, Set: list(func(o *Options) *[]string { return &o.InsecureHosts })},
		{Name: "skip-tls-verify-registry", Kind: "HOST", Usage: "Registry whose certificate is not verified", Treatment: Mapped, Cairn: "`--insecure-registry`", Repeated: true, Set: list(func(o *Options) *[]string { return &o.InsecureHosts })},
		{Name: "registry-certificate", Kind: "HOST=FILE", Usage: "Authority to trust for a registry", Treatment: Mapped, Cairn: "`--registry-certificate`", Repeated: true, Set: func(o *Options, s string) error {
			if host, file, _ := strings.Cut(s, "="); host == "" || file == "" {
				return errors.New("want HOST=FILE")
			}
			o.Certificates = append(o.Certificates, s)
			return nil
		}},
		{Name: "registry-mirror", Kind: "MIRROR", Usage: "Mirror of Docker Hub; the same as $KANIKO_REGISTRY_MIRROR", Treatment: Mapped, Cairn: "`--registry-mirror`", Repeated: true, Set: func(o *Options, s string) error {
			if s == "" {
				return errors.New("the value is empty")
			}
			o.Mirrors = append(o.Mirrors, "docker.io="+s)
			return nil
		}},
		{Name: "registry-map", Kind: "HOST=MIRROR;...", Usage: "Mirrors of registries; the same as $KANIKO_REGISTRY_MAP", Treatment: Mapped, Cairn: "`--registry-mirror HOST=MIRROR`", Repeated: true, Set: setMap},
		{Name: "skip-default-registry-fallback", Usage: "Pull from mirrors only, if a registry has some", Treatment: Done, Cairn: "the registry itself is not asked", Set: boolean(func(o *Options) *bool { return &o.MirrorsOnly })},
	}
}

func pushFlags() []Flag {
	return []Flag{
		{Name: "push-retry", Kind: "N", Default: "0", Usage: "Retries of requests to registries", Treatment: Mapped, Cairn: "the larger of N and Cairn's own four", Set: setRetries},
		{Name: "push-ignore-immutable-tag-errors", Usage: "Succeed if the registry does not let the tag change", Treatment: Done, Cairn: "the push succeeds if the tag is there and the registry says that it is immutable", Set: boolean(func(o *Options) *bool { return &o.IgnoreImmutable })},
		{Name: "skip-push-permission-check", Usage: "Do not check before the build whether the push is allowed", Treatment: Done, Cairn: "the check starts an upload and cancels it; only a refusal is an error", Set: boolean(func(o *Options) *bool { return &o.SkipPushCheck })},
	}
}

// anyTrue returns a function for one of several flags that set a field.
func anyTrue(field func(*Options) *bool) func(*Options, string) error {
	return func(o *Options, s string) error {
		was := *field(o)
		err := boolean(field)(o, s)
		*field(o) = *field(o) || was
		return err
	}
}

func setRetries(o *Options, s string) error {
	n, err := number(s)
	o.Retries = max(o.Retries, n)
	return err
}

func setMap(o *Options, s string) error {
	for part := range strings.SplitSeq(s, ";") {
		host, mirror, _ := strings.Cut(part, "=")
		if host == "" || mirror == "" {
			return fmt.Errorf("%q: want HOST=MIRROR", part)
		}
		if host == "index.docker.io" {
			host = "docker.io"
		}
		o.Mirrors = append(o.Mirrors, host+"="+mirror)
	}
	return nil
}

func setHelper(o *Options, s string) error {
	o.helpersWereGiven = true
	for name := range strings.SplitSeq(s, ",") {
		if name == "" {
			continue
		}
		if _, err := native.New([]string{name}, nil); err != nil {
			return err
		}
		o.Helpers = append(o.Helpers, name)
	}
	return nil
}

// WarmerFlags returns the flags of the warmer.
func WarmerFlags() []Flag {
	own := []Flag{
		{Name: "image", Short: "i", Kind: "IMAGE", Usage: "Image to fetch", Treatment: Done, Cairn: "`cairn pull`, into the directory", Repeated: true, Set: list(func(o *Options) *[]string { return &o.Images })},
		{Name: "cache-dir", Short: "c", Kind: "DIR", Default: "/cache", Usage: "Directory of the images", Treatment: Done, Cairn: "an OCI layout for each image", Set: text(func(o *Options) *string { return &o.CacheDir })},
		{Name: "force", Short: "f", Usage: "Fetch images that the directory has too", Treatment: Done, Cairn: "the same", Set: boolean(func(o *Options) *bool { return &o.Force })},
		{Name: "cache-ttl", Kind: "DURATION", Default: "336h", Usage: "Age from which an image is fetched again", Treatment: Done, Cairn: "the same", Set: setTTL},
		{Name: "dockerfile", Short: "d", Kind: "FILE", Usage: "Dockerfile whose base images are fetched", Treatment: Done, Cairn: "each FROM", Set: text(func(o *Options) *string { return &o.Dockerfile })},
	}
	names := map[string]bool{"build-arg": true, "custom-platform": true, "registry-client-cert": true, "verbosity": true, "log-format": true, "log-timestamp": true, "azure-container-registry-config": true}
	for _, f := range ExecutorFlags() {
		if names[f.Name] {
			own = append(own, f)
		}
	}
	return append(own, pullFlags()...)
}

// PushFlags returns the flags of executor push.
func PushFlags() []Flag {
	names := map[string]bool{"destination": true, "verbosity": true, "log-format": true, "log-timestamp": true, "digest-file": true, "image-name-with-digest-file": true, "image-name-tag-with-digest-file": true, "kaniko-dir": true}
	var all []Flag
	for _, f := range ExecutorFlags() {
		if names[f.Name] {
			all = append(all, f)
		}
	}
	return slices.Concat(all, registryFlags(), pushFlags())
}
