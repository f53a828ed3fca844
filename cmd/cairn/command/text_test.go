package command

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagediff"
	"github.com/cairn-build/cairn/layer/store"
)

// digest returns a digest of which all digits are c.
func digest(c string) layer.Digest { return layer.Digest("sha256:" + strings.Repeat(c, 64)) }

// same reports an error if a text is not the wanted one.
func same(t *testing.T, name, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	file := &dockerfile.File{Name: "Dockerfile", Text: []byte("FROM a\nRUN curl https://me:secret@host/\nRUN b\n")}
	at := file.At(errors.New("exit status 7"), dockerfile.Range{First: 2, Last: 2})
	excerpt := "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN curl https://xxxxx:xxxxx@host/\n   3 |     RUN b\n   4 |     \n--------------------\n"
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"plain", errors.New("failed"), "error: failed\n"},
		{"control characters", errors.New("a\x1b[31mb"), "error: a"},
		{"password", errors.New("get https://me:secret@host/"), "error: get https://xxxxx:xxxxx@host/\n"},
		{"position", fmt.Errorf("build: %w", at), excerpt + "error: build: Dockerfile:2: exit status 7\n"},
		{"whole file", file.At(errors.New("empty")), "error: Dockerfile: empty\n"},
		{"step", &builder.StepError{Name: "[2/3] RUN curl", Tail: []string{"one", "two"}, Err: at}, "------\n > [2/3] RUN curl:\none\ntwo\n------\n" + excerpt + "error: Dockerfile:2: exit status 7\n"},
		{"step with an escape", &builder.StepError{Name: "RUN \x1b]0;title\a", Tail: []string{"one"}, Err: errors.New("failed")}, "------\n > RUN \uFFFD]0;title\uFFFD:\none\n------\nerror: failed\n"},
		{"step without output", &builder.StepError{Name: "[2/3] RUN curl", Err: at}, excerpt + "error: Dockerfile:2: exit status 7\n"},
	} {
		var out bytes.Buffer
		Report(&out, test.err)
		if test.name == "control characters" {
			if !strings.HasPrefix(out.String(), test.want) || strings.Contains(out.String(), "\x1b") {
				t.Errorf("%s: %q", test.name, out.String())
			}
			continue
		}
		same(t, test.name, out.String(), test.want)
	}
	var out bytes.Buffer
	Report(&out, &dockerfile.LintError{Warnings: []dockerfile.Warning{{Rule: "A", Detail: "b"}}})
	if !strings.HasPrefix(out.String(), "\n 1 warning found:\n - A: b\n\nerror: ") {
		t.Errorf("a lint error: %q", out.String())
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain": "plain",
		"unknown command \"a\" for \"cairn\"\n\nDid you mean this?\n\tb\n\n":                                              "unknown command \"a\" for \"cairn\" (did you mean b?)",
		"unknown command \"a\"\n\nDid you mean this?\n\tb\n\tc\n\n":                                                       "unknown command \"a\" (did you mean b or c?)",
		"if any flags in the group [all filter] are set none of the others can be; [all filter] were all set":             "--all and --filter exclude each other",
		"if any flags in the group [explain format a] are set none of the others can be; [explain format a] were all set": "--explain and --format and --a exclude each other",
	} {
		same(t, text, Line(errors.New(text)), want)
	}
	p := newTestProgram(t)
	for args, want := range map[string]string{
		"imges":                         `unknown command "imges" for "cairn" (did you mean images?)`,
		"list":                          `unknown command "list" for "cairn" (did you mean images?)`,
		"remove a":                      `unknown command "remove" for "cairn" (did you mean rm?)`,
		"xyzzy":                         `unknown command "xyzzy" for "cairn"`,
		"prune --all --filter until=1h": "--all and --filter exclude each other",
	} {
		_, err := p.run(strings.Fields(args)...)
		if err == nil {
			t.Errorf("%s: no error", args)
			continue
		}
		same(t, args, Line(err), want)
	}
}

