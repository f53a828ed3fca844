package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry/transport"
)

// parseBuild parses flags as cairn build does, and checks them against each other.
func parseBuild(flags ...string) (*buildCommand, error) {
	p := &Program{}
	b := &buildCommand{Program: p}
	c := &cobra.Command{Use: "build"}
	c.SetFlagErrorFunc(flagError)
	b.inputFlags(c)
	b.resultFlags(c)
	b.stepFlags(c)
	inputLimitFlag(c.Flags(), &b.registries.limits)
	b.registries.flags(c.Flags())
	if err := c.ParseFlags(flags); err != nil {
		return b, flagError(c, err)
	}
	b.options.Context, b.progressSet = ".", c.Flags().Changed("progress")
	if n := c.Flags().NArg(); n > 0 {
		b.options.Context = c.Flags().Arg(0)
	}
	if err := b.applyPeerFlags(); err != nil {
		return b, err
	}
	if err := b.check(); err != nil {
		return b, err
	}
	return b, b.setOutputs()
}

var (
	amd = layer.Platform{OS: "linux", Architecture: "amd64"}
	arm = layer.Platform{OS: "linux", Architecture: "arm64"}
)

const (
	appCache = "registry.example/cache:latest" // normalised
	megabyte = 1 << 20
)

// buildFlags has the fields of the target and the session that each flag sets.
var buildFlags = []struct {
	flags string
	set   func(*buildOptions)
}{
	{"", func(*buildOptions) {}},
	{"dir", func(o *buildOptions) { o.Context = "dir" }},
	{"--file=a/Dockerfile", func(o *buildOptions) { o.Dockerfile = "a/Dockerfile" }},
	{"-f -", func(o *buildOptions) { o.Dockerfile = "-" }},
	{"--build-context=a=dir --build-context=b::linux/arm64=docker-image://c", func(o *buildOptions) {
		o.Contexts = []builder.Context{{Name: "a", Value: "dir"}, {Name: "b::linux/arm64", Value: "docker-image://c"}}
	}},
	{"--target=test", func(o *buildOptions) { o.Stage = "test" }},
	{"--build-arg=A=1 --build-arg=B= --build-arg=CAIRN_UNSET_VARIABLE --build-arg=A=2", func(o *buildOptions) {
		o.Args["A"], o.Args["B"] = "2", ""
	}},
	{"--platform=linux/arm64", func(o *buildOptions) { o.Platforms = []layer.Platform{arm} }},
	{"--platform=amd64,linux/arm64 --platform=linux/amd64", func(o *buildOptions) { o.Platforms = []layer.Platform{amd, arm} }},
	{"--pull", func(o *buildOptions) { o.Pull = true }},
	{"--no-cache", func(o *buildOptions) { o.NoCache = true }},
	{"--no-cache-filter=a,b --no-cache-filter=c", func(o *buildOptions) { o.NoCacheFilter = []string{"a", "b", "c"} }},
	{"--cache-from=registry.example/cache --cache-from=type=local,src=d", func(o *buildOptions) {
		o.CacheFrom = []remote.Location{{Ref: appCache}, {Dir: "d"}}
	}},
	{"--cache-to=type=registry,ref=registry.example/cache,mode=max,ignore-error=false --cache-to=type=inline --cache-to=type=local,dest=d", func(o *buildOptions) {
		o.CacheTo = []builder.CacheTo{
			{Location: remote.Location{Ref: appCache}, Max: true, Strict: true}, {Inline: true}, {Location: remote.Location{Dir: "d"}},
		}
	}},
	{"--cache-repo=registry.example/cache", func(o *buildOptions) {
		o.CacheFrom = []remote.Location{{Ref: appCache}}
		o.CacheTo = []builder.CacheTo{{Location: remote.Location{Ref: appCache}, Max: true}}
	}},
	{"--cache-mount-from=type=local,src=d", func(o *buildOptions) { o.CacheMountFrom = []remote.Location{{Dir: "d"}} }},
	{"--cache-mount-to=type=local,dest=d,ignore-error=false", func(o *buildOptions) {
		o.CacheMountTo = []builder.CacheTo{{Location: remote.Location{Dir: "d"}, Strict: true}}
	}},
	{"--secret=id=a,src=f --secret=id=b,env=B", func(o *buildOptions) {
		o.Secrets = []secret.Source{{ID: "a", File: "f"}, {ID: "b", Env: "B"}}
	}},
	{"--ssh=default --ssh=a=k1,k2", func(o *buildOptions) {
		o.Agents = []sshagent.Source{{ID: "default"}, {ID: "a", Paths: []string{"k1", "k2"}}}
	}},
	{"--tag=a:1 -t b", func(o *buildOptions) { o.Tags = []string{"a:1", "b"} }},
	{"--label=a=b --label=c", func(o *buildOptions) { o.Labels["a"], o.Labels["c"] = "b", "" }},
	{"--annotation=a=b --annotation=manifest-descriptor:c=d", func(o *buildOptions) {
		o.Annotations = []builder.Annotation{{Name: "a", Value: "b"}, {Name: "c", Value: "d", Descriptor: true}}
	}},
	{"--platform=linux/amd64,linux/arm64 --annotation=index:a=b --annotation=manifest[linux/arm64]:c=d", func(o *buildOptions) {
		o.Platforms = []layer.Platform{amd, arm}
		o.Annotations = []builder.Annotation{{Name: "a", Value: "b", Index: true}, {Name: "c", Value: "d", Platform: &arm}}
	}},
	{"--push -t a", func(o *buildOptions) { o.Push, o.Tags = true, []string{"a"} }},
	{"--output=type=oci,dest=a.tar", func(o *buildOptions) { o.Outputs = []builder.Output{{Type: "oci", Dest: "a.tar"}} }},
	{"-o type=oci,tar=false,dest=d -o out", func(o *buildOptions) {
		o.Outputs = []builder.Output{{Type: "oci", Dest: "d", Unpacked: true}, {Type: "local", Dest: "out"}}
	}},
	{"-o type=image,name=a,push=true,push-by-digest=true,name-canonical=true", func(o *buildOptions) {
		o.Outputs = []builder.Output{{Type: "image", Names: []string{"a"}, Push: true, ByDigest: true, Canonical: true}}
	}},
	{"-o type=image,oci-mediatypes=false", func(o *buildOptions) {
		o.DockerTypes, o.Outputs = true, []builder.Output{{Type: "image"}}
	}},
	{"-o type=oci,dest=a,compression=zstd,compression-level=3,force-compression=true", func(o *buildOptions) {
		o.Compression = builder.Compression{Options: compress.Options{Format: compress.Zstd, Level: 3}, Force: true}
		o.Outputs = []builder.Output{{Type: "oci", Dest: "a", Compression: &o.Compression}}
	}},
	{"-o type=image,annotation.a=b", func(o *buildOptions) {
		o.Annotations, o.Outputs = []builder.Annotation{{Name: "a", Value: "b"}}, []builder.Output{{Type: "image"}}
	}},
	{"-o type=local,dest=d,platform-split=true", func(o *buildOptions) {
		o.Outputs = []builder.Output{{Type: "local", Dest: "d", Split: true}}
	}},
	{"--network=none", func(o *buildOptions) { o.Network = "none" }},
	{"--network=host --add-host=a:10.0.0.1 --add-host=b=host-gateway", func(o *buildOptions) {
		o.Network, o.AddHosts = "host", []string{"a:10.0.0.1", "b:" + option.HostGatewayIP}
	}},
	{"--jobs=3", func(o *buildOptions) { o.Jobs = 3 }},
	{"--allow=network.host,security.insecure", func(o *buildOptions) { o.Allow = []string{"network.host", "security.insecure"} }},
	{"--shm-size=128m", func(o *buildOptions) { o.ShmSize = 128 * megabyte }},
	{"--ulimit=nofile=10:20 --ulimit=core=0", func(o *buildOptions) {
		o.Ulimits = []op.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}, {Name: "core"}}
	}},
	{"--step-timeout=1h30m", func(o *buildOptions) { o.StepTimeout = 90 * time.Minute }},
	{"--memory=64m --memory-swap=-1", func(o *buildOptions) { o.StepResources.Memory, o.StepResources.Swap = 64*megabyte, -1 }},
	{"-m 64m --memory-swap=1g", func(o *buildOptions) { o.StepResources.Memory, o.StepResources.Swap = 64*megabyte, 1024*megabyte }},
	{"--cpus=1.5", func(o *buildOptions) { o.StepResources.CPUs = 1.5 }},
	{"--cpu-quota=2000 --cpu-period=4000", func(o *buildOptions) { o.StepResources.Quota, o.StepResources.Period = 2000, 4000 }},
	{"--cpu-shares=512", func(o *buildOptions) { o.StepResources.Shares = 512 }},
	{"-c 2", func(o *buildOptions) { o.StepResources.Shares = 2 }},
	{"--pids-limit=100", func(o *buildOptions) { o.StepResources.PIDs = 100 }},
	{"--pids-limit=100 --pids-limit=-1", func(*buildOptions) {}},
	{"--cgroup-parent=/builds", func(o *buildOptions) { o.StepResources.Parent = "/builds" }},
	{"--provenance=false --sbom=false", func(*buildOptions) {}},
	{"--squash", func(o *buildOptions) { o.Squash = true }},
	{"--ignorefile=f", func(o *buildOptions) { o.IgnoreFile = "f" }},
}

