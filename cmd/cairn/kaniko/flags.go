package kaniko

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer/compress"
)

// ExecutorFlags returns the flags of the executor.
func ExecutorFlags() []Flag {
	return slices.Concat(inputFlags(), imageFlags(), cacheFlags(), snapshotFlags(), registryFlags(), pushFlags(), logFlags())
}

func inputFlags() []Flag {
	return []Flag{
		{Name: "dockerfile", Short: "f", Kind: "FILE", Default: "Dockerfile", Usage: "Path or URL of the Dockerfile, in the working directory or else in the context",
			Treatment: Done, Cairn: "`-f`; a path is looked up in the working directory, then in the context", Set: text(func(o *Options) *string { return &o.Dockerfile })},
		{Name: "context", Short: "c", Kind: "CONTEXT", Default: "/workspace/", Usage: "Build context: a directory, dir://, tar://FILE, tar://stdin, git://, https://, s3:// or gs://",
			Treatment: Done, Cairn: "the argument of `cairn build`, see [contexts](#contexts)", Set: text(func(o *Options) *string { return &o.Context })},
		{Name: "context-sub-path", Kind: "DIR", Usage: "Directory of the context to build from",
			Treatment: Done, Cairn: "a directory below the context, `URL#REF:DIR` of a git repository", Set: text(func(o *Options) *string { return &o.SubPath })},
		{Name: "bucket", Short: "b", Kind: "BUCKET", Usage: "Bucket of Google Cloud Storage that has the context", Hidden: true,
			Treatment: Mapped, Cairn: "`--context gs://BUCKET`", Set: text(func(o *Options) *string { return &o.Bucket })},
		{Name: "git", Kind: "KEY=VALUE,...", Usage: "Options of a git context: branch=, single-branch=, recurse-submodules=, depth=",
			Treatment: Done, Cairn: "`branch` is `#REF`; the others change nothing: a single commit is fetched, with its submodules. `insecure-skip-tls=true` is refused", Set: setGit},
		{Name: "target", Kind: "STAGE", Usage: "Stage to build", Treatment: Mapped, Cairn: "`--target`; several are refused", Repeated: true, Set: list(func(o *Options) *[]string { return &o.Targets })},
		{Name: "build-arg", Kind: "NAME[=VALUE]", Usage: "Build argument; without a VALUE, from the environment", Treatment: Mapped, Cairn: "`--build-arg`", Repeated: true, Set: setArg},
		{Name: "secret", Kind: "id=ID[,src=FILE|,env=NAME]", Usage: "Secret for RUN --mount=type=secret", Treatment: Mapped, Cairn: "`--secret`", Fork: true, Repeated: true,
			Set: func(o *Options, s string) error {
				parsed, err := option.ParseSecret(s)
				o.Secrets = append(o.Secrets, parsed)
				return err
			}},
		{Name: "custom-platform", Old: "customPlatform", Kind: "OS/ARCH[/VARIANT]", Usage: "Platform to build for", Treatment: Mapped, Cairn: "`--platform`", Set: setPlatform},
	}
}