func TestErrorTypes(t *testing.T) {
	t.Parallel()
	interrupted := &SignalError{Signal: 2}
	if interrupted.Status() != 130 || interrupted.Error() != "stopped by SIGINT" {
		t.Errorf("%d, %v", interrupted.Status(), interrupted)
	}
	if got := (&StatusError{7}).Error(); got != "exit status 7" {
		t.Error(got)
	}
	if err := usagef("a: %w", fs.ErrNotExist); !errors.Is(err, fs.ErrNotExist) || err.Error() != "a: file does not exist" {
		t.Errorf("%v hides its cause", err)
	}
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("pull: denied"), 0}, {fmt.Errorf("exec a: %w", fs.ErrNotExist), 127}, {fmt.Errorf("exec a: %w", fs.ErrPermission), 126},
		{fmt.Errorf("open a: %w", fs.ErrNotExist), 0},
	} {
		if got := startFailure(test.err); got != test.want {
			t.Errorf("%v: status %d, want %d", test.err, got, test.want)
		}
	}
}

func TestPrintBuilt(t *testing.T) {
	t.Parallel()
	img := imageOf(t, `{"os":"linux","architecture":"arm64"}`)
	var out bytes.Buffer
	printBuilt(&out, &builder.Built{Image: img, Tags: []string{"docker.io/library/a:1", "host/b:2"}, Pushed: []string{"host/b:2"}})
	same(t, "an image", out.String(), fmt.Sprintf("image  %s\ndigest %s\npushed host/b:2\ntagged a:1\n", img.ConfigDigest, img.Digest))
	set, err := layer.NewIndex([]layer.Image{img}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	printBuilt(&out, &builder.Built{Image: img, Index: &set})
	same(t, "an index", out.String(), fmt.Sprintf("image  %s linux/arm64\ndigest %s\n", img.ConfigDigest, set.Digest))
}

func TestPrintLintWarnings(t *testing.T) {
	t.Parallel()
	one := dockerfile.Warning{Rule: "A", Detail: " b \n"}
	two := dockerfile.Warning{Rule: "C", Detail: "d", Ranges: []dockerfile.Range{{First: 3, Last: 4}}}
	var out bytes.Buffer
	printLintWarnings(&out, nil)
	same(t, "none", out.String(), "")
	printLintWarnings(&out, []dockerfile.Warning{one, two})
	same(t, "two", out.String(), "\n 2 warnings found (cairn build --check shows where):\n - A: b\n - C: d (line 3)\n\n")
}

func TestImagesTable(t *testing.T) {
	t.Parallel()
	rows := []imageRow{
		{Repository: "app", Tag: "1", ID: digest("a"), Digest: digest("b"), Size: 1234567},
		{Repository: "<none>", Tag: "<none>", ID: digest("c"), Digest: digest("d"), Size: 999},
	}
	for _, test := range []struct {
		l    imagesCommand
		want string
	}{
		{imagesCommand{}, "REPOSITORY   TAG      IMAGE ID       CREATED   SIZE\n" +
			"app          1        aaaaaaaaaaaa   N/A       1.235MB\n" +
			"<none>       <none>   cccccccccccc   N/A       999B\n"},
		{imagesCommand{digests: true, noTrunc: true}, "REPOSITORY   TAG      " + fmt.Sprintf("%-74s%-74s", "DIGEST", "IMAGE ID") + "CREATED   SIZE\n" +
			"app          1        " + string(digest("b")) + "   " + string(digest("a")) + "   N/A       1.235MB\n" +
			"<none>       <none>   " + string(digest("d")) + "   " + string(digest("c")) + "   N/A       999B\n"},
	} {
		var out bytes.Buffer
		test.l.Program = &Program{Stdout: &out}
		if err := test.l.printTable(rows); err != nil {
			t.Error(err)
		}
		same(t, "images", out.String(), test.want)
	}
}

func TestHasName(t *testing.T) {
	t.Parallel()
	const ref = "docker.io/library/app:1"
	for name, want := range map[string]bool{
		"app": true, "app:1": true, "app:2": false, "docker.io/library/app": true, "library/app:1": true, "other": false, "host/app": false,
		"app@" + string(digest("a")): false, "localhost:5000/app": false,
	} {
		if got, err := hasName(ref, name); err != nil || got != want {
			t.Errorf("%s: %v, error %v, want %v", name, got, err, want)
		}
	}
	if got, err := hasName("<none>@"+string(digest("a")), "app"); got || err != nil {
		t.Errorf("an image without a name: %v, %v", got, err)
	}
	_, err := hasName(ref, "App")
	checkError(t, "App", err, "lower case")
}

// Rows are sorted by the time of tagging, and the size has shared layers once.
func TestImageRows(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	img := imageOf(t, `{"os":"linux","architecture":"arm64","created":"2023-01-02T03:04:05Z"}`)
	img.Layers = []layer.Descriptor{{Digest: digest("a"), Size: 5}, {Digest: digest("b"), Size: 7}, {Digest: digest("a"), Size: 5}}
	rows, err := imageRows([]store.Tagged{
		{Ref: "docker.io/library/old:1", Image: img, Created: at},
		{Ref: "host/new@" + string(img.Digest), Image: img, Created: at.Add(time.Hour)},
	}, nil, nil)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%v, %v", rows, err)
	}
	if rows[0].Repository != "host/new" || rows[0].Tag != "<none>" || rows[1].Repository != "old" || rows[1].Tag != "1" {
		t.Errorf("%+v", rows)
	}
	if r := rows[1]; r.Size != 12 || r.Platform != "linux/arm64" || r.Created.Year() != 2023 || r.Digest != img.Digest || r.ID != img.ConfigDigest {
		t.Errorf("%+v", r)
	}
	if rows, err := imageRows([]store.Tagged{{Ref: "docker.io/library/a:1", Image: img}}, []string{"b"}, nil); err != nil || len(rows) != 0 {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestInspectText(t *testing.T) {
	t.Parallel()
	created := time.Date(2024, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	i := inspected{
		Name: "app:1", ID: digest("a"), Digest: digest("b"), MediaType: "type", Platform: layer.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
		Created: &created, Author: "me", Size: 3000,
		Images: []member{{Platform: layer.Platform{OS: "linux", Architecture: "arm64"}, Digest: digest("c"), Size: 2000}},
		History: []ocispec.History{
			{CreatedBy: "RUN  a\n b # buildkit"}, {CreatedBy: "ENV A=b", EmptyLayer: true}, {CreatedBy: strings.Repeat("ä", 80)}, {CreatedBy: "more history than layers"},
		},
		Layers: []layer.Descriptor{{Digest: digest("1"), Size: 1000}, {Digest: digest("2"), Size: 2000}},
	}
	i.Config.Entrypoint, i.Config.Cmd = []string{"/a b"}, []string{"c", "a && <d>"}
	i.Config.User, i.Config.WorkingDir, i.Config.Env = "me:us", "/w", []string{"A=1", "B=2"}
	i.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}, "443/tcp": {}}
	i.Config.Volumes, i.Config.Labels = map[string]struct{}{"/v": {}}, map[string]string{"y": "2", "x": "1"}
	i.Config.StopSignal, i.Config.Shell, i.Config.OnBuild = "SIGTERM", []string{"/bin/sh"}, []string{"RUN x"}
	i.Config.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "true"}}
	same(t, "inspect", i.text(), "Name:        app:1\nID:          "+string(digest("a"))+"\nDigest:      "+string(digest("b"))+"\nMedia type:  type\n"+
		"Image:       "+string(digest("c"))+" 2kB linux/arm64\nPlatform:    linux/arm/v7\nCreated:     2024-01-02T02:04:05Z\nAuthor:      me\nSize:        3kB\n"+
		"Entrypoint:  [\"/a b\"]\nCommand:     [\"c\",\"a && <d>\"]\nUser:        me:us\nDirectory:   /w\nEnv:         A=1\nEnv:         B=2\n"+
		"Port:        443/tcp\nPort:        80/tcp\nVolume:      /v\nLabel:       x=1\nLabel:       y=2\nStop signal: SIGTERM\nShell:       [\"/bin/sh\"]\n"+
		"Healthcheck: [\"CMD\",\"true\"]\nOn build:    RUN x\nLayers:\n  "+string(digest("1"))+"       1kB  RUN a b\n  "+string(digest("2"))+"       2kB  "+strings.Repeat("ä", 69)+"…\n")
	i = inspected{Layers: []layer.Descriptor{{Digest: digest("1"), Size: 1}}}
	if got := i.text(); !strings.HasSuffix(got, "Layers:\n  "+string(digest("1"))+"        1B\n") || strings.Contains(got, "Author") || strings.Contains(got, "Created") {
		t.Errorf("a layer without history: %q", got)
	}
}

