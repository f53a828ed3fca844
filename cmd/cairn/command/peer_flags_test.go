package command

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/layer"
)

const buildFlagsPage = "../docs/build-flags.md"

// The committed page matches the table.
func TestBuildFlagsPage(t *testing.T) {
	want := BuildFlagsPage()
	if *update {
		if err := os.WriteFile(buildFlagsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(buildFlagsPage); err != nil || string(got) != want {
		t.Errorf("%s differs from the table of flags (%v): run make golden", buildFlagsPage, err)
	}
}

// flagsOf returns the flags of cairn build and the table by name.
func flagsOf(t *testing.T) (*pflag.FlagSet, map[string]peerFlag) {
	t.Helper()
	c, _, err := (&Program{}).Root().Find([]string{"build"})
	if err != nil {
		t.Fatal(err)
	}
	c.InitDefaultHelpFlag()
	known := pflag.NewFlagSet("", pflag.ContinueOnError)
	known.AddFlagSet(c.Flags())
	known.AddFlagSet(c.InheritedFlags())
	table := map[string]peerFlag{}
	for _, f := range peerFlags() {
		if _, ok := table[f.name]; ok {
			t.Errorf("the table has --%s twice", f.name)
		}
		table[f.name] = f
	}
	return known, table
}

// Each row of the table has what its treatment needs, and is a flag of cairn build.
func TestTableOfFlags(t *testing.T) {
	known, table := flagsOf(t)
	for name, f := range table {
		flag := known.Lookup(name)
		switch {
		case flag == nil:
			t.Errorf("cairn build has no --%s", name)
		case (f.does == mapped) != (f.set != nil):
			t.Errorf("--%s is %s: want a function for mapped flags only", name, f.does)
		case f.does != asOwn && (f.text == "" || strings.HasSuffix(f.text, ".")):
			t.Errorf("--%s: text %q: want one without a dot at its end", name, f.text)
		case f.does != asOwn && !flag.Hidden && f.does != mapped:
			t.Errorf("--%s is in the help of cairn build, and is %s", name, f.does)
		case f.short != "" && flag.Shorthand != f.short:
			t.Errorf("--%s has the letter %q, want %q", name, flag.Shorthand, f.short)
		}
	}
}

// The table has each flag of the documented versions of the other programs, and names
// the programs that have it.
func TestTableHasAllFlags(t *testing.T) {
	_, table := flagsOf(t)
	text, err := os.ReadFile("testdata/flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	of := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		program, names, ok := strings.Cut(line, ":")
		if ok && program[0] != '#' {
			for _, name := range strings.Fields(names) {
				of[name] = append(of[name], program)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		f, ok := table[name]
		if want := strings.Join(of[name], " "); !ok || f.of != want {
			t.Errorf("--%s: the table says it is of %q, want %q", name, f.of, want)
		}
	}
	for name := range table {
		if of[name] == nil {
			t.Errorf("--%s is a flag of no program", name)
		}
	}
}

// The table has each flag that the installed programs list in their help.
func TestTableHasInstalledFlags(t *testing.T) {
	_, table := flagsOf(t)
	flag := regexp.MustCompile(`(?m)^ +(?:-(\w), +)?--([a-z][a-z-]+)`)
	for program, args := range map[string]string{"docker": "build --help", "podman": "build --help", "buildah": "build --help"} {
		t.Run(program, func(t *testing.T) {
			if _, err := exec.LookPath(program); err != nil {
				t.Skipf("%s is not installed: .ci/packages installs it", program)
			}
			cmd := exec.Command(program, strings.Fields(args)...)
			cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "HOME="+t.TempDir())
			out, err := cmd.Output()
			if err != nil {
				t.Skipf("%s %s: %v", program, args, err)
			}
			found := flag.FindAllStringSubmatch(string(out), -1)
			if len(found) < 20 {
				t.Errorf("%s %s lists %d flags:\n%s", program, args, len(found), out)
			}
			for _, m := range found {
				f, ok := table[m[2]]
				if !ok || !strings.Contains(f.of, program) {
					t.Errorf("the table has no --%s of %s", m[2], program)
				}
			}
		})
	}
}

func TestQuietFlags(t *testing.T) {
	for _, args := range []string{
		"--rm", "--rm=false", "--force-rm", "--force-rm=true", "--compress", "--disable-content-trust", "--disable-content-trust=true",
		"--security-opt label=disable", "--security-opt apparmor=unconfined", "--squash=false", "--policy disabled=true", "--layers", "--layers=true",
		"--retry 3 --retry-delay 2s", "--identity-label=false", "--created-annotation=false", "--userns=host", "--ipc=private", "--cap-add CAP_CHOWN,net_raw",
		"--skip-unused-stages=true", "--inherit-labels=true", "--rewrite-timestamp", "--provenance=0", "--sbom=false", "--loglevel 3", "--no-hosts=false", "-v /dev:/x:ro,Z", "-v /dev:/x:O", "-f a --file a",
	} {
		b, err := parseBuild(strings.Fields(args)...)
		if err != nil || len(b.notices) > 0 {
			t.Errorf("%s: %v, notices %q", args, err, b.notices)
		}
	}
}

func TestNotices(t *testing.T) {
	for args, want := range map[string]string{
		"--layers=false":             "--layers has no effect: each instruction makes a layer, and steps are cached: use --squash for one layer, --no-cache to run all steps",
		"-v /dev:/x":                 "--volume /dev:/x is read-only: steps can't write to files of this machine",
		"--runtime crun":             "--runtime has no effect: cairn runs steps itself",
		"--network=bridge":           "--network=bridge: steps use the network of this machine",
		"--network=slirp4netns:a=b":  "--network=slirp4netns:a=b: steps use",
		"--skip-unused-stages=false": "--skip-unused-stages has no effect: only stages that the image needs are built",
		"--tls-verify=false":         "--tls-verify=false has no effect, as no name on the command line has a registry: use --insecure-registry HOST",
		"--tls-verify=false -t app":  "--tls-verify=false has no effect",
	} {
		b, err := parseBuild(strings.Fields(args)...)
		if err != nil || len(b.notices) != 1 || !strings.HasPrefix(b.notices[0], want) {
			t.Errorf("%s: %v, notices %q, want %q", args, err, b.notices, want)
		}
	}
}

func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--security-opt seccomp=unconfined":   `--security-opt "seccomp=unconfined": steps always run with the seccomp filter`,
		"--policy filename=a.rego":            `--policy "filename=a.rego": cairn does not evaluate policies: `,
		"--disable-content-trust=false":       "can't verify the signatures of Docker Content Trust",
		"--sign-by ABC":                       "cairn does not verify or make signatures of images",
		"--signature-policy p.json":           "cairn does not verify or make signatures",
		"--source-policy-file p.json":         "cairn does not evaluate source policies",
		"--decryption-key k":                  "encrypted images are not supported",
		"--cw type=snp":                       "confidential workloads are not supported",
		"--hooks-dir /h":                      "no OCI runtime",
		"--device /dev/fuse":                  "CDI devices are not supported",
		"--userns=keep-id":                    "steps run in the user namespace of cairn itself",
		"--pid=host":                          "namespaces of a step are its own",
		"--cap-add SYS_ADMIN":                 "a step can't have SYS_ADMIN: use --allow security.insecure with RUN --security=insecure",
		"--cap-add all":                       "a step can't have ALL",
		"--cap-add chown --cap-drop CHOWN":    "--cap-add and --cap-drop both name CHOWN",
		"--cap-drop no":                       `there is no capability "NO"`,
		"--volume /etc":                       "want HOST:PATH or HOST:PATH:OPTIONS",
		"--volume data:/x":                    "there are no named volumes",
		"-v /etc:x":                           "want an absolute path in the image",
		"-v /etc:/":                           "want an absolute path in the image",
		"-v /nosuch:/x":                       "no such file",
		"-v /dev/null:/x":                     "/dev/null is neither a directory nor a regular file",
		"-v /etc:/x:rw":                       "steps can't write to files of this machine: use ro, O",
		"-v /etc:/x:Z,U":                      "the owners of files of this machine are not changed",
		"-v /etc:/x:noexec":                   `option "noexec": want ro, O, z or Z`,
		"-f a -f b":                           `"a" was specified before: docker would take the last file, and podman would join them`,
		"--group-add=":                        "want the name or number of a group",
		"--cpuset-cpus 0,1":                   "start cairn with taskset or numactl",
		"--builder x":                         "has no builder instances",
		"--attest type=sbom":                  "attestations are not supported yet",
		"--sbom":                              "attestations are not supported yet",
		"--provenance=mode=max":               "attestations are not supported yet",
		"--cache-ttl 24h":                     "results in the cache have no largest age",
		"--cache-ttl x":                       "want a duration",
		"--dns none":                          `"none": want the IP address of a server`,
		"--dns-search=":                       "want one word",
		"--from A":                            "lower case",
		"--env =x":                            "want NAME=VALUE or NAME",
		"--rm=maybe":                          "want true or false",
		"--pull=sometimes":                    "want one of always, newer, missing, never",
		"--network=ns:/x":                     "want one of default, none, host",
		"--format oci2":                       "want oci or docker",
		"--compression-format zstd:chunked":   "zstd:chunked",
		"--compression-level 1,push=true":     "want one word",
		"--timestamp x":                       "want seconds since 1970",
		"--timestamp 1 --source-date-epoch 2": "another flag says 1",
		"--timestamp 1 --build-arg SOURCE_DATE_EPOCH=2": "contradicts",
		"--platform linux/amd64 --arch arm64":           "--platform and --os, --arch or --variant exclude each other",
		"--arch linux/arm64":                            "want one name",
		"--resource memory":                             `"memory": want NAME=VALUE with one of memory, `,
		"--resource disk=1":                             `"disk=1": want NAME=VALUE with one of`,
		"--resource memory=1":                           "memory=1: want 6m or more",
		"--resource cpuset-cpus=0,1":                    "start cairn with taskset or numactl",
		"--print nothing":                               "want one of build, check, outline, targets",
		"--creds me":                                    "--creds: want USER:PASSWORD",
		"--creds me:secret":                             "--creds: the names on the command line are of no registry: use cairn login for each registry",
		"--creds me:secret -t a/b -t r.example/b":       "are of several registries, docker.io, r.example",
		"--cert-dir /nosuch -t r.example/b":             "--cert-dir: open /nosuch: no such file",
		"--build-arg-file /nosuch":                      "no such file",
		"--manifest A":                                  "lower case",
		"--logfile=":                                    "the value is empty",
	} {
		b, err := parseBuild(strings.Fields(args)...)
		checkError(t, args, err, want)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", args, err)
		}
		_ = b
	}
}