// otherBuildFlags are set neither in the target nor in the session.
var otherBuildFlags = []string{
	"authfile", "break", "call", "check", "history", "iidfile", "insecure-registry", "keep-failed", "limit", "load", "metadata-file", "progress", "quiet",
	"registry-certificate", "registry-client-cert", "registry-mirror", "report", "report-args", "report-logs", "shell", "shell-image", "shell-on-error", "short-names", "stall-timeout", "trace",
}

func TestBuildFlags(t *testing.T) {
	t.Parallel()
	for _, test := range buildFlags {
		b, err := parseBuild(strings.Fields(test.flags)...)
		if err != nil {
			t.Errorf("%s: %v", test.flags, err)
			continue
		}
		want := buildOptions{}
		want.Context, want.Network = ".", "default"
		want.Args, want.Labels = map[string]string{}, map[string]string{}
		test.set(&want)
		if d := cmp.Diff(want, b.options, cmpopts.IgnoreFields(builder.SessionOptions{}, "Store", "Registry", "Progress")); d != "" {
			t.Errorf("%s: (-want +got)\n%s", test.flags, d)
		}
	}
}

// Each flag of cairn build has a test of its effect.
func TestBuildFlagsAreTested(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{"help": true}
	for _, name := range otherBuildFlags {
		tested[name] = true
	}
	for _, test := range buildFlags {
		for _, word := range strings.Fields(test.flags) {
			name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
			tested[name] = true
		}
	}
	newBuild(&Program{}).Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !tested[f.Name] {
			t.Errorf("--%s is not in the table", f.Name)
		}
	})
}