func TestInfoText(t *testing.T) {
	t.Parallel()
	m := machine{Version: "1", Go: "go1", Store: "/store", User: "0:0", Sandbox: sandbox.Report{
		Mode: sandbox.Chroot, Snapshot: sandbox.Overlay, Kernel: "6.1", Limits: []string{"memory", "pids"},
		Unmet: []sandbox.Requirement{{Feature: "rootless", Problem: "no newuidmap", Remedy: "install uidmap"}},
	}}
	m.Usage.Images, m.Usage.Blobs = 2, store.Amount{Count: 3, Bytes: 4000}
	want := "Version:     1 (go1)\nKernel:      6.1\nUser:        0:0\nIsolation:   chroot\n" +
		"             steps can see the processes of this machine: only the container around cairn isolates them\n" +
		"Snapshots:   overlay\nLimits:      memory, pids can be set for steps\nFor rootless: no newuidmap\n             install uidmap\n" +
		"Store:       /store\nImages:      2\nBlobs:       3, 4kB\nTrees:       0, 0B\nCaches:      0, 0B\nRecords:     0, 0B\nListings:    0, 0B\n"
	same(t, "info", m.text(), want)
	// Formats have the fields, and their former names.
	for format, want := range map[string]string{
		"{{.Sandbox.Mode}} {{.Usage.Images}} {{.Store}}": "chroot 2 /store\n",
		"{{.Sandbox.Rung}}": "chroot\n",
		"{{range .Sandbox.Unmet}}{{.Feature}}: {{.Problem}}; {{.Remedy}}{{end}}": "rootless: no newuidmap; install uidmap\n",
		"{{range .Sandbox.Lacks}}{{.For}}: {{.What}}; {{.Grant}}{{end}}":         "rootless: no newuidmap; install uidmap\n",
		"{{join .Sandbox.Limits \"+\"}}":                                         "memory+pids\n",
	} {
		var out bytes.Buffer
		if err := writeFormat(&out, format, []machine{m}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		same(t, format, out.String(), want)
	}
	var out bytes.Buffer
	if err := writeFormat(&out, "json", m); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"Mode": "chroot"`, `"Rung": "chroot"`, `"store": "/store"`, `"Problem": "no newuidmap"`, `"What": "no newuidmap"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s\nlacks %s", out.String(), want)
		}
	}
	m.Sandbox.Mode, m.Sandbox.Limits = sandbox.Rootless, nil
	if got := m.text(); !strings.Contains(got, "Isolation:   rootless\nSnapshots: ") || !strings.Contains(got, "Limits:      none can be set for steps\n") {
		t.Errorf("info: %s", got)
	}
}