func TestMappedFlags(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "")
	t.Setenv("http_proxy", "http://proxy:1")
	dir := t.TempDir()
	args, certs := filepath.Join(dir, "args"), filepath.Join(dir, "certs")
	if err := errors.Join(os.WriteFile(args, []byte("# comment\n\nA=1\r\nB=2 = x\nHTTPS_PROXY\nCAIRN_UNSET_VARIABLE\n"), 0o644), os.Mkdir(certs, 0o755),
		os.WriteFile(filepath.Join(certs, "ca.crt"), nil, 0o644), os.WriteFile(filepath.Join(certs, "me.cert"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for line, ok := range map[string]func(b *buildCommand) bool{
		"-D":            func(b *buildCommand) bool { return b.chooseProgress() == nil && b.progress == "plain" },
		"--debug=false": func(b *buildCommand) bool { return b.chooseProgress() == nil && b.progress == "auto" },
		"--print=lint":  func(b *buildCommand) bool { return b.call.Method == "check" },
		"--resource memory=2g,cpu-quota=50000 --resource cpu-shares=5": func(b *buildCommand) bool {
			r := b.options.StepResources
			return r.Memory == 2<<30 && r.Quota == 50000 && r.Shares == 5
		},
		"--platform local":                func(b *buildCommand) bool { return b.options.Platforms[0].Full() == layer.HostPlatform().Full() },
		"--arch arm --variant v6":         func(b *buildCommand) bool { return b.options.Platforms[0].String() == "linux/arm/v6" },
		"--os windows --arch amd64":       func(b *buildCommand) bool { return b.options.Platforms[0].String() == "windows/amd64" },
		"--format docker":                 func(b *buildCommand) bool { return b.options.DockerTypes },
		"--format oci -o type=oci,dest=x": func(b *buildCommand) bool { return !b.options.DockerTypes },
		"--compression-format zstd --compression-level 5 --force-compression": func(b *buildCommand) bool {
			c := b.options.Compression
			return c.Format == "zstd" && c.Level == 5 && c.Force
		},
		"--timestamp 5":         func(b *buildCommand) bool { return b.options.Args["SOURCE_DATE_EPOCH"] == "5" },
		"--source-date-epoch 0": func(b *buildCommand) bool { return b.options.Args["SOURCE_DATE_EPOCH"] == "0" },
		"--pull":                func(b *buildCommand) bool { return b.options.Pull && !b.options.PullNever },
		"--pull=never":          func(b *buildCommand) bool { return !b.options.Pull && b.options.PullNever },
		"--pull-never":          func(b *buildCommand) bool { return b.options.PullNever },
		"--pull --pull=missing": func(b *buildCommand) bool { return !b.options.Pull && !b.options.PullNever },
		"--pull-always":         func(b *buildCommand) bool { return b.options.Pull },
		"--pull=newer":          func(b *buildCommand) bool { return b.options.Pull },
		"--cache-ttl 0":         func(b *buildCommand) bool { return b.options.NoCache },
		"--http-proxy": func(b *buildCommand) bool {
			return b.options.Args["http_proxy"] == "http://proxy:1" && len(b.options.Args) >= 1
		},
		"--http-proxy=false": func(b *buildCommand) bool { return len(b.options.Args) == 0 },
		"--build-arg B=3 --build-arg-file " + args: func(b *buildCommand) bool {
			return maps.Equal(b.options.Args, map[string]string{"A": "1", "B": "3", "HTTPS_PROXY": ""})
		},
		"--creds me:pass:word -t r.example/a -t r.example/b": func(b *buildCommand) bool {
			return *b.registries.login == login{"r.example", "me", "pass:word"}
		},
		"--tls-verify=false -t r.example:5/a -o type=image,name=app": func(b *buildCommand) bool {
			return slices.Equal(b.registries.alsoLenient, []string{"r.example:5"})
		},
		"--cert-dir " + certs + " -t r.example/a": func(b *buildCommand) bool {
			return slices.Equal(b.registries.authorities["r.example"], []string{certs + "/ca.crt"}) && b.registries.certs["r.example"].Key == certs+"/me.key"
		},
		"--squash":     func(b *buildCommand) bool { return b.options.Squash && !b.options.SquashAll },
		"--squash-all": func(b *buildCommand) bool { return b.options.SquashAll },
		"--from a:1 --unsetenv A --unsetlabel L": func(b *buildCommand) bool {
			o := b.options
			return o.From == "a:1" && slices.Equal(o.UnsetEnv, []string{"A"}) && slices.Equal(o.UnsetLabels, []string{"L"})
		},
		"--env A=b=c --env http_proxy --env CAIRN_UNSET_VARIABLE": func(b *buildCommand) bool {
			return slices.Equal(b.options.Env, []dockerfile.Pair{{Key: "A", Value: "b=c"}, {Key: "http_proxy", Value: "http://proxy:1"}})
		},
		"--dns 10.0.0.1,::1 --dns-search a.example --dns-option ndots:1": func(b *buildCommand) bool {
			return strings.HasSuffix(b.options.ResolvConf, "nameserver 10.0.0.1\nnameserver ::1\nsearch a.example\noptions ndots:1\n")
		},
		"--ignorefile x": func(b *buildCommand) bool { return b.options.IgnoreFile == "x" },
		"--iidfile-raw x --logfile y --manifest z": func(b *buildCommand) bool {
			return b.peer.rawIDFile == "x" && b.peer.logFile == "y" && b.peer.manifest == "z"
		},
	} {
		b, err := parseBuild(strings.Fields(line)...)
		if err != nil || len(b.notices) > 0 || !ok(b) {
			t.Errorf("%s: %v, notices %q, options %+v", line, err, b.notices, b.options)
		}
	}
}

// A policy of buildx beside the Dockerfile is not ignored in silence.
func TestPolicyBesideDockerfile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile.rego"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"": "Dockerfile.rego is a policy of buildx, which cairn does not evaluate", "-f -": "", "--policy disabled=true": "",
		"-f " + dir + "/Dockerfile": "Dockerfile.rego is a policy", "-f " + dir + "/other": "",
	} {
		b, err := parseBuild(strings.Fields(args)...)
		if err != nil {
			continue
		}
		b.options.Context = dir
		checkError(t, args, b.checkPolicyFile(), want)
	}
}

func TestResolvConf(t *testing.T) {
	t.Parallel()
	const have = "# made\nnameserver 1.1.1.1\ndomain old\nsearch old.example\noptions rotate\n"
	for _, test := range []struct {
		dns  dns
		want string
	}{
		{dns{servers: []string{"10.0.0.1", "10.0.0.2"}}, "# made\ndomain old\nsearch old.example\noptions rotate\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n"},
		{dns{search: []string{"a", "b"}}, "# made\nnameserver 1.1.1.1\noptions rotate\nsearch a b\n"},
		{dns{search: []string{"."}, options: []string{"ndots:1"}}, "# made\nnameserver 1.1.1.1\noptions ndots:1\n"},
	} {
		same(t, "resolv.conf", test.dns.replace(have), test.want)
	}
	if text, err := new(dns).file(); text != "" || err != nil {
		t.Errorf("without values: %q, %v", text, err)
	}
}