func imageFlags() []Flag {
	return []Flag{
		{Name: "destination", Short: "d", Kind: "NAME[:TAG]", Usage: "Name to push the image to", Treatment: Mapped, Cairn: "`--tag NAME --push`", Repeated: true, Set: func(o *Options, s string) error {
			o.Destinations = append(o.Destinations, s)
			return option.CheckReference(s)
		}},
		{Name: "no-push", Usage: "Build only; the same as $KANIKO_NO_PUSH", Treatment: Mapped, Cairn: "leave out `--push`; without it a `--destination` is required, with `--tar-path` too", Set: boolean(func(o *Options) *bool { return &o.NoPush })},
		{Name: "tar-path", Old: "tarPath", Kind: "FILE", Usage: "Write the image to a docker archive too", Treatment: Mapped, Cairn: "`-o type=docker,dest=FILE`", Set: text(func(o *Options) *string { return &o.TarPath })},
		{Name: "oci-layout-path", Kind: "DIR", Usage: "Write the image to an OCI layout too", Treatment: Mapped, Cairn: "`-o type=oci,tar=false,dest=DIR`", Set: text(func(o *Options) *string { return &o.Layout })},
		{Name: "digest-file", Kind: "FILE", Usage: "Write the digest of the image to a file, or PUT it to a URL", Treatment: Done,
			Cairn: "`--metadata-file`, key `containerimage.digest`; written after the push", Set: text(func(o *Options) *string { return &o.DigestFile })},
		{Name: "image-name-with-digest-file", Kind: "FILE", Usage: "Write a line NAME@DIGEST for each destination", Treatment: Done, Cairn: "written after the push", Set: text(func(o *Options) *string { return &o.NameDigest })},
		{Name: "image-name-tag-with-digest-file", Kind: "FILE", Usage: "Write a line NAME:TAG@DIGEST for each destination", Treatment: Done, Cairn: "written after the push", Set: text(func(o *Options) *string { return &o.NameTagDigest })},
		{Name: "label", Kind: "NAME=VALUE", Usage: "Label of the image", Treatment: Mapped, Cairn: "`--label`", Repeated: true, Set: pair(func(o *Options) map[string]string { return o.Labels })},
		{Name: "annotation", Kind: "NAME=VALUE", Usage: "Annotation of the manifest", Treatment: Mapped, Cairn: "`--annotation`", Repeated: true, Set: pair(func(o *Options) map[string]string { return o.Annotations })},
		{Name: "compression", Kind: "gzip|zstd", Usage: "Compression of new layers", Treatment: Mapped, Cairn: "`-o type=registry,compression=`", Set: func(o *Options, s string) error {
			o.Compression.Format = map[string]compress.Format{"gzip": compress.Gzip, "zstd": compress.Zstd}[s]
			return oneOf(s, "gzip", "zstd")
		}},
		{Name: "compression-level", Kind: "N", Default: "-1", Usage: "Level of the compression; -1 is the default", Treatment: Mapped, Cairn: "`-o type=registry,compression-level=`", Set: func(o *Options, s string) error {
			n, err := number(s)
			o.Compression.Level = max(n, 0)
			return err
		}},
		{Name: "image-format", Kind: "docker|oci", Usage: "Media types of the image", Treatment: Mapped, Cairn: "`-o type=registry,oci-mediatypes=`; without the flag they are OCI's", Fork: true, Set: func(o *Options, s string) error {
			o.DockerTypes = s == "docker"
			return oneOf(s, "docker", "oci")
		}},
		{Name: "reproducible", Usage: "Strip times from the image", Treatment: Mapped, Cairn: "`SOURCE_DATE_EPOCH=0`", Set: boolean(func(o *Options) *bool { return &o.Reproducible })},
		{Name: "dryrun", Usage: "Check the Dockerfile, and build nothing", Treatment: Notice, Cairn: "`--check`", Fork: true, Set: boolean(func(o *Options) *bool { return &o.DryRun })},
	}
}

func cacheFlags() []Flag {
	return []Flag{
		{Name: "cache", Usage: "Use and fill a cache", Treatment: Mapped, Cairn: "`--cache-repo`; `=false` is `--no-cache`; without the flag only the store is used", Set: func(o *Options, s string) (err error) {
			o.Cache, err = strconv.ParseBool(s)
			o.CacheSet = true
			return err
		}},
		{Name: "cache-repo", Kind: "NAME", Usage: "Repository of the cache, or oci:DIR; by default the one of the first destination with /cache added", Treatment: Mapped,
			Cairn: "`--cache-repo`; `oci:DIR` is `type=local`", Set: text(func(o *Options) *string { return &o.CacheRepo })},
		{Name: "no-push-cache", Usage: "Only read the cache", Treatment: Mapped, Cairn: "`--cache-from` alone", Set: boolean(func(o *Options) *bool { return &o.NoPushCache })},
		{Name: "cache-ttl", Kind: "DURATION", Default: "336h", Usage: "Age from which results in the cache are not used", Treatment: Done, Cairn: "the same, for `--cache-repo` and the directory of the warmer; not for the store", Set: setTTL},
		{Name: "cache-dir", Kind: "DIR", Default: "/cache", Usage: "Directory with base images of the warmer", Treatment: Done, Cairn: "base images are read from there if the registry has no newer ones", Set: text(func(o *Options) *string { return &o.CacheDir })},
		{Name: "cache-copy-layers", Usage: "Cache the results of COPY", Treatment: Quiet, Cairn: "the results of all steps are cached", Set: boolean(nil)},
		{Name: "cache-run-layers", Default: "true", Usage: "Cache the results of RUN", Treatment: Quiet, Cairn: "the results of all steps are cached", Set: boolean(nil)},
		{Name: "compressed-caching", Default: "true", Usage: "Compress cached layers", Treatment: Quiet, Cairn: "layers are streams and need no memory", Set: boolean(nil)},
	}
}