func TestWriteFormat(t *testing.T) {
	t.Parallel()
	values := []struct {
		Name string   `json:"name"`
		List []string `json:"list"`
	}{{"<A>", []string{"x", "y"}}, {"b", nil}}
	for _, test := range []struct{ format, want, err string }{
		{"{{.Name}}", "<A>\nb\n", ""},
		{"{{lower .Name}} {{upper .Name}}", "<a> <A>\nb B\n", ""},
		{`{{join .List ","}}`, "x,y\n\n", ""},
		{"{{json .List}}", "[\"x\",\"y\"]\nnull\n", ""},
		{"{{json .}}", "{\"name\":\"<A>\",\"list\":[\"x\",\"y\"]}\n{\"name\":\"b\",\"list\":null}\n", ""},
		{"fixed", "fixed\nfixed\n", ""},
		{"json", "[\n  {\n    \"name\": \"<A>\",\n    \"list\": [\n      \"x\",\n      \"y\"\n    ]\n  },\n  {\n    \"name\": \"b\",\n    \"list\": null\n  }\n]\n", ""},
		{"{{.Nosuch}}", "", "can't evaluate field Nosuch"},
		{"{{nosuch .}}", "", `--format: function "nosuch" not defined`},
		{"{{if}}", "", "--format: missing value for if"},
		{"{{", "", "--format: "},
	} {
		var out bytes.Buffer
		err := writeFormat(&out, test.format, values)
		checkError(t, test.format, err, test.err)
		if err == nil {
			same(t, test.format, out.String(), test.want)
		} else if strings.Contains(err.Error(), "template: ") || !errors.As(err, new(*UsageError)) {
			t.Errorf("%s: %v", test.format, err)
		}
	}
}