func TestOtherBuildFlags(t *testing.T) {
	t.Parallel()
	b, err := parseBuild(strings.Fields("--authfile=auth --call=outline,format=json --iidfile=iid --metadata-file=meta --trace=trace -q" +
		" --insecure-registry=a --insecure-registry=b --registry-mirror=m --short-names --registry-certificate=c=f --registry-certificate=g" +
		" --registry-client-cert=h=cert,key --limit=layer-entries=5 --limit=download-size=2k --stall-timeout=5s --load=podman --progress=plain --report=r.html --report=r.md --report-args --report-logs=all")...)
	if err != nil {
		t.Fatal(err)
	}
	if b.call != (option.Call{Method: "outline", JSON: true}) || b.iidFile != "iid" || b.metadataFile != "meta" || b.trace != "trace" ||
		!b.quiet || b.engine != "podman" || b.progress != "plain" || !b.progressSet {
		t.Errorf("%+v", b)
	}
	if rec := b.recording; !slices.Equal(rec.files, []string{"r.html", "r.md"}) || !rec.args || rec.logs != "all" {
		t.Errorf("flags for reports: %+v", rec)
	}
	r := b.registries
	if r.limits.LayerEntries != 5 || r.limits.Download != 2048 || r.limits.Patience != 5*time.Second {
		t.Errorf("limits %+v", r.limits)
	}
	got := []any{r.authFile, r.insecure, r.mirrors, r.shortNames, r.authorities, r.certs}
	want := []any{"auth", []string{"a", "b"}, []string{"m"}, true, map[string][]string{"c": {"f"}, "": {"g"}},
		map[string]transport.ClientCert{"h": {Cert: "cert", Key: "key"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("flags for registries: (-want +got)\n%s", d)
	}
	for flag, want := range map[string]string{"--load": "auto", "--load=true": "auto", "--load=false": "", "--load=docker": "docker", "--load=0": ""} {
		if b, err := parseBuild(flag); err != nil || b.engine != want {
			t.Errorf("%s: engine %q, error %v, want %q", flag, b.engine, err, want)
		}
	}
	for flag, want := range map[string]string{"--check": "check", "--check=false": "", "--call=build": "", "--call=lint": "check"} {
		if b, err := parseBuild(flag); err != nil || b.call.Method != want {
			t.Errorf("%s: method %q, error %v, want %q", flag, b.call.Method, err, want)
		}
	}
}

func TestBuildFlagErrors(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]string{
		"--flie=x":                         "unknown flag: --flie (did you mean --file?)",
		"-z":                               "unknown flag: -z",
		"-t":                               "flag needs an argument: --tag NAME[:TAG]",
		"-t App":                           `--tag "App": `,
		"--build-context=a":                `--build-context "a": `,
		"--platform=linux/":                `--platform "linux/": `,
		"--secret=src=f":                   `--secret "src=f": `,
		"--pull=maybe":                     `--pull "maybe": `,
		"--label==b":                       `--label "=b": `,
		"--annotation=a":                   "want NAME=VALUE",
		"--progress=loud":                  "want one of auto, tty, plain, quiet, rawjson, none",
		"--network=br0":                    "want one of default, none, host",
		"--add-host=a":                     `--add-host "a": `,
		"--jobs=0":                         "want a number of at least 1",
		"--jobs=x":                         "want a number of at least 1",
		"--allow=all":                      `--allow "all": `,
		"--shm-size=big":                   `--shm-size "big": `,
		"--ulimit=nofile":                  `--ulimit "nofile": `,
		"--step-timeout=0s":                `--step-timeout "0s": `,
		"--memory=1m":                      "want 6m or more: a step cannot start with less",
		"--memory-swap=-2":                 `--memory-swap "-2": `,
		"--cpus=0":                         "want a number of CPUs of at least 0.01",
		"--cpus=NaN":                       "want a number of CPUs of at least 0.01",
		"--cpus=65537":                     "want a number of CPUs of at least 0.01",
		"--cpu-quota=999":                  "want a number from 1000 to 1099511627776",
		"--cpu-period=1000001":             "want a number from 1000 to 1000000",
		"--cpu-shares=1":                   "want a number from 2 to 262144",
		"--pids-limit=-2":                  "want a number from 1 to 4194304",
		"--cgroup-parent=":                 "want the path of a cgroup",
		"--cpuset-cpus=0":                  "start cairn with taskset or numactl",
		"--limit=layer-width=1":            `--limit "layer-width=1": `,
		"--limit=layer-size":               `--limit "layer-size": `,
		"--load=crio":                      "want one of auto, docker, podman, containerd",
		"--call=explain":                   `--call "explain": `,
		"--check=maybe":                    "want true or false",
		"--builder=b":                      "has no builder instances",
		"--attest=type=sbom":               "attestations are not supported yet",
		"--provenance":                     "attestations are not supported yet",
		"--sbom=true":                      "attestations are not supported yet",
		"--device=a":                       "CDI devices are not supported",
		"--cache-from=type=ftp,ref=a":      `--cache-from "type=ftp,ref=a": `,
		"--cache-to=a=b":                   `--cache-to "a=b": `,
		"--output=type=oci,dest=/":         "dest / is a directory: specify a file",
		"--output=type=docker,dest=/":      "dest / is a directory: specify a file",
		"--output=type=tar,dest=/":         "dest / is a directory: specify a file",
		"--stall-timeout=10ms":             "want 1s or more",
		"--registry-certificate=h=":        "want [HOST=]FILE",
		"--registry-client-cert=h=cert":    "want HOST=CERT,KEY",
		"--registry-client-cert=cert,key":  "want HOST=CERT,KEY",
		"--registry-client-cert==cert,key": "want HOST=CERT,KEY",

		"-f - -":                    "--file and the build context can't both be standard input",
		"--push":                    "--push needs a name to push to: add --tag",
		"-o type=registry":          "--output: type=registry needs a name to push to: add name= or --tag",
		"-o type=image,push=true":   "--output: type=image needs a name to push to: add name= or --tag",
		"--cpus=1 --cpu-quota=1000": "quota",
		"--annotation=index:a=b":    "--annotation a: an image of one platform has no index",
		"-o type=tar -o type=tar":   "only one output can be written to standard output",
		"-q -o -":                   "--quiet writes to standard output: specify a file with dest=",
		"-o type=image,oci-mediatypes=false -o type=oci,dest=a,compression=zstd": "--output: compression=zstd needs OCI media types",

		"--platform=amd64,arm64 --call=outline":                            "--call=outline needs a single platform",
		"--platform=amd64,arm64 --check -":                                 "--check needs a single platform with standard input",
		"--platform=amd64,arm64 --check -f -":                              "--check needs a single platform with standard input",
		"--platform=amd64,arm64 -o type=local,dest=d,platform-split=false": "the files of 2 platforms would overwrite each other",
	} {
		_, err := parseBuild(strings.Fields(flags)...)
		checkError(t, flags, err, want)
		if _, ok := err.(*UsageError); err != nil && !ok {
			t.Errorf("%s: a %T, want a UsageError", flags, err)
		}
	}
	b := &buildCommand{Program: &Program{}}
	checkError(t, "an empty context", b.check(), "the build context is empty: specify a directory, such as .")
}

// These combinations of flags are close to those of TestBuildFlagErrors and valid.
func TestAllowedBuildFlags(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{
		"-f - dir", "-f Dockerfile -", "--platform=amd64,arm64 --check", "--platform=arm64 --call=outline", "--platform=arm64 --load",
		"--platform=amd64,arm64 -o type=oci,dest=a", "--platform=amd64,arm64 -o type=local,dest=d,platform-split=true",
		"-o type=registry,name=a", "-o type=registry -t a", "-o /", "-o type=local,dest=/", "-q -o out",
		"-o type=image,oci-mediatypes=true -o type=oci,dest=a,compression=zstd", "--pids-limit=0", "--cpus=65536",
	} {
		if _, err := parseBuild(strings.Fields(flags)...); err != nil {
			t.Errorf("%s: %v", flags, err)
		}
	}
}

// A cache of GitHub has the scope cairn unless the flag names another.
func TestGitHubCache(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"type=gha,url=http://localhost/,token=t,version=1":         "cairn",
		"type=gha,url=http://localhost/,token=t,version=1,scope=s": "s",
	} {
		b, err := parseBuild("--cache-from="+text, "--cache-to="+text+",mode=max")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		from, to := b.options.CacheFrom[0].Service, b.options.CacheTo[0]
		if from == nil || from.Scope != want || to.Service == nil || to.Service.Scope != want || !to.Max {
			t.Errorf("%s: from %+v, to %+v, want the scope %s", text, from, to, want)
		}
	}
}

