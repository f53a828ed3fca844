package command

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/layer/store"
)

// testProgram is a program with an empty store and without a sandbox.
type testProgram struct {
	t              *testing.T
	root           string
	stdin          *os.File
	stdout, stderr bytes.Buffer
	program        *Program // of the last command
}

func newTestProgram(t *testing.T) *testProgram {
	t.Helper()
	return &testProgram{t: t, root: t.TempDir(), stdin: fileWith(t, "")}
}

// fileWith returns an open file with the content.
func fileWith(t *testing.T, content string) *os.File {
	t.Helper()
	name := t.TempDir() + "/file"
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// run runs a command in the store of the test and returns its standard output.
func (p *testProgram) run(args ...string) (string, error) {
	p.t.Helper()
	p.stdout.Reset()
	p.stderr.Reset()
	p.program = p.newProgram()
	_, err := p.program.Execute(append([]string{"--root", p.root}, args...))
	return p.stdout.String(), err
}

func (p *testProgram) newProgram() *Program {
	return &Program{
		Stdin: p.stdin, Stdout: &p.stdout, Stderr: &p.stderr,
		Interruptible: func(ctx context.Context) (context.Context, func()) { return ctx, func() {} },
		entered:       &sandbox.Isolation{Mode: sandbox.Namespaces},
	}
}

// mustRun runs a command that has to succeed.
func (p *testProgram) mustRun(args ...string) string {
	p.t.Helper()
	out, err := p.run(args...)
	if err != nil {
		p.t.Fatalf("cairn %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// withStore calls f with the store of the program.
func (p *testProgram) withStore(f func(*store.Store)) {
	p.t.Helper()
	s, err := store.Open(p.root)
	if err != nil {
		p.t.Fatal(err)
	}
	f(s)
	if err := s.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// add stores an image with its layers under the reference.
func (p *testProgram) add(ref string, img imagetest.Image) {
	p.t.Helper()
	p.withStore(func(s *store.Store) {
		for _, l := range img.Layers {
			if err := s.PutBlob(l.Digest, l.Size, bytes.NewReader(img.Blobs[l.Digest])); err != nil {
				p.t.Fatal(err)
			}
			if err := s.AddLayer(l); err != nil {
				p.t.Fatal(err)
			}
		}
		if err := s.Tag(ref, img.Image); err != nil {
			p.t.Fatal(err)
		}
	})
}

// imageOf returns an image without layers that has the config.
func imageOf(t *testing.T, config string) layer.Image {
	t.Helper()
	img, err := layer.NewImage([]byte(config), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// checkError checks that the error contains the text, or that it is nil if the text is
// empty.
func checkError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: error %v, want %q", name, err, want)
	}
}

// isUsage reports whether the exit status of the error is ExitUsage.
func (p *testProgram) isUsage(err error) bool {
	var usage *UsageError
	return !p.program.Started() || errors.As(err, &usage)
}

// Errors of the command line have another exit status than those of the command.
func TestKindsOfErrors(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	for _, test := range []struct {
		args  string
		usage bool
		err   string
	}{
		{"imges", true, `unknown command "imges" for "cairn"`},
		{"images a b", true, `unexpected argument "b": want only NAME`},
		{"images --nosuch", true, "unknown flag: --nosuch"},
		{"images --digest", true, "unknown flag: --digest (did you mean --digests?)"},
		{"images -x", true, "unknown flag: -x"},
		{"images --format", true, "flag needs an argument: --format FORMAT"},
		{"images --format {{.Nosuch}} nosuch", false, ""}, // no image, no field
		{"images --format {{", true, `--format: unexpected "{" in command`},
		{"images app:", true, "no tag after the colon"},
		{"images App", true, "lower case"},
		{"--isolation vm images", true, `--isolation "vm": want one of auto, `},
		{"tag a", true, "NAME is missing: want IMAGE NAME"},
		{"tag nosuch b", false, "image nosuch is not in the store"},
		{"rm", true, "IMAGE is missing"},
		{"rm nosuch", false, "image nosuch is not in the store"},
		{"inspect", true, "IMAGE is missing"},
		{"inspect --platform linux/ a", true, `--platform "linux/": `},
		{"inspect nosuch", false, "image nosuch is not in the store"},
		{"info x", true, `unexpected argument "x": the command has no arguments`},
		{"cache --explain --format json", true, "[explain format]"},
		{"cache --explain nosuch", false, `no cached step matches "nosuch": list them with cairn cache`},
		{"prune", true, "standard input is not a terminal to prompt on: add --force"},
		{"prune --filter label=a", true, "the only filter is until=AGE"},
		{"prune --filter until=x", true, "want an age, such as until=48h"},
		{"prune --filter until=-1h", true, "want an age, such as until=48h"},
		{"prune --keep-storage 0", true, "--all removes all data that no image needs"},
		{"prune --all --keep-storage 1GB", true, "[all keep-storage]"},
		{"prune --all --filter until=1h", true, "[all filter]"},
		{"build", true, "the build context is missing: specify a directory, such as ."},
		{"build a b", true, `unexpected argument "b": want only CONTEXT`},
		{"build --push .", true, "--push needs a name to push to: add --tag"},
		{"build --jobs 0 .", true, `--jobs "0": want a number of at least 1`},
		{"run", true, "IMAGE is missing: want IMAGE [COMMAND [ARG...]]"},
		{"run Upper/Case", true, "lower case"},
		{"run --cpus=1 --cpu-quota=1000 a", true, "cpu-quota"},
		{"save", true, "IMAGE is missing"},
		{"save --format zip a", true, `--format "zip": want one of docker, oci`},
		{"import", true, "FILE is missing: want FILE|URL|- [NAME[:TAG]]"},
		{"import a b c", true, `unexpected argument "c": want only FILE|URL|- [NAME[:TAG]]`},
		{"import a B", true, "lower case"},
		{"import --change RUN a", true, "want one line with one of CMD, "},
		{"manifest", false, ""}, // the help
		{"manifest creat", true, `unknown command "creat" for "cairn manifest" (did you mean create?)`},
		{"manifest create", true, "NAME is missing: want NAME IMAGE..."},
		{"manifest create a", true, "IMAGE is missing: want NAME IMAGE..."},
		{"manifest create A b", true, "lower case"},
		{"manifest push", true, "NAME is missing: want NAME [DESTINATION]"},
		{"manifest push a b c", true, `unexpected argument "c": want only NAME [DESTINATION]`},
		{"manifest push nosuch", false, "image nosuch is not in the store"},
		{"manifest inspect --raw --format json a", true, "--raw and --format exclude each other"},
		{"registry serv", true, `unknown command "serv" for "cairn registry" (did you mean serve?)`},
		{"registry serve --addr 5000", true, `--addr "5000": want HOST:PORT`},
		{"login --password x", true, "--password needs --username"},
		{"login", true, "standard input is not a terminal to prompt on"},
		{"login --password-stdin", true, "--password-stdin needs --username"},
		{"login --password-stdin -u me", true, "standard input has no password"},
		{"completion", true, "SHELL is missing: want SHELL"},
		{"completion tcsh", true, `shell "tcsh": want bash, zsh or fish`},
		{"help nosuch", true, `unknown command or topic "nosuch"`},
		{"help imags", true, `unknown command or topic "imags" (did you mean images?)`},
		{"diff a", true, "B is missing: want A B"},
		{"diff --format xml a b", true, `--format "xml": want one of text, json`},
	} {
		_, err := p.run(strings.Fields(test.args)...)
		checkError(t, test.args, err, test.err)
		if err != nil && p.isUsage(err) != test.usage {
			t.Errorf("%s: an error of the command line: %v, want %v (%v)", test.args, !test.usage, test.usage, err)
		}
	}
}

// Diff has an exit status of its own for errors, since 1 is a difference.
func TestDiffStatus(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	p.add("docker.io/library/a:latest", imagetest.New(t, "amd64", false, "one"))
	p.add("docker.io/library/b:latest", imagetest.New(t, "amd64", false, "two"))
	var status *StatusError
	if _, err := p.run("diff", "a", "a"); err != nil || p.stdout.Len() > 0 {
		t.Errorf("an image and itself: error %v, %q", err, p.stdout.String())
	}
	out, err := p.run("diff", "a", "b")
	if !errors.As(err, &status) || status.Code != ExitFailed || !strings.Contains(out, "layer 1\n") || !strings.Contains(out, "  /f0: content\n") {
		t.Errorf("two images: error %v, %q", err, out)
	}
	out, err = p.run("diff", "--format", "json", "a", "b")
	if !errors.As(err, &status) || status.Code != ExitFailed || !strings.Contains(out, `"path":"/f0","what":"content","a":"sha256:`) {
		t.Errorf("two images in JSON: error %v, %q", err, out)
	}
	if _, err = p.run("diff", "a", "./nosuch"); !errors.As(err, &status) || status.Code != exitNotCompared || !strings.HasPrefix(p.stderr.String(), "error: ") {
		t.Errorf("a missing archive: error %v, %q", err, p.stderr.String())
	}
}

// Commands give, list and remove the names of images in the store.
func TestNamesOfImages(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	img, other := imagetest.New(t, "arm64", false, "one", "two"), imagetest.New(t, "amd64", true, "three")
	id, otherID := img.ConfigDigest.Hex()[:12], other.ConfigDigest.Hex()[:12]
	p.add("docker.io/library/app:1", img)
	p.add("registry.example/team/other:latest", other)
	names := func(args ...string) string {
		t.Helper()
		out := strings.Fields(p.mustRun(append([]string{"images", "--format", "{{.Repository}}:{{.Tag}}"}, args...)...))
		return strings.Join(out, " ")
	}
	if got := names("app"); got != "app:1" {
		t.Errorf("images of app: %q", got)
	}
	if got := names("app:2"); got != "" {
		t.Errorf("images of app:2: %q", got)
	}
	if got := names("registry.example/team/other"); got != "registry.example/team/other:latest" {
		t.Errorf("images of other: %q", got)
	}
	p.mustRun("tag", "app:1", "app:2")
	p.mustRun("tag", otherID, "third")
	if got := p.mustRun("images", "-q", "app"); got != id+"\n" {
		t.Errorf("IDs of app: %q, want each once: %s", got, id)
	}
	if got := p.mustRun("images", "-q", "--no-trunc", "third"); got != string(other.ConfigDigest)+"\n" {
		t.Errorf("long ID: %q", got)
	}
	out, err := p.run("rm", "app:1", "nosuch", "third")
	if out != "removed app:1\nremoved third:latest\n" || err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("rm: %q, error %v", out, err)
	}
	if out := p.mustRun("rm", id); out != "removed app:2\n" {
		t.Errorf("rm of the ID: %q", out)
	}
	p.add("<none>@"+string(img.Digest), img)
	if out := p.mustRun("images", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"); !strings.Contains(out, "<none> <none> "+string(img.Digest)+"\n") {
		t.Errorf("an image without a name: %q", out)
	}
	if out := p.mustRun("rm", id); out != "removed "+string(img.Digest)+"\n" {
		t.Errorf("rm of an image without a name: %q", out)
	}
}

func TestInspectInStore(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	img := imagetest.New(t, "arm64", false, "one")
	p.add("docker.io/library/app:1", img)
	for format, want := range map[string]string{
		"manifest":                               string(img.Manifest),
		"config":                                 string(img.Config),
		"{{.Name}} {{.ID}} {{.Digest}}":          "app:1 " + string(img.ConfigDigest) + " " + string(img.Digest) + "\n",
		`{{join .Config.Cmd "+"}} {{.Platform}}`: "/f0 linux/arm64\n",
		"{{json .Config.Cmd}} {{upper .Name}}":   "[\"/f0\"] APP:1\n",
		"{{lower .MediaType}}":                   layer.MediaTypeManifest + "\n",
	} {
		if got := p.mustRun("inspect", "--format", format, "app:1"); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
	if got := p.mustRun("inspect", "app:1"); !strings.HasPrefix(got, "Name:        app:1\nID:          "+string(img.ConfigDigest)+"\n") || !strings.Contains(got, "Command:     [\"/f0\"]\n") {
		t.Errorf("inspect: %s", got)
	}
	if got := strings.Count(p.mustRun("inspect", "app:1", img.ConfigDigest.Hex()[:12]), "\n\nName: "); got != 1 {
		t.Errorf("%d blank lines between two images", got)
	}
}

// An index is inspected as a whole, or the image for a platform in it.
func TestInspectIndex(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	amd, arm := imageOf(t, `{"os":"linux","architecture":"amd64"}`), imageOf(t, `{"os":"linux","architecture":"arm64"}`)
	set, err := layer.NewIndex([]layer.Image{amd, arm}, map[string]string{"a": "b"}, false)
	if err != nil {
		t.Fatal(err)
	}
	p.withStore(func(s *store.Store) {
		if err := s.TagIndex("docker.io/library/many:latest", set); err != nil {
			t.Fatal(err)
		}
	})
	if got, want := p.mustRun("inspect", "-f", "{{.Digest}}{{range .Images}} {{.Platform}} {{.Digest}}{{end}}", "many"),
		string(set.Digest)+" linux/amd64 "+string(amd.Digest)+" linux/arm64 "+string(arm.Digest)+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := p.mustRun("inspect", "-f", "{{.Digest}} {{len .Images}}", "--platform", "linux/arm64", "many"), string(arm.Digest)+" 0\n"; got != want {
		t.Errorf("of a platform: %q, want %q", got, want)
	}
	_, err = p.run("inspect", "--platform", "linux/s390x", "many")
	checkError(t, "a missing platform", err, "many has no image for linux/s390x: want linux/amd64,linux/arm64")
	if got := p.mustRun("images", "--format", "{{.Platform}} {{.Digest}}"); got != "linux/amd64,linux/arm64 "+string(set.Digest)+"\n" {
		t.Errorf("images: %q", got)
	}
	if got := p.mustRun("manifest", "inspect", "--raw", "many"); got != string(set.Raw) {
		t.Errorf("manifest inspect --raw: %q", got)
	}
	got := p.mustRun("manifest", "inspect", "many")
	for _, want := range []string{"Name:        many:latest\n", "Annotation:  a=b\n", "Image:       " + string(arm.Digest) + " linux/arm64\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("manifest inspect: %s\nwant %q", got, want)
		}
	}
	if got := p.mustRun("manifest", "inspect", "-f", "{{range .Manifests}}{{.Platform}} {{end}}", "many"); got != "linux/amd64 linux/arm64 \n" {
		t.Errorf("manifest inspect --format: %q", got)
	}
	_, err = p.run("manifest", "push", "nosuch")
	checkError(t, "push of an unknown index", err, "nosuch is not in the store")
}

// The commands about the store work on an empty one, and check finds a damaged blob.
func TestCommandsAboutStore(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	if got := p.mustRun("images"); got != "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n" {
		t.Errorf("images: %q", got)
	}
	if got := p.mustRun("images", "--format", "json"); got != "null\n" {
		t.Errorf("images in JSON: %q", got)
	}
	if got := p.mustRun("cache"); !strings.HasSuffix(got, "\n0 results, 0B of layers\n") {
		t.Errorf("cache: %q", got)
	}
	if got := p.mustRun("cache", "--format", "json"); got != "[]\n" {
		t.Errorf("cache in JSON: %q", got)
	}
	if got := p.mustRun("cache", "--explain"); got != "" {
		t.Errorf("cache --explain: %q", got)
	}
	img := imagetest.New(t, "amd64", false, "one")
	p.add("docker.io/library/app:1", img)
	if got := p.mustRun("check", "-q"); !strings.HasPrefix(got, "checked ") || !strings.Contains(got, " 1 images") || !strings.HasSuffix(got, ": 0 wrong\n") {
		t.Errorf("check: %q", got)
	}
	if got := p.mustRun("prune", "--force"); !strings.HasPrefix(got, "removed 0 blobs, 0 trees, 0 records; freed 0B\n") {
		t.Errorf("prune: %q", got)
	}
	blob := p.root + "/blobs/sha256/" + img.Layers[0].Digest.Hex()
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := p.run("check", "-q")
	checkError(t, "check of a damaged store", err, "the store is damaged: repair it with cairn check --repair")
	if !strings.Contains(got, "blob "+string(img.Layers[0].Digest)) || !strings.Contains(got, "; needed by app:1") || !strings.HasSuffix(got, ": 1 wrong\n") {
		t.Errorf("check: %q", got)
	}
	if got := p.mustRun("check", "-q", "--repair"); !strings.Contains(got, "; dropped") {
		t.Errorf("check --repair: %q", got)
	}
}

// An error about standard input does not name the temporary file with its content.
func TestStdin(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	for content, want := range map[string]string{
		"":                              "loading standard input: it is neither a Docker archive nor an OCI layout",
		"short":                         "standard input is not a tar archive: want one of images, as from cairn save",
		strings.Repeat("not a tar", 99): "standard input is not a tar archive: want one of images, as from cairn save",
	} {
		p.stdin = fileWith(t, content)
		_, err := p.run("load")
		checkError(t, "load", err, want)
		_, err = p.run("load", "-i", p.stdin.Name())
		checkError(t, "load -i", err, strings.Replace(want, "standard input", p.stdin.Name(), 1))
		p.stdin = fileWith(t, content)
		_, err = p.run("import", "-")
		checkError(t, "import", err, "standard input is not a tar archive: want one of a filesystem, as from cairn export")
		if err != nil && strings.Contains(err.Error(), p.root) {
			t.Errorf("import: the error names a file of the store: %v", err)
		}
	}
}

func TestPasswordFromStdin(t *testing.T) {
	t.Parallel()
	l := &loginCommand{Program: &Program{}, user: "me", passwordStdin: true}
	for content, want := range map[string]string{
		"password\r\n": "password", " a b ": " a b ", strings.Repeat("x", maxPassword): strings.Repeat("x", maxPassword),
		"\n": "", strings.Repeat("x", maxPassword+1): "",
	} {
		l.Stdin = fileWith(t, content)
		got, err := l.readPassword(context.Background(), "host")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %.20q, error %v", content, got, err)
		}
	}
}

// Completion offers the images of the store for the first argument.
func TestCompleteImages(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	img := imagetest.New(t, "amd64", false, "one")
	p.add("docker.io/library/app:1", img)
	p.add("<none>@"+string(img.Digest), img)
	for args, want := range map[string]string{
		"inspect ":            "app:1\n:4\n",
		"inspect app:1 ":      ":0\n",
		"inspect --format ":   "json\nmanifest\nconfig\n:4\n",
		"build --progress ":   "auto\ntty\nplain\nquiet\nrawjson\nnone\n:4\n",
		"build --call ":       "build\ncheck\noutline\ntargets\n:4\n",
		"build ":              ":0\n",
		"images --isolation ": "auto\nnamespaces\nrootless\ngvisor\nchroot\n:4\n",
	} {
		words := strings.Split(args, " ")
		if got := p.mustRun(append([]string{"__completeNoDesc"}, words...)...); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	if got := p.mustRun("__completeNoDesc", "help", ""); !strings.Contains(got, "build\n") || !strings.Contains(got, "caching\n") || strings.Contains(got, "man\n") {
		t.Errorf("help: %q, want commands and topics", got)
	}
	for shell, want := range map[string]string{"bash": "__start_cairn", "zsh": "#compdef cairn", "fish": "complete -c cairn"} {
		if got := p.mustRun("completion", shell); !strings.Contains(got, want) {
			t.Errorf("the script for %s lacks %s", shell, want)
		}
	}
}

// A bad reference is an error in usage, of each command. IDs are no references.
func TestBadReferences(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	id := strings.Repeat("ab", 32)
	for _, args := range []string{
		"tag BAD x", "tag x BAD", "rm BAD", "rm x BAD", "push BAD", "pull BAD", "pull docker://BAD", "inspect BAD", "save BAD", "export BAD", "run BAD", "images BAD",
		"manifest push BAD", "manifest push x BAD", "manifest inspect BAD", "manifest inspect docker://BAD", "manifest create x BAD",
		"manifest create BAD x", "manifest add x docker://BAD", "build --build-context x=docker-image://BAD .",
	} {
		_, err := p.run(strings.Fields(args)...)
		checkError(t, args, err, "the name must be lower case: bad")
		var usage *UsageError
		if !errors.As(err, &usage) && p.program.Started() {
			t.Errorf("%s: %v is no error in usage", args, err)
		}
	}
	for _, args := range []string{"inspect " + id, "save sha256:" + id, "tag " + id + " x", "rm " + id, "export " + id} {
		_, err := p.run(strings.Fields(args)...)
		checkError(t, args, err, " is not in the store")
	}
	_, err := p.run("inspect", "docker://app")
	checkError(t, "inspect docker://app", err, `image reference "docker://app": leave out docker://`)
}

// The error of an unknown field has the known ones.
func TestUnknownField(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	p.add("docker.io/library/app:1", imagetest.New(t, "amd64", false, "one"))
	for args, want := range map[string]string{
		"images {{.Name}}":                        "at <.Name>: there is no field Name: want one of Repository, Tag, ID, Digest, Platform, Created, Tagged, Size",
		"inspect {{.Config.Nothing}}":             "there is no field Nothing: want one of User, ExposedPorts, Env, ",
		"inspect {{.Platform.Arch}}":              "there is no field Arch: want one of OS, Architecture, ",
		"inspect {{.Created.Nothing}}":            "there is no field Nothing",
		"inspect {{range .Layers}}{{.ID}}{{end}}": "there is no field ID: want one of MediaType, Digest, Size",
	} {
		words := strings.Fields(args)
		command, format := words[0], strings.Join(words[1:], " ")
		args := []string{command, "--format", format}
		if command == "inspect" {
			args = append(args, "app:1")
		}
		_, err := p.run(args...)
		checkError(t, format, err, want)
	}
}

// Output that cannot be written is an error of every command, and not one of the command
// line.
func TestOutputNotWritten(t *testing.T) {
	t.Parallel()
	p, dir := newTestProgram(t), t.TempDir()
	if err := os.WriteFile(dir+"/Dockerfile", []byte("FROM scratch AS one\nARG x\ncopy . /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	for _, args := range []string{
		"", "--help", "--version", "help", "help build", "help caching", "build --help", "manifest", "registry", "version",
		"completion bash", "completion zsh", "completion fish", "images", "images --format json", "cache",
		"build --check " + dir, "build --call=targets " + dir, "build --call=outline " + dir, "build --call=check,format=json " + dir,
	} {
		program := p.newProgram()
		program.Stdout = failingWriter{full}
		_, err := program.Execute(append([]string{"--root", p.root}, strings.Fields(args)...))
		if !errors.Is(err, full) || !program.Started() {
			t.Errorf("%s: error %v, started %v", args, err, program.Started())
		}
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }
