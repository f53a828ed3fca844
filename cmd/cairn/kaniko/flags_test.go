package kaniko

import (
	"flag"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry/auth/native"
)

var update = flag.Bool("update", false, "rewrite the tables of the guide")

// The tables have the flags of both forks and no others. The lists in testdata are from
// their sources.
func TestAllFlags(t *testing.T) {
	t.Parallel()
	for file, flags := range map[string][]Flag{"chainguard": nil, "osscontainertools": ExecutorFlags(), "warmer": WarmerFlags()} {
		text, err := os.ReadFile("testdata/" + file + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if flags == nil {
			flags = slices.DeleteFunc(ExecutorFlags(), func(f Flag) bool { return f.Fork })
		}
		want, got := strings.Fields(string(text)), names(flags)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: flags\n%q, want\n%q", file, got, want)
		}
	}
	for _, f := range ExecutorFlags() {
		switch {
		case f.Set == nil || f.Cairn == "" || f.Usage == "":
			t.Errorf("--%s lacks a function or a text", f.Name)
		case !slices.Contains([]Treatment{Mapped, Done, Quiet, Notice, Refused}, f.Treatment):
			t.Errorf("--%s has the treatment %q", f.Name, f.Treatment)
		}
	}
}

func names(flags []Flag) (all []string) {
	for _, f := range flags {
		all = append(all, f.Name)
		if f.Old != "" {
			all = append(all, f.Old)
		}
	}
	slices.Sort(all)
	return all
}

