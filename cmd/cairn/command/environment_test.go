package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
)

func TestRegistryOptions(t *testing.T) {
	t.Setenv("CONTAINERS_REGISTRIES_CONF", os.DevNull)
	for _, test := range []struct {
		name       string
		flags      registryFlags
		env        map[string]string
		insecure   []string
		mirrors    map[string][]string
		shortNames bool
		err        string
	}{
		{name: "nothing", mirrors: map[string][]string{}},
		{
			name:     "flags",
			flags:    registryFlags{insecure: []string{"a"}, mirrors: []string{"m", "host=n", "host=o"}, shortNames: true},
			insecure: []string{"a"}, mirrors: map[string][]string{"docker.io": {"m"}, "host": {"n", "o"}}, shortNames: true,
		},
		{
			name:     "environment",
			env:      map[string]string{"CAIRN_INSECURE_REGISTRY": "a, b", "CAIRN_REGISTRY_MIRROR": "m host=n", "CAIRN_SHORT_NAMES": "1"},
			insecure: []string{"a", "b"}, mirrors: map[string][]string{"docker.io": {"m"}, "host": {"n"}}, shortNames: true,
		},
		{
			name:     "flags before the environment",
			flags:    registryFlags{insecure: []string{"c"}, mirrors: []string{"p"}},
			env:      map[string]string{"CAIRN_INSECURE_REGISTRY": "a", "CAIRN_REGISTRY_MIRROR": "m", "CAIRN_SHORT_NAMES": "0"},
			insecure: []string{"c"}, mirrors: map[string][]string{"docker.io": {"p"}},
		},
		{name: "short names", env: map[string]string{"CAIRN_SHORT_NAMES": "maybe"}, err: `CAIRN_SHORT_NAMES="maybe": want 1 or 0`},
		{name: "password", flags: registryFlags{mirrors: []string{"me:secret@m"}}, err: "registry mirror xxxxx@m: user and password are not supported"},
		{name: "no mirror", flags: registryFlags{mirrors: []string{"host="}}, err: `registry mirror "host=": want [HOST=]MIRROR`},
		{name: "no host", flags: registryFlags{mirrors: []string{"=m"}}, err: `registry mirror "=m": want [HOST=]MIRROR`},
	} {
		for _, name := range []string{"CAIRN_INSECURE_REGISTRY", "CAIRN_REGISTRY_MIRROR", "CAIRN_SHORT_NAMES"} {
			t.Setenv(name, test.env[name])
		}
		o, err := test.flags.options()
		checkError(t, test.name, err, test.err)
		if err != nil {
			if strings.Contains(err.Error(), "secret") || !errors.As(err, new(*UsageError)) {
				t.Errorf("%s: error %T %v", test.name, err, err)
			}
			continue
		}
		if d := cmp.Diff(test.mirrors, o.Mirrors); d != "" || !cmp.Equal(test.insecure, o.Transport.Insecure) && len(test.insecure)+len(o.Transport.Insecure) > 0 || o.ShortNames != test.shortNames {
			t.Errorf("%s: insecure %q, short names %v, mirrors %s", test.name, o.Transport.Insecure, o.ShortNames, d)
		}
	}
}

func TestStoreDir(t *testing.T) {
	t.Setenv("CAIRN_ROOT", "/from/env")
	for root, want := range map[string]string{"": "/from/env", "/from/flag": "/from/flag"} {
		if got, err := (&Program{root: root}).storeDir(); err != nil || got != want {
			t.Errorf("%q: %q, %v", root, got, err)
		}
	}
	t.Setenv("CAIRN_ROOT", "")
	t.Setenv("XDG_DATA_HOME", "/data")
	want := "/data/cairn"
	if uid, _ := sandbox.HostIDs(); uid == 0 {
		want = "/var/lib/cairn"
	}
	if got, err := (&Program{}).storeDir(); err != nil || got != want {
		t.Errorf("the default is %q, %v; want %q", got, err, want)
	}
}

func TestIsolationFromEnvironment(t *testing.T) {
	t.Setenv("CAIRN_ISOLATION", "vm")
	_, err := (&Program{}).enter()
	checkError(t, "vm", err, `$CAIRN_ISOLATION "vm": want one of auto, namespaces, rootless, gvisor, chroot`)
	if !errors.As(err, new(*UsageError)) {
		t.Errorf("a %T, want a UsageError", err)
	}
	for text, want := range map[string]sandbox.Mode{"": "", "auto": "", "chroot": sandbox.Chroot, "rootless": sandbox.Rootless} {
		if got, err := parseIsolation(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestEngineAddresses(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for _, test := range []struct {
		env  [3]string // XDG_RUNTIME_DIR, DOCKER_HOST, CONTAINER_HOST
		want string
	}{
		{[3]string{}, "docker /var/run/docker.sock, podman /run/podman/podman.sock"},
		{[3]string{"/run/me"}, "docker /var/run/docker.sock, docker /run/me/docker.sock, podman /run/me/podman/podman.sock, podman /run/podman/podman.sock"},
		{[3]string{"/run/me", "tcp://h:1", "unix:///s"}, "docker tcp://h:1 (DOCKER_HOST), podman /s (CONTAINER_HOST)"},
	} {
		for i, name := range []string{"XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST"} {
			t.Setenv(name, test.env[i])
		}
		var got []string
		for _, a := range engineAddresses() {
			text := a.kind + " " + a.String()
			if a.source != "" {
				text += " (" + a.source + ")"
			}
			got = append(got, text)
		}
		same(t, "engines", strings.Join(got, ", "), test.want)
	}
	t.Setenv("DOCKER_HOST", "ssh://host")
	_, err := findEngine(context.Background(), "docker")
	checkError(t, "ssh", err, "--load: can't reach ssh://host, from DOCKER_HOST: a ssh:// address is not supported: want unix:// or tcp://")
}

func TestDockerContext(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{"DOCKER_CONFIG": dir, "DOCKER_HOST": "", "DOCKER_CONTEXT": "", "XDG_RUNTIME_DIR": ""} {
		t.Setenv(name, value)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256([]byte("far"))
	far := hex.EncodeToString(sum[:])
	write("contexts/meta/"+far+"/meta.json", `{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}`)
	write("contexts/tls/"+far+"/docker/key.pem", "")
	for _, test := range []struct{ context, config, host, want, err string }{
		{want: "/var/run/docker.sock"},
		{context: "default", want: "/var/run/docker.sock"},
		{config: "default", want: "/var/run/docker.sock"},
		{context: "far", want: "tcp://far:2376, from the docker context far, with TLS"},
		{config: "far", want: "tcp://far:2376, with TLS"},
		{context: "far", host: "unix:///s", want: "/s, from DOCKER_HOST"},
		{config: "lost", want: ", from the docker context lost", err: "docker has no context lost in " + dir + ": docker context ls lists them"},
	} {
		t.Setenv("DOCKER_CONTEXT", test.context)
		t.Setenv("DOCKER_HOST", test.host)
		write("config.json", `{"currentContext":"`+test.config+`"}`)
		a := engineAddresses()[0]
		got := a.String()
		if a.source != "" {
			got += ", from " + a.source
		}
		if a.tls != nil {
			got += ", with TLS"
			if config, err := a.tls.config(); err != nil || !config.InsecureSkipVerify {
				t.Errorf("%+v: %+v, %v", test, config, err)
			}
		}
		same(t, "address", got, test.want)
		checkError(t, test.want, a.err, test.err)
	}
	t.Setenv("DOCKER_CONTEXT", "")
	for _, name := range []string{"DOCKER_TLS", "DOCKER_TLS_VERIFY"} {
		want := name == "DOCKER_TLS"
		t.Setenv(name, "1")
		if a := tlsVariables(); a == nil || a.skipVerify != want {
			t.Errorf("%s: %+v", name, a)
		} else if _, err := a.config(); (err == nil) != want {
			t.Errorf("%s without certificates: %v", name, err)
		}
	}
}

func TestPlatformVariable(t *testing.T) {
	arm := layer.Platform{OS: "linux", Architecture: "arm64"}
	for _, test := range []struct {
		text      string
		given     []layer.Platform
		want      string
		err       string // of a list of platforms
		errSingle string
	}{
		{want: ""},
		{text: "linux/arm64", want: "linux/arm64"},
		{text: "linux/amd64", given: []layer.Platform{arm}, want: "linux/arm64"},
		{text: "arm64, linux/arm/v6", want: "linux/arm64 linux/arm/v6", errSingle: `$DOCKER_DEFAULT_PLATFORM "arm64, linux/arm/v6": want a single platform`},
		{text: "local", want: layer.HostPlatform().String()},
		{text: "arm65", err: `$DOCKER_DEFAULT_PLATFORM "arm65": platform "arm65": unknown operating system or architecture`, errSingle: `$DOCKER_DEFAULT_PLATFORM "arm65"`},
	} {
		t.Setenv(platformVariable, test.text)
		list := test.given
		checkError(t, test.text, setDefaultPlatforms(&list), test.err)
		var got []string
		for _, p := range list {
			got = append(got, p.String())
		}
		if test.err == "" {
			same(t, test.text, strings.Join(got, " "), test.want)
		}
		var one layer.Platform
		if test.given != nil {
			one = arm
		}
		checkError(t, test.text, setDefaultPlatform(&one), test.errSingle)
		if test.errSingle == "" && test.text != "" {
			same(t, test.text, one.String(), test.want)
		}
	}
}

func TestRefusedVariables(t *testing.T) {
	t.Setenv("DOCKER_CONTENT_TRUST", "0")
	if err := checkContentTrust(); err != nil {
		t.Error(err)
	}
	t.Setenv("DOCKER_CONTENT_TRUST", "1")
	checkError(t, "trust", checkContentTrust(), "$DOCKER_CONTENT_TRUST is set, and cairn can't verify or make the signatures of Docker Content Trust")
	for text, want := range map[string]int{"": 0, "0": 0, "false": 0, "1": 1, "full": 1} {
		t.Setenv("BUILDX_GIT_LABELS", text)
		if got, err := checkBuildVariables(); len(got) != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	t.Setenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "policy.json")
	_, err := checkBuildVariables()
	checkError(t, "policy", err, `$EXPERIMENTAL_BUILDKIT_SOURCE_POLICY "policy.json": cairn does not evaluate source policies`)
}

// The error of a build ends the archive that an engine reads, and the reverse.
func TestEngineWriter(t *testing.T) {
	t.Parallel()
	failed, full := errors.New("build failed"), errors.New("no space")
	for _, test := range []struct {
		name        string
		built, load error
		want        string
	}{
		{"success", nil, nil, ""},
		{"the build failed", failed, nil, "build failed"},
		{"the engine failed", nil, full, "loading the image into docker: no space"},
		{"the engine stopped reading", io.ErrClosedPipe, full, "loading the image into docker: no space"},
		{"both failed", failed, full, "build failed"},
	} {
		var read error
		w := &engineWriter{ctx: context.Background(), engine: engine{name: "docker", load: func(_ context.Context, r io.Reader) error {
			_, read = io.ReadAll(r)
			return test.load
		}}}
		if _, err := w.Write([]byte("archive")); err != nil {
			t.Fatal(err)
		}
		checkError(t, test.name, w.finish(test.built), test.want)
		if !errors.Is(read, test.built) {
			t.Errorf("%s: the engine read %v, want %v", test.name, read, test.built)
		}
	}
	if err := (&engineWriter{}).finish(failed); !errors.Is(err, failed) {
		t.Errorf("a build without an archive: %v", err)
	}
}

func TestRunFlags(t *testing.T) {
	t.Setenv("CAIRN_TEST_VARIABLE", "v")
	r, c, entrypoint := &runCommand{}, &cobra.Command{Use: "run"}, ""
	r.flags(c.Flags(), &entrypoint)
	err := c.ParseFlags(strings.Fields("-e A=1 --env=CAIRN_TEST_VARIABLE -e CAIRN_UNSET_VARIABLE -v /:/x:ro --workdir=/w -u me:us --hostname h -it --rm" +
		" --entrypoint=/e --memory=8m --pids-limit=9 --limit=layer-ratio=7 app ls -l -e B=2"))
	o := r.options
	if err != nil || !cmp.Equal(o.Env, []string{"A=1", "CAIRN_TEST_VARIABLE=v"}) || !cmp.Equal(o.Volumes, []string{"/:/x:ro"}) || o.Dir != "/w" || o.User != "me:us" ||
		o.Hostname != "h" || entrypoint != "/e" || o.Resources.Memory != 8*megabyte || o.Resources.PIDs != 9 || r.registries.limits.LayerRatio != 7 {
		t.Errorf("%+v, error %v", o, err)
	}
	if got := c.Flags().Args(); !cmp.Equal(got, []string{"app", "ls", "-l", "-e", "B=2"}) {
		t.Errorf("arguments %q", got)
	}
	for volume, want := range map[string]string{
		"/:/x": "", "/:/x:rw": "", "/x": "want HOST:PATH or HOST:PATH:ro", ":/x": "want HOST:PATH", "/:/x:ro:z": "want HOST:PATH",
		"/:x": `"x" inside the image is not absolute`, "/:/x:z": `option "z": there are no labels of SELinux to change here: leave it out`, "/nosuch:/x": "no such file or directory",
	} {
		checkError(t, volume, checkVolume(volume), want)
	}
	for text, want := range map[string]bool{"abcdef": true, "sha256:012345": true, "abcde": false, "ABCDEF": false, "abcdeg": false, "": false} {
		if isID(text) != want {
			t.Errorf("%q is an ID: %v", text, !want)
		}
	}
}

func TestSmallTexts(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	if got, err := parseUntil("until=48h", now); err != nil || !got.Equal(now.Add(-48*time.Hour)) {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{"RUN a \\\n  b": "RUN a \\ b", "COPY a b # buildkit": "COPY a b", strings.Repeat("x", 70): strings.Repeat("x", 70)} {
		same(t, text, oneStep(text), want)
	}
	for text, want := range map[string]string{"a b": "a b", "a\tb": `"a\tb"`, "\x7f": `"\x7f"`, "ä": "ä"} {
		same(t, text, quoteControls(text), want)
	}
	same(t, "the default host", registryHost(nil), "docker.io")
	same(t, "the host", registryHost([]string{"h"}), "h")
	same(t, "the age of no time", ago(time.Time{}), "N/A")
	for change, want := range map[string]string{"CMD a": "", " env A=b": "", "RUN a": "want one line", "CMD a\nRUN b": "want one line", "": "want one line"} {
		_, err := parseChange(change)
		checkError(t, change, err, want)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	failed := errors.New("failed")
	if err := cause(ctx, failed); !errors.Is(err, failed) {
		t.Error(err)
	}
	cancel(&SignalError{15})
	if err := cause(ctx, failed); !errors.As(err, new(*SignalError)) {
		t.Error(err)
	}
	if err := cause(ctx, nil); err != nil {
		t.Error(err)
	}
	if _, err := interruptibleRead(ctx, func() (string, error) { select {} }); !errors.As(err, new(*SignalError)) {
		t.Errorf("a read without an end: %v", err)
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	for args, want := range map[string]string{
		"version":           "cairn " + versionText() + " go",
		"--version":         "cairn " + versionText() + "\n",
		"help caching":      "Caching\n",
		"help images":       "\nAliases:\n  images, ls\n",
		"images --help":     "-q, --quiet ",
		"help manifest":     "\nRun 'cairn manifest COMMAND --help' for more information on a command.\n",
		"help":              "\nTopics (cairn help TOPIC):\n",
		"":                  "Usage:\n  cairn COMMAND [flags]\n",
		"build --help":      "(default auto)",
		"save --help":       "--format docker|oci ",
		"help manifest add": "cairn manifest add [flags] NAME IMAGE...",
	} {
		if got := p.mustRun(strings.Fields(args)...); !strings.Contains(got, want) {
			t.Errorf("cairn %s: %s\nlacks %q", args, got, want)
		}
	}
	if got := p.mustRun("build", "--help"); strings.Contains(got, "--sbom") {
		t.Error("the help has a hidden flag")
	}
	dir := filepath.Join(t.TempDir(), "man")
	p.mustRun("man", dir)
	for _, name := range []string{"cairn.1", "cairn-build.1", "cairn-manifest-add.1"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.HasPrefix(string(text), ".TH CAIRN") {
			t.Errorf("%s: %.20q, %v", name, text, err)
		}
	}
}