func TestProgressMode(t *testing.T) {
	for _, test := range []struct{ flags, variable, want, err string }{
		{"", "", "auto", ""},
		{"", "plain", "plain", ""},
		{"--progress=tty", "plain", "tty", ""},
		{"-q", "plain", "quiet", ""},
		{"-q --progress=quiet", "", "quiet", ""},
		{"-q --progress=plain", "", "", "--quiet and --progress=plain contradict each other"},
		{"", "loud", "", "$BUILDKIT_PROGRESS: "},
		{"--progress=none", "loud", "none", ""},
	} {
		t.Setenv("BUILDKIT_PROGRESS", test.variable)
		b, err := parseBuild(strings.Fields(test.flags)...)
		if err != nil {
			t.Fatal(err)
		}
		err = b.chooseProgress()
		checkError(t, test.flags, err, test.err)
		if err == nil && b.progress != test.want {
			t.Errorf("%s with %q: %s, want %s", test.flags, test.variable, b.progress, test.want)
		}
	}
	for mode, want := range map[string]bool{"auto": true, "tty": true, "plain": true, "quiet": false, "rawjson": false, "none": false} {
		if b := (&buildCommand{progress: mode}); b.verbose() != want {
			t.Errorf("%s: verbose %v", mode, !want)
		}
	}
}