func TestCacheText(t *testing.T) {
	t.Parallel()
	used := time.Date(2024, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	all := []cache.Entry{
		{Record: cache.Record{Key: strings.Repeat("a", 64), Name: "RUN make", Created: used.UnixNano()}, Used: used, Size: 2000},
		{Record: cache.Record{Key: strings.Repeat("b", 64), Name: "COPY . .", Created: used.UnixNano()}, Used: used},
	}
	for filter, want := range map[string]int{"": 2, "make": 1, "COPY": 1, "aaaaaa": 1, "nosuch": 0} {
		if got := cachedSteps(all, filter); len(got) != want || got == nil {
			t.Errorf("%q: %v, want %d", filter, got, want)
		}
	}
	steps := cachedSteps(all, "make")
	if s := steps[0]; s.Used.Location() != time.UTC || !s.Used.Equal(used) || !s.Created.Equal(used) || s.Step != "RUN make" || s.Size != 2000 {
		t.Errorf("%+v", s)
	}
	var out bytes.Buffer
	if err := printCache(&out, steps); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "aaaaaaaaaaaa   2kB    ") || !strings.HasSuffix(lines[1], " ago   RUN make") || lines[2] != "1 result, 2kB of layers" {
		t.Errorf("%q", lines)
	}
}

func TestDiffText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := &diffCommand{Program: &Program{Stdout: &out}}
	for _, one := range []imagediff.Difference{
		{Part: "config", What: "Env.A", A: "1", B: "2"},
		{Part: "config", What: "User", B: "me"},
		{Part: "layer", Layer: 2, Step: "RUN  a # buildkit", Path: "/f", What: "mode", A: "0644"},
		{Part: "layer", Layer: 2, Step: "RUN  a # buildkit", Path: "/\x1b", What: "link", A: "a\nb", B: "\ufffd"},
		{Platform: "linux/arm64", Part: "layer", Layer: 2, What: "digest"},
	} {
		if err := d.print(one); err != nil {
			t.Error(err)
		}
	}
	same(t, "diff", out.String(), "config\n  Env.A\n    - 1\n    + 2\n  User\n    + me\nlayer 2: RUN a\n  /f: mode\n    - 0644\n"+
		"  \"/\\x1b\": link\n    - \"a\\nb\"\n    + \"\ufffd\"\nlayer 2 of linux/arm64\n  digest\n")
}

func TestDamageText(t *testing.T) {
	t.Parallel()
	report := store.CheckReport{Blobs: 1, Bytes: 2000, Images: 2, Layers: 3, Records: 4, Trees: 5, Wrong: []store.Damage{
		{What: "blob a", Why: "changed", Images: []string{"docker.io/library/a:1", "h/b:2"}, Dropped: true},
		{What: "tree b", Why: "changed", Above: []string{"h/c:3"}, Results: 1, Dropped: true},
		{What: "tree c", Why: "changed", Results: 2, Dropped: true},
	}}
	want := "blob a: changed; needed by a:1, h/b:2; dropped\n" +
		"tree b: changed; built on it: h/c:3 (build again after a repair); dropped, with the results of 1 step that may have read it\n" +
		"tree c: changed; dropped, with the results of 2 steps that may have read it\n"
	const end = "checked 1 blobs (2kB), 2 images, 3 layers, 4 records, 5 trees: "
	var out bytes.Buffer
	checkError(t, "repaired", printDamage(&out, report), "")
	same(t, "repaired", out.String(), want+end+"3 wrong\n")
	report.Wrong = []store.Damage{{What: "record d", Why: "cut"}}
	out.Reset()
	checkError(t, "damaged", printDamage(&out, report), "the store is damaged: repair it with cairn check --repair")
	same(t, "damaged", out.String(), "record d: cut\n"+end+"1 wrong\n")
}

func TestManifestText(t *testing.T) {
	t.Parallel()
	raw := `{"manifests":[{"digest":"` + string(digest("a")) + `","platform":{"os":"linux","architecture":"arm","variant":"v7"},"annotations":{"x":"y"}},{"digest":"` + string(digest("b")) + `"}],"annotations":{"b":"2","a":"1"}}`
	index := images.Manifest{Ref: "docker.io/library/app:1", MediaType: layer.MediaTypeIndex, Raw: []byte(raw)}
	head := "Name:        app:1\nMedia type:  " + layer.MediaTypeIndex + "\nDigest:      " + string(layer.FromBytes([]byte(raw))) + "\n"
	var out bytes.Buffer
	checkError(t, "index", printManifest(&out, index, ""), "")
	same(t, "index", out.String(), head+"Annotation:  a=1\nAnnotation:  b=2\nImage:       "+string(digest("a"))+" linux/arm/v7\n  Annotation: x=y\nImage:       "+string(digest("b"))+" any platform\n")
	manifest := images.Manifest{Ref: "h/a:1", Raw: []byte(`{"config":{"digest":"` + string(digest("c")) + `"},"layers":[{"digest":"` + string(digest("d")) + `","size":2000,"mediaType":"tar"}]}`)}
	out.Reset()
	checkError(t, "manifest", printManifest(&out, manifest, ""), "")
	if got := out.String(); !strings.HasSuffix(got, "Config:      "+string(digest("c"))+"\nLayer:       "+string(digest("d"))+" 2kB tar\n") {
		t.Errorf("manifest: %s", got)
	}
	out.Reset()
	checkError(t, "format", printManifest(&out, index, "{{.Name}}{{range .Manifests}} {{.Digest}}{{end}}"), "")
	same(t, "format", out.String(), "app:1 "+string(digest("a"))+" "+string(digest("b"))+"\n")
	checkError(t, "damaged", printManifest(&out, images.Manifest{Ref: "a", Raw: []byte("{")}, ""), "a: unexpected end of JSON input")
}