func snapshotFlags() []Flag {
	return []Flag{
		{Name: "single-snapshot", Usage: "Make one layer of all changes", Treatment: Mapped, Cairn: "`--squash`: a file that a later step removes is nowhere in the image", Set: boolean(func(o *Options) *bool { return &o.SingleSnapshot })},
		{Name: "snapshot-mode", Old: "snapshotMode", Kind: "full|redo|time", Default: "full", Usage: "Way to find the changes of a step", Treatment: Quiet, Cairn: "changes are known exactly", Set: func(_ *Options, s string) error { return oneOf(s, "full", "redo", "time") }},
		{Name: "use-new-run", Usage: "Another way to find the changes of a step", Treatment: Quiet, Cairn: "changes are known exactly", Set: boolean(nil)},
		{Name: "ignore-path", Kind: "PATH", Usage: "Path to warn of if a layer has files there", Treatment: Notice, Repeated: true,
			Cairn: "files of the pod are never in the image; a warning names the path if a step writes there, since its files are kept", Set: list(func(o *Options) *[]string { return &o.IgnorePaths })},
		{Name: "ignore-var-run", Old: "whitelist-var-run", Default: "true", Usage: "Warn if a layer has files in /var/run", Treatment: Notice,
			Cairn: "files that a step writes to `/var/run` are in the image; with an explicit `=true` a warning names one", Set: func(o *Options, s string) error {
				on, err := strconv.ParseBool(s)
				if on {
					o.IgnorePaths = append(o.IgnorePaths, "/var/run")
				}
				return err
			}},
		{Name: "skip-unused-stages", Usage: "Build only the stages that the target needs", Treatment: Quiet, Cairn: "always so", Set: boolean(nil)},
		{Name: "force-build-metadata", Usage: "Make empty layers of steps without files", Treatment: Quiet, Cairn: "they are in the history", Set: boolean(nil)},
		{Name: "cleanup", Usage: "Clean the file system after the build", Treatment: Quiet, Cairn: "the container's files do not change", Set: boolean(nil)},
		{Name: "pre-cleanup", Usage: "Clean the file system before the build", Treatment: Quiet, Cairn: "the container's files do not change", Fork: true, Set: boolean(nil)},
		{Name: "preserve-context", Usage: "Restore the context after the build", Treatment: Quiet, Cairn: "the container's files do not change", Fork: true, Set: boolean(nil)},
		{Name: "materialize", Usage: "Leave the files of the image in the container", Treatment: Refused, Cairn: "`cairn build -o DIR` writes the files of an image", Fork: true, Set: refuse("the container's files do not change: cairn build -o DIR writes the files of an image")},
		{Name: "force", Usage: "Build outside of a container", Treatment: Quiet, Cairn: "nothing depends on it", Set: boolean(nil)},
		{Name: "kaniko-dir", Kind: "DIR", Default: Dir, Usage: "Directory of credentials, and of the store; the same as $KANIKO_DIR", Treatment: Mapped, Cairn: "`DOCKER_CONFIG=DIR/.docker` and `--root DIR/cairn`", Set: text(func(o *Options) *string { return &o.KanikoDir })},
		{Name: "image-fs-extract-retry", Kind: "N", Default: "0", Usage: "Retries of unpacking a base image", Treatment: Quiet, Cairn: "unpacking needs no retry", Set: func(_ *Options, s string) error {
			_, err := number(s)
			return err
		}},
	}
}

func logFlags() []Flag {
	return []Flag{
		{Name: "verbosity", Short: "v", Kind: "LEVEL", Default: "info", Usage: "Level of the log: trace, debug, info, warn, error, fatal or panic", Treatment: Mapped, Cairn: "`--progress plain`; from `error` on `quiet`", Set: func(o *Options, s string) error {
			o.Verbosity = s
			return oneOf(s, "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
		}},
		{Name: "log-format", Kind: "text|color|json", Default: "color", Usage: "Format of the log", Treatment: Mapped, Cairn: "`--progress plain` or `auto`; with `json`, each line of `plain` is an object with `level`, `msg` and `time`", Set: func(o *Options, s string) error {
			o.LogFormat = s
			return oneOf(s, "text", "color", "json")
		}},
		{Name: "log-timestamp", Usage: "Begin each line of the log with the time", Treatment: Done, Cairn: "the same, in plain logs; lines in JSON have the time always", Set: boolean(func(o *Options) *bool { return &o.LogTimestamp })},
		{Name: "azure-container-registry-config", Kind: "FILE", Usage: "Configuration of Azure's credentials", Hidden: true, Treatment: Notice, Cairn: "not read: the built-in helper takes Azure's variables and the identity of the pod",
			Set: func(o *Options, _ string) error {
				o.notice("--azure-container-registry-config is not read: credentials come from AZURE_* variables or the identity of the pod")
				return nil
			}},
	}
}

func text(field func(*Options) *string) func(*Options, string) error {
	return func(o *Options, s string) error {
		*field(o) = s
		return nil
	}
}

func list(field func(*Options) *[]string) func(*Options, string) error {
	return func(o *Options, s string) error {
		if s == "" {
			return errors.New("the value is empty")
		}
		*field(o) = append(*field(o), s)
		return nil
	}
}

// boolean returns a function that sets a field, or only checks the value if field is nil.
func boolean(field func(*Options) *bool) func(*Options, string) error {
	return func(o *Options, s string) error {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		if field != nil {
			*field(o) = on
		}
		return nil
	}
}

func pair(field func(*Options) map[string]string) func(*Options, string) error {
	return func(o *Options, s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return errors.New("want NAME=VALUE")
		}
		field(o)[name] = strings.Trim(value, `"`)
		return nil
	}
}

func refuse(reason string) func(*Options, string) error {
	return func(_ *Options, s string) error {
		if on, err := strconv.ParseBool(s); err == nil && !on {
			return nil
		}
		return errors.New(reason)
	}
}

func oneOf(s string, values ...string) error {
	if !slices.Contains(values, s) {
		return fmt.Errorf("want one of %s", strings.Join(values, ", "))
	}
	return nil
}

func number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("want a number")
	}
	return n, nil
}

func setArg(o *Options, s string) error {
	name, value, ok, err := option.ParseVariable(s, os.LookupEnv)
	if err == nil && ok {
		o.Args[name] = value
	}
	return err
}

func setPlatform(o *Options, s string) (err error) {
	o.Platform, err = option.ParsePlatform(s)
	return err
}

func setTTL(o *Options, s string) (err error) {
	if o.CacheTTL, err = time.ParseDuration(s); err != nil || o.CacheTTL <= 0 {
		return errors.New("want a positive duration with a unit, such as 336h")
	}
	return nil
}

// setGit parses a value of --git.
func setGit(o *Options, s string) error {
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("%q: want KEY=VALUE", part)
		}
		switch key {
		case "branch":
			o.Git.Branch = value
		case "single-branch", "recurse-submodules":
			if _, err := strconv.ParseBool(value); err != nil {
				return fmt.Errorf("%s: want true or false", key)
			}
		case "depth":
			if _, err := number(value); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		case "insecure-skip-tls":
			if on, err := strconv.ParseBool(value); err != nil || on {
				return errors.New("insecure-skip-tls is not supported: name the authority of the server in $SSL_CERT_FILE or in $GIT_SSL_CAINFO")
			}
		default:
			return fmt.Errorf("%q is none of branch, single-branch, recurse-submodules, depth and insecure-skip-tls", key)
		}
	}
	return nil
}