func TestSourceDateEpoch(t *testing.T) {
	for _, test := range []struct{ flags, variable, want, err string }{
		{"", "", "", ""},
		{"", "1700000000", "1700000000", ""},
		{"--build-arg=SOURCE_DATE_EPOCH=5", "6", "5", ""},
		{"--build-arg=SOURCE_DATE_EPOCH=", "6", "", ""},
		{"", "-1", "", `$SOURCE_DATE_EPOCH "-1": want seconds since 1970`},
		{"", "1.5", "", `$SOURCE_DATE_EPOCH "1.5": want seconds since 1970`},
		{"", "253402300799", "253402300799", ""},
		{"", "253402300800", "", `$SOURCE_DATE_EPOCH "253402300800": want seconds since 1970, at most 253402300799 (in the year 9999)`},
		{"--build-arg=SOURCE_DATE_EPOCH=99999999999999999999", "", "99999999999999999999", `--build-arg SOURCE_DATE_EPOCH "99999999999999999999": want seconds since 1970, at most 253402300799 (in the year 9999)`},
		{"--build-arg=SOURCE_DATE_EPOCH=-5", "6", "-5", `--build-arg SOURCE_DATE_EPOCH "-5": want seconds since 1970`},
		{"--build-arg=SOURCE_DATE_EPOCH=2x --build-context=2x=.", "6", "2x", ""},
		{"", "context", "context", ""},
	} {
		t.Setenv("SOURCE_DATE_EPOCH", test.variable)
		b, err := parseBuild(strings.Fields(test.flags)...)
		if err != nil {
			t.Fatal(err)
		}
		checkError(t, test.variable, b.addEpoch(), test.err)
		if got := b.options.Args["SOURCE_DATE_EPOCH"]; got != test.want {
			t.Errorf("%s with %q: %q, want %q", test.flags, test.variable, got, test.want)
		}
	}
}