// The guide has the tables of flags.
func TestGuide(t *testing.T) {
	const guide = "../docs/from-kaniko.md"
	raw, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for name, flags := range map[string][]Flag{"executor": ExecutorFlags(), "warmer": WarmerFlags()} {
		begin, end := "<!-- "+name+" -->\n\n", "\n<!-- /"+name+" -->"
		before, rest, ok := strings.Cut(text, begin)
		old, after, ended := strings.Cut(rest, end)
		if !ok || !ended {
			t.Fatalf("%s has no marks %q and %q", guide, begin, end)
		}
		if table := FlagTable(flags); old != table {
			if !*update {
				t.Errorf("the table of the %s differs from its flags: run go test ./cmd/cairn/kaniko -update", name)
			}
			text = before + begin + table + end + after
		}
	}
	if *update {
		if err := os.WriteFile(guide, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// planOf returns the plan of flags and variables, NAME=VALUE.
func planOf(t *testing.T, line string, variables ...string) (*Plan, error) {
	t.Helper()
	o := NewOptions()
	if err := parse(t, o, ExecutorFlags(), line); err != nil {
		return nil, err
	}
	return o.Plan(func(name string) (string, bool) {
		for _, v := range variables {
			if key, value, _ := strings.Cut(v, "="); key == name {
				return value, true
			}
		}
		return "", false
	})
}

// parse sets the options of a command line of --NAME=VALUE and --NAME.
func parse(t *testing.T, o *Options, flags []Flag, line string) error {
	t.Helper()
	for word := range strings.FieldsSeq(line) {
		name, value, given := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		i := slices.IndexFunc(flags, func(f Flag) bool { return f.Name == name || f.Old == name })
		if i < 0 {
			t.Fatalf("there is no flag --%s", name)
		}
		if flags[i].Kind == "" && !given {
			value = "true"
		}
		if err := flags[i].Set(o, value); err != nil {
			return err
		}
	}
	return nil
}

var (
	epochZero = int64(0)
	appCache  = remote.Location{Ref: "docker.io/me/app/cache:latest"}
)

// aged returns a cache that is read, with the age of results.
func aged(l remote.Location, age time.Duration) []remote.Location {
	l.MaxAge = age
	return []remote.Location{l}
}

const twoWeeks = 336 * time.Hour

// flagEffects has the change of a plan by flags.
var flagEffects = map[string]func(*Plan){
	"--dockerfile=x/File":    func(p *Plan) { p.Target.Dockerfile = "x/File" },
	"--context=dir:///src":   func(p *Plan) { p.Context.At = "/src" },
	"--context-sub-path=app": func(p *Plan) { p.Context.Sub = "app" },
	"--bucket=b/c.tar.gz":    func(p *Plan) { p.Context = Context{Kind: GCS, Bucket: "b", Key: "c.tar.gz"} },
	"--context=git://h/p --git=branch=main,single-branch=true,depth=1,recurse-submodules=true": func(p *Plan) {
		p.Context = Context{Kind: Repository, At: "https://h/p", Ref: "main"}
	},
	"--target=build": func(p *Plan) { p.Target.Stage = "build" },
	"--build-arg=A=1 --build-arg=KANIKO_TEST": func(p *Plan) { p.Target.Args = map[string]string{"A": "1", "KANIKO_TEST": "env"} },
	"--secret=id=a,src=flags_test.go":         func(p *Plan) { p.Session.Secrets = []secret.Source{{ID: "a", File: "flags_test.go"}} },
	"--custom-platform=linux/arm64":           func(p *Plan) { p.Target.Platforms = []layer.Platform{{OS: "linux", Architecture: "arm64"}} },
	"--customPlatform=linux/amd64":            func(p *Plan) { p.Target.Platforms = []layer.Platform{{OS: "linux", Architecture: "amd64"}} },
	"--destination=h.example/b:2": func(p *Plan) {
		p.Target.Tags = append(p.Target.Tags, "h.example/b:2")
		p.Files.Destinations = p.Target.Tags
	},
	"--no-push":                                func(p *Plan) { p.Target.Push = false },
	"--tar-path=a.tar":                         func(p *Plan) { p.Target.Outputs = []builder.Output{{Type: "docker", Dest: "a.tar"}} },
	"--tarPath=a.tar":                          func(p *Plan) { p.Target.Outputs = []builder.Output{{Type: "docker", Dest: "a.tar"}} },
	"--oci-layout-path=l":                      func(p *Plan) { p.Target.Outputs = []builder.Output{{Type: "oci", Dest: "l", Unpacked: true}} },
	"--digest-file=d":                          func(p *Plan) { p.Files.Digest = "d" },
	"--image-name-with-digest-file=d":          func(p *Plan) { p.Files.Name = "d" },
	"--image-name-tag-with-digest-file=d":      func(p *Plan) { p.Files.NameTag = "d" },
	"--label=a=b=c":                            func(p *Plan) { p.Target.Labels = map[string]string{"a": "b=c"} },
	"--annotation=a=b":                         func(p *Plan) { p.Target.Annotations = []builder.Annotation{{Name: "a", Value: "b"}} },
	"--compression=zstd --compression-level=7": func(p *Plan) { p.Target.Compression.Options = compress.Options{Format: compress.Zstd, Level: 7} },
	"--compression-level=-1":                   func(*Plan) {},
	"--image-format=docker":                    func(p *Plan) { p.Target.DockerTypes = true },
	"--reproducible":                           func(p *Plan) { p.Target.Epoch = &epochZero },
	"--dryrun": func(p *Plan) {
		p.DryRun = true
		p.Notices = []string{"--dryrun checks the Dockerfile and builds nothing"}
	},
	"--cache=false": func(p *Plan) { p.Target.NoCache = true },
	"--cache": func(p *Plan) {
		p.Session.CacheFrom, p.Session.CacheTo = aged(appCache, twoWeeks), []builder.CacheTo{{Location: appCache, Max: true}}
	},
	"--cache --cache-repo=h.example/c --cache-ttl=6h": func(p *Plan) {
		c := remote.Location{Ref: "h.example/c:latest"}
		p.Session.CacheFrom, p.Session.CacheTo = aged(c, 6*time.Hour), []builder.CacheTo{{Location: c, Max: true}}
		p.CacheTTL = 6 * time.Hour
	},
	"--cache --cache-repo=oci:/c": func(p *Plan) {
		p.Session.CacheFrom, p.Session.CacheTo = aged(remote.Location{Dir: "/c"}, twoWeeks), []builder.CacheTo{{Location: remote.Location{Dir: "/c"}, Max: true}}
	},
	"--cache --no-push-cache":            func(p *Plan) { p.Session.CacheFrom = aged(appCache, twoWeeks) },
	"--cache-dir=/w":                     func(p *Plan) { p.CacheDir = "/w" },
	"--cache-copy-layers":                func(*Plan) {},
	"--cache-run-layers=false":           func(*Plan) {},
	"--compressed-caching=false":         func(*Plan) {},
	"--single-snapshot":                  func(p *Plan) { p.Target.Squash = true },
	"--snapshot-mode=redo":               func(*Plan) {},
	"--snapshotMode=time":                func(*Plan) {},
	"--use-new-run":                      func(*Plan) {},
	"--ignore-path=/a":                   func(p *Plan) { p.IgnorePaths = []string{"/a"} },
	"--ignore-var-run":                   func(p *Plan) { p.IgnorePaths = []string{"/var/run"} },
	"--whitelist-var-run=false":          func(*Plan) {},
	"--skip-unused-stages":               func(*Plan) {},
	"--force-build-metadata":             func(*Plan) {},
	"--cleanup":                          func(*Plan) {},
	"--pre-cleanup":                      func(*Plan) {},
	"--preserve-context":                 func(*Plan) {},
	"--materialize=false":                func(*Plan) {},
	"--force":                            func(*Plan) {},
	"--kaniko-dir=/k":                    func(p *Plan) { p.Dir = "/k" },
	"--image-fs-extract-retry=3":         func(*Plan) {},
	"--insecure":                         func(p *Plan) { p.Registry.Insecure = true; p.Registry.InsecureHosts = []string{"docker.io"} },
	"--skip-tls-verify --insecure=false": func(p *Plan) {},
	"--insecure --skip-tls-verify=false": func(p *Plan) { p.Registry.Insecure = true; p.Registry.InsecureHosts = []string{"docker.io"} },
	"--insecure-pull":                    func(p *Plan) { p.Registry.InsecurePull = true },
	"--skip-tls-verify-pull":             func(p *Plan) { p.Registry.InsecurePull = true },
	"--insecure-registry=h":              func(p *Plan) { p.Registry.InsecureHosts = []string{"h"} },
	"--skip-tls-verify-registry=h":       func(p *Plan) { p.Registry.InsecureHosts = []string{"h"} },
	"--registry-certificate=h=f":         func(p *Plan) { p.Registry.Certificates = []string{"h=f"} },
	"--registry-client-cert=h=c,k":       func(p *Plan) { p.Registry.ClientCerts = []string{"h=c,k"} },
	"--registry-mirror=m --registry-map=gcr.io=n;index.docker.io=o": func(p *Plan) {
		p.Registry.Mirrors = []string{"docker.io=m", "gcr.io=n", "docker.io=o"}
	},
	"--skip-default-registry-fallback":        func(p *Plan) { p.Registry.MirrorsOnly = true },
	"--image-download-retry=2 --push-retry=9": func(p *Plan) { p.Registry.Retries = 9 },
	"--push-ignore-immutable-tag-errors":      func(p *Plan) { p.IgnoreImmutable = true },
	"--skip-push-permission-check":            func(p *Plan) { p.CheckPush, p.Target.Unchecked = false, true },
	"--credential-helpers=ecr,gitlab":         func(p *Plan) { p.Registry.Helpers, p.Registry.helpersWereGiven = []string{"ecr", "gitlab"}, true },
	"--credential-helpers=":                   func(p *Plan) { p.Registry.Helpers, p.Registry.helpersWereGiven = nil, true },
	"--verbosity=error":                       func(p *Plan) { p.Progress = progress.Quiet },
	"--verbosity=debug":                       func(p *Plan) { p.Progress = progress.Plain },
	"--log-format=text":                       func(p *Plan) { p.Progress = progress.Plain },
	"--log-format=json":                       func(p *Plan) { p.Progress = progress.Plain },
	"--log-timestamp":                         func(p *Plan) { p.Progress, p.Timestamps = progress.Plain, true },
	"--azure-container-registry-config=f": func(p *Plan) {
		p.Notices = []string{"--azure-container-registry-config is not read: credentials come from AZURE_* variables or the identity of the pod"}
	},
}

// TestFlags checks the effect of each flag on the plan, against that of a command line
// without it.
func TestFlags(t *testing.T) {
	t.Setenv("KANIKO_TEST", "env")
	covered := map[string]bool{}
	for line, change := range flagEffects {
		for word := range strings.FieldsSeq(line) {
			name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
			covered[name] = true
		}
		got, err := planOf(t, "--destination=me/app:1 "+line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		want, err := planOf(t, "--destination=me/app:1")
		if err != nil {
			t.Fatal(err)
		}
		change(want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", line, got, want)
		}
	}
	for _, name := range names(ExecutorFlags()) {
		if !covered[name] {
			t.Errorf("--%s has no test", name)
		}
	}
	if t.Failed() {
		t.Log(slices.Sorted(maps.Keys(covered)))
	}
}

// Bad values, and flags that contradict each other, are errors.
func TestFlagErrors(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"": "there is no --destination to push to: add one, or --no-push",
		"--no-push --image-name-with-digest-file=f":             "--image-name-with-digest-file needs a --destination",
		"--no-push --image-name-tag-with-digest-file=f":         "--image-name-tag-with-digest-file needs a --destination",
		"--no-push --target=a --target=b":                       "--target was given 2 times: build each stage by a run of its own",
		"--materialize":                                         "the container's files do not change: cairn build -o DIR writes the files of an image",
		"--snapshot-mode=fast":                                  "want one of full, redo, time",
		"--compression=lz4":                                     "want one of gzip, zstd",
		"--image-format=v1":                                     "want one of docker, oci",
		"--verbosity=loud":                                      "want one of trace,",
		"--cache-ttl=6":                                         "want a positive duration with a unit",
		"--push-retry=x":                                        "want a number",
		"--git=insecure-skip-tls=true":                          "insecure-skip-tls is not supported",
		"--git=brunch=x":                                        `"brunch" is none of branch`,
		"--credential-helpers=osx":                              `there is no credential helper "osx"`,
		"--registry-map=a":                                      `"a": want HOST=MIRROR`,
		"--label=x":                                             "want NAME=VALUE",
		"--no-push --context=ftp://x":                           "--context ftp://x: the scheme is not supported",
		"--no-push --context=":                                  "--context is empty",
		"--no-push --context=s3://bucket":                       "want s3://BUCKET/KEY",
		"--no-push --context=https://a.blob.core.windows.net/c": "want https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB",
	} {
		if _, err := planOf(t, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for variable, check := range map[string]func(*Plan) bool{
		"KANIKO_NO_PUSH=true":            func(p *Plan) bool { return !p.Target.Push },
		"KANIKO_NO_PUSH=0":               func(p *Plan) bool { return p.Target.Push },
		"KANIKO_REGISTRY_MIRROR=a,b":     func(p *Plan) bool { return slices.Equal(p.Registry.Mirrors, []string{"docker.io=a", "docker.io=b"}) },
		"KANIKO_REGISTRY_MAP=q=a;q=b":    func(p *Plan) bool { return slices.Equal(p.Registry.Mirrors, []string{"q=a", "q=b"}) },
		"KANIKO_DIR=/k":                  func(p *Plan) bool { return p.Dir == "/k" },
		"BUILDER_OUTPUT=/out":            func(p *Plan) bool { return p.Files.Output == "/out/images" },
		"BENCHMARK_FILE=/b":              func(p *Plan) bool { return p.Trace == "/b" && len(p.Notices) == 1 },
		"BENCHMARK_FILE=false":           func(p *Plan) bool { return p.Trace == "" },
		"FF_KANIKO_COPY_AS_ROOT=1":       func(p *Plan) bool { return len(p.Notices) == 0 },
		"SNAPSHOT_TIMEOUT_DURATION=1h":   func(p *Plan) bool { return len(p.Notices) == 0 },
		"UPSTREAM_CLIENT_TYPE=UpstreamX": func(p *Plan) bool { return len(p.Notices) == 0 },
		"GIT_TOKEN=t":                    func(p *Plan) bool { return len(p.Session.Secrets) == 0 },
		"CI_REGISTRY=h":                  func(p *Plan) bool { return slices.Equal(p.Registry.Helpers, native.Names()) },
	} {
		p, err := planOf(t, "--destination=me/app", variable)
		if err != nil || !check(p) {
			t.Errorf("%s: %+v, %v", variable, p, err)
		}
	}
	for variable, want := range map[string]string{
		"KANIKO_NO_PUSH=x": "want true or false", "KANIKO_REGISTRY_MAP=x": "want HOST=MIRROR", "GIT_PULL_METHOD=ssh": "want https or http", "BENCHMARK_FILE=gs://b/f": "want a file",
	} {
		if _, err := planOf(t, "--destination=me/app", variable); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", variable, err, want)
		}
	}
	p, err := planOf(t, "--no-push --context=git://git.example/a", "GIT_USERNAME=u", "GIT_PASSWORD=p")
	want := []secret.Source{{ID: "GIT_AUTH_HEADER.git.example", Text: "basic dTpw"}}
	if err != nil || !slices.Equal(p.Session.Secrets, want) {
		t.Errorf("%v, %v, want %v", p.Session.Secrets, err, want)
	}
	if p, err = planOf(t, "--no-push --context=git://git.example/a", "GIT_TOKEN=t", "GIT_PULL_METHOD=http"); err != nil || p.Context.At != "http://git.example/a" || p.Session.Secrets[0].Text != basic("t", "") {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestParseContext(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Context{
		"/src":                           {Kind: Directory, At: "/src"},
		"dir://src":                      {Kind: Directory, At: "src"},
		"tar:///a.tar.gz":                {Kind: Archive, At: "/a.tar.gz"},
		"tar://stdin":                    {Kind: Stdin},
		"git://h/p.git":                  {Kind: Repository, At: "https://h/p.git", Ref: "b"},
		"git://h/p#refs/heads/x":         {Kind: Repository, At: "https://h/p", Ref: "refs/heads/x"},
		"git://h/p#refs/heads/x#0123abc": {Kind: Repository, At: "https://h/p", Ref: "0123abc"},
		"https://h/p.git#x":              {Kind: Repository, At: "https://h/p.git", Ref: "x"},
		"https://h/a.tar.gz":             {Kind: Web, At: "https://h/a.tar.gz"},
		"s3://b/dir/a.tar.gz":            {Kind: S3, Bucket: "b", Key: "dir/a.tar.gz"},
		"gs://b/a.tar.gz":                {Kind: GCS, Bucket: "b", Key: "a.tar.gz"},
		"gs://b":                         {Kind: GCS, Bucket: "b", Key: "context.tar.gz"},
		"https://acc.blob.core.windows.net/c/dir/a.tar.gz":          {Kind: Azure, At: "https://acc.blob.core.windows.net", Bucket: "c", Key: "dir/a.tar.gz"},
		"https://acc.blob.core.windows.net/c/a.tar.gz?sv=1&sig=abc": {Kind: Web, At: "https://acc.blob.core.windows.net/c/a.tar.gz?sv=1&sig=abc"},
	} {
		if got, err := ParseContext(text, "", "https", "b"); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
}

// A RUN that names files of the executor's container is noticed, other text is not.
func TestExecutorPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		". /kaniko/secrets.sh":                    "/kaniko/secrets.sh",
		"cat </kaniko/.docker/config.json":        "/kaniko/.docker/config.json",
		"X=/kaniko/x make":                        "/kaniko/x",
		"ls /var/run/secrets/kubernetes.io/a":     "/var/run/secrets/kubernetes.io/a",
		"/busybox/sh -c x":                        "/busybox/sh",
		"cp -r /src/kaniko/pkg /out":              "",
		"git clone https://github.com/x/kaniko/y": "",
		"echo /kanikofoo":                         "",
	} {
		got := ""
		if m := executorPath.FindStringSubmatch("RUN " + text); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