func TestCallAnswers(t *testing.T) {
	t.Parallel()
	ranges := []dockerfile.Range{{First: 2, Last: 3}}
	outline := &plan.Outline{
		Name: "test", Doc: "runs tests", Args: []plan.OutlineArg{{Name: "A", Value: "1", Doc: "the A", Ranges: ranges}, {Name: "LONG"}},
		Secrets: []plan.OutlineMount{{ID: "s", Required: true}}, SSH: []plan.OutlineMount{{ID: "default"}}, Caches: []plan.OutlineMount{{ID: "c"}},
	}
	var out bytes.Buffer
	printOutline(&out, outline)
	same(t, "outline", out.String(), "TARGET:      test\nDESCRIPTION: runs tests\n\nBUILD ARG   VALUE   DESCRIPTION\nA           1       the A\nLONG                \n\n"+
		"SECRET   REQUIRED\ns        true\n\nSSH       REQUIRED\ndefault   \n\n")
	out.Reset()
	printOutline(&out, &plan.Outline{Doc: "doc"})
	same(t, "an outline without a name", out.String(), "TARGET:      (default)\nDESCRIPTION: doc\n\n")
	out.Reset()
	printOutline(&out, &plan.Outline{})
	same(t, "an empty outline", out.String(), "")

	file := &dockerfile.File{Text: []byte("ADD https://a:b@h/ /\n"), Stages: []dockerfile.Stage{{As: "a", Base: "x", Doc: "first"}, {As: "b", Platform: "$P"}}}
	printTargets(&out, file)
	same(t, "targets", out.String(), "TARGET      DESCRIPTION\na           first\nb (default) \n")
	out.Reset()
	printTargets(&out, &dockerfile.File{Stages: []dockerfile.Stage{{}}})
	same(t, "one target", out.String(), "TARGET    DESCRIPTION\n(default) \n")

	targets := targetsOf(file)
	if len(targets.Targets) != 2 || targets.Targets[0].Default || !targets.Targets[1].Default || targets.Targets[0].Base != "x" || targets.Targets[1].Platform != "$P" {
		t.Errorf("%+v", targets)
	}
	same(t, "source", string(targets.Sources[0]), "ADD https://xxxxx:xxxxx@h/ /\n")
	out.Reset()
	if err := writeAnswer(&out, option.Call{JSON: true}, outlineOf(outline, &dockerfile.File{Text: []byte("x")}), nil); err != nil {
		t.Fatal(err)
	}
	compact := strings.Join(strings.Fields(out.String()), "")
	same(t, "outline in JSON", compact, `{"name":"test","description":"runstests","args":[{"name":"A","description":"theA","value":"1","location":{"ranges":[{"start":{"line":2},"end":{"line":2}},{"start":{"line":3},"end":{"line":3}}]}},{"name":"LONG","location":{}}],`+
		`"secrets":[{"name":"s","required":true,"location":{}}],"ssh":[{"name":"default","location":{}}],"cache":[{"ID":"c","location":{}}],"sources":["eA=="]}`)
}