// A build argument without a value has that of the environment.
func TestBuildArgFromEnvironment(t *testing.T) {
	t.Setenv("CAIRN_TEST_VARIABLE", "a=b")
	b, err := parseBuild("--build-arg=CAIRN_TEST_VARIABLE", "--build-arg=CAIRN_UNSET_VARIABLE")
	if d := cmp.Diff(map[string]string{"CAIRN_TEST_VARIABLE": "a=b"}, b.options.Args); err != nil || d != "" {
		t.Errorf("error %v, (-want +got)\n%s", err, d)
	}
}

func TestKeepStorage(t *testing.T) {
	for _, test := range []struct {
		text string
		want int64
		err  string
	}{
		{"0", 0, ""}, {"20GB", 20e9, ""}, {"1000", 1000, ""}, {"much", 0, `$CAIRN_KEEP_STORAGE "much": `},
	} {
		t.Setenv("CAIRN_KEEP_STORAGE", test.text)
		got, err := keepStorage(t.TempDir())
		checkError(t, test.text, err, test.err)
		if got != test.want {
			t.Errorf("%s: %d, want %d", test.text, got, test.want)
		}
	}
	t.Setenv("CAIRN_KEEP_STORAGE", "")
	if got, err := keepStorage(t.TempDir()); err != nil || got < minKept {
		t.Errorf("the default is %d, error %v", got, err)
	}
	if got, err := keepStorage("/nosuch"); err != nil || got != 0 {
		t.Errorf("of a missing directory: %d, error %v", got, err)
	}
}

// --iidfile and --metadata-file describe the image, or the index of several.
func TestBuildFiles(t *testing.T) {
	img := imageOf(t, `{"os":"linux","architecture":"arm64"}`)
	set, err := layer.NewIndex([]layer.Image{img, imageOf(t, `{"os":"linux","architecture":"amd64"}`)}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	warning := dockerfile.Warning{Rule: "Rule", Detail: "detail", Ranges: []dockerfile.Range{{First: 1, Last: 1}}}
	set.Annotations = map[string]string{"a": "<b>"} // of the descriptor
	one := &builder.Built{Image: img, Tags: []string{"a:1"}, Warnings: []dockerfile.Warning{warning}, File: &dockerfile.File{Name: "Dockerfile", Text: []byte("FROM a\n")}}
	many := &builder.Built{Image: img, Index: &set, Tags: []string{"a:1"}}
	dir := t.TempDir()
	b := &buildCommand{iidFile: filepath.Join(dir, "iid"), metadataFile: filepath.Join(dir, "meta")}
	b.options.Outputs = []builder.Output{{Names: []string{"b:2", "c:3"}}}
	read := func(built *builder.Built) (iid, meta string) {
		t.Helper()
		if err := b.writeFiles(built); err != nil {
			t.Fatal(err)
		}
		i, err := os.ReadFile(b.iidFile)
		if err != nil {
			t.Fatal(err)
		}
		m, err := os.ReadFile(b.metadataFile)
		if err != nil {
			t.Fatal(err)
		}
		return string(i), string(m)
	}
	iid, meta := read(one)
	if iid != string(img.ConfigDigest) {
		t.Errorf("iid %s, want %s", iid, img.ConfigDigest)
	}
	for _, want := range []string{
		`"containerimage.config.digest": "` + string(img.ConfigDigest) + `"`, `"containerimage.digest": "` + string(img.Digest) + `"`,
		`"image.name": "a:1,docker.io/library/b:2,docker.io/library/c:3"`, `"architecture": "arm64"`, `"mediaType": "` + img.MediaType + `"`,
	} {
		if !strings.Contains(meta, want) {
			t.Errorf("%s\nlacks %s", meta, want)
		}
	}
	if strings.Contains(meta, "warnings") {
		t.Errorf("the metadata has warnings: %s", meta)
	}
	iid, meta = read(many)
	if iid != string(set.Digest) || strings.Contains(meta, "config.digest") || !strings.Contains(meta, `"containerimage.digest": "`+string(set.Digest)+`"`) ||
		!strings.Contains(meta, `"a": "<b>"`) || strings.Contains(meta, `"platform"`) {
		t.Errorf("of an index: iid %s, %s", iid, meta)
	}
	t.Setenv("BUILDX_METADATA_WARNINGS", "1")
	if _, meta = read(one); !strings.Contains(meta, `"buildx.build.warnings": [`) || !strings.Contains(meta, "detail") {
		t.Errorf("the metadata has no warnings: %s", meta)
	}
	checkError(t, "a missing directory", checkWritable("iidfile", filepath.Join(dir, "no/file")), "--iidfile "+dir+"/no/file: the directory "+dir+"/no does not exist: create it or choose another file")
	checkError(t, "no file", checkWritable("trace", ""), "")
	checkError(t, "a device", checkWritable("trace", "/dev/null"), "")
}