// The status of --check depends on warnings, errors and ignorestatus.
func TestWriteChecked(t *testing.T) {
	t.Parallel()
	text := []byte("FROM a AS B\nRUN b\n")
	warning := func(rule string, line int) dockerfile.Warning {
		return dockerfile.Warning{Rule: rule, Detail: "detail", URL: "https://docs/" + rule, Ranges: []dockerfile.Range{{First: line, Last: line}}}
	}
	whole := dockerfile.Warning{Rule: "Whole", Detail: "detail"}
	var out bytes.Buffer
	err := writeChecked(&out, option.Call{}, &builder.LintResult{Name: "Dockerfile", Text: text})
	same(t, "no warnings", out.String(), "Check complete, no warnings found.\n")
	checkError(t, "no warnings", err, "")

	warned := &builder.LintResult{Name: "Dockerfile", Text: text, Warnings: []dockerfile.Warning{warning("Two", 2), warning("One", 1), whole}}
	out.Reset()
	err = writeChecked(&out, option.Call{}, warned)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != ExitFailed {
		t.Errorf("error %v, want the status %d", err, ExitFailed)
	}
	same(t, "warnings", out.String(), "Check complete, 3 warnings have been found!\n\nWARNING: Whole\ndetail\n"+
		"\nWARNING: One - https://docs/One\ndetail\nDockerfile:1\n--------------------\n   1 | >>> FROM a AS B\n   2 |     RUN b\n   3 |     \n--------------------\n"+
		"\nWARNING: Two - https://docs/Two\ndetail\nDockerfile:2\n--------------------\n   1 |     FROM a AS B\n   2 | >>> RUN b\n   3 |     \n--------------------\n")
	if warned.Warnings[0].Rule != "Two" {
		t.Error("printing sorted the warnings of the result")
	}
	checkError(t, "ignorestatus", writeChecked(&out, option.Call{IgnoreStatus: true}, warned), "")

	out.Reset()
	failed := &builder.LintResult{Warnings: []dockerfile.Warning{whole}, Err: &dockerfile.LintError{Warnings: []dockerfile.Warning{whole}}}
	err = writeChecked(&out, option.Call{}, failed)
	if err == nil || errors.As(err, new(*dockerfile.LintError)) {
		t.Errorf("error %T %v: want one without warnings, which were printed", err, err)
	}
	same(t, "an error", out.String(), "Check complete, 1 warning has been found!\n\nWARNING: Whole\ndetail\n")
	out.Reset()
	at := (&dockerfile.File{Name: "Dockerfile", Text: text}).At(errors.New("unknown instruction"), dockerfile.Range{First: 2, Last: 2})
	err = writeChecked(&out, option.Call{JSON: true}, &builder.LintResult{Name: "Dockerfile", Text: text, Err: at})
	if !errors.Is(err, at) || !strings.Contains(strings.Join(strings.Fields(out.String()), ""), `"buildError":{"message":"unknowninstruction","location":{"ranges":[{"start":{"line":2},"end":{"line":2}}]}}`) {
		t.Errorf("error %v, %s", err, out.String())
	}
}

func TestImageFilters(t *testing.T) {
	t.Parallel()
	named := store.Tagged{Ref: "docker.io/library/app:1", Image: layer.Image{Config: []byte(`{"created":"2026-11-30T12:00:00Z","config":{"Labels":{"a":"b"}}}`)}}
	unnamed := store.Tagged{Ref: untaggedPrefix + string(digest("1")), Image: layer.Image{Config: []byte(`{}`)}}
	for text, want := range map[string][2]bool{
		"reference=app": {true, false}, "reference=app:1": {true, false}, "reference=a*": {true, false}, "reference=app:2": {false, false},
		"reference=docker.io/library/app": {true, false}, "reference=docker.io/library/*:1": {true, false}, "reference=*/app": {false, false},
		"dangling=true": {false, true}, "dangling=false": {true, false},
		"label=a": {true, false}, "label=a=b": {true, false}, "label=a=c": {false, false}, "label=c": {false, false},
		"until=2026-11-30T12:00:01Z": {true, true}, "until=2026-11-30T12:00:00Z": {false, true}, "until=1": {false, true}, "until=0h": {true, true}, "until=2001-01-01": {false, true},
	} {
		f, err := parseImageFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := [2]bool{f(named), f(unnamed)}; got != want {
			t.Errorf("%s: shows %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"": "want NAME=VALUE", "label": "want NAME=VALUE", "label=": "want NAME=VALUE", "exited=0": `filter "exited" is not supported: want reference, dangling, label, before, since or until`,
		"until=soon": "until: want a time such as", "until=-1h": "until: want a time such as",
		"dangling=maybe": "dangling: want true or false", "reference=[": `pattern "["`,
	} {
		_, err := parseImageFilter(text)
		checkError(t, text, err, want)
	}
}
