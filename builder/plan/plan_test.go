package plan

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/layer"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden sections of testdata")

var amd64 = layer.Platform{OS: "linux", Architecture: "amd64"}

// options is the section "options" of a case.
type options struct {
	Allow                            []string
	Target, Platform, Build, Network string
	Multi, NoCache                   bool
	Args, Labels                     map[string]string
	Hosts, Ignored                   []string
	Epoch                            *int64
	Named                            map[string]string
}

// TestGolden plans each case of testdata: Dockerfile and, if there are any,
// options; "want" is the plan in brief, with errors as people see them.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			golden(t, name)
		})
	}
}

// golden runs every case of a file: sections NAME/Dockerfile, NAME/options and
// NAME/want.
func golden(t *testing.T, name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	ar := txtar.Parse(text)
	section := map[string]string{}
	for _, f := range ar.Files {
		section[f.Name] = string(f.Data)
	}
	out := &txtar.Archive{Comment: ar.Comment}
	for _, f := range ar.Files {
		label, is := strings.CutSuffix(f.Name, "/Dockerfile")
		if !is {
			continue
		}
		got := brief(t, string(f.Data), section[label+"/options"])
		t.Run(label, func(t *testing.T) {
			if diff := cmp.Diff(section[label+"/want"], got); diff != "" && !*update {
				t.Errorf("-want +got (-update rewrites it):\n%s", diff)
			}
		})
		out.Files = append(out.Files, f)
		if o, ok := section[label+"/options"]; ok {
			out.Files = append(out.Files, txtar.File{Name: label + "/options", Data: []byte(o)})
		}
		out.Files = append(out.Files, txtar.File{Name: label + "/want", Data: []byte(got)})
	}
	if *update {
		if err := os.WriteFile(name, txtar.Format(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func brief(t *testing.T, text, opts string) string {
	p, err := makePlan(t, text, opts)
	if err != nil {
		out := "error: " + err.Error() + "\n"
		var e *dockerfile.Error
		if errors.As(err, &e) {
			out += e.Excerpt()
		}
		return out
	}
	return show(t, p)
}

func makePlan(t testing.TB, text, opts string) (*Plan, error) {
	var o options
	if opts != "" {
		d := json.NewDecoder(strings.NewReader(opts))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			t.Fatalf("options: %v", err)
		}
	}
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		return nil, err
	}
	return Make(t.Context(), input(t, f, o))
}

func input(t testing.TB, f *dockerfile.File, o options) Input {
	in := Input{
		File: f, Target: o.Target, BuildPlatform: amd64, MultiPlatform: o.Multi, NoCache: o.NoCache, Allow: o.Allow,
		Args: o.Args, Labels: o.Labels, Network: o.Network, AddHosts: o.Hosts, Epoch: o.Epoch, Base: testBase,
	}
	in.EpochOf = func(_ context.Context, s EpochSource) (*int64, error) {
		times := map[string]int64{"context": 1000, "files": 2000}
		if s.Remote != nil {
			times[""] = int64(len(s.Remote.URL + s.Remote.Checksum))
		}
		if at, ok := times[s.Context]; ok {
			return &at, nil
		}
		return nil, nil
	}
	for name, image := range o.Named {
		if in.Named == nil {
			in.Named = map[string]Named{}
		}
		key, err := ContextName(name)
		if err != nil {
			t.Fatal(err)
		}
		in.Named[key] = Named{Image: image}
	}
	if o.Ignored != nil {
		in.Ignored = func(path string) bool { return slices.Contains(o.Ignored, path) }
	}
	for name, to := range map[string]*layer.Platform{o.Platform: &in.Platform, o.Build: &in.BuildPlatform} {
		if name == "" {
			continue
		}
		p, err := layer.ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		*to = p
	}
	return in
}

// show prints the steps, configuration and warnings of a plan.
func show(t *testing.T, p *Plan) string {
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var q struct {
		Stages, Steps, Warnings []json.RawMessage
		Root                    *int
		Config                  dockerspec.DockerOCIImage
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	section := func(title string, lines []json.RawMessage) {
		for i, line := range lines {
			if i == 0 {
				fmt.Fprintf(&b, "# %s\n", title)
			}
			fmt.Fprintf(&b, "%s\n", unescaped(line))
		}
	}
	section("stages", q.Stages)
	section("steps", q.Steps)
	if q.Root != nil {
		fmt.Fprintf(&b, "# root %d\n", *q.Root)
	}
	c := p.Config
	c.History = nil
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	section("config", []json.RawMessage{config})
	for i, h := range p.Config.History {
		if i == 0 {
			b.WriteString("# history\n")
		}
		fmt.Fprintf(&b, "%s %q%s\n", map[bool]string{true: "-", false: "L"}[h.EmptyLayer], h.CreatedBy, created(h))
	}
	for i, w := range p.Warnings {
		if i == 0 {
			b.WriteString("# warnings\n")
		}
		fmt.Fprintf(&b, "%s: %s %v\n", w.Rule, w.Detail, w.Ranges)
	}
	return b.String()
}

func created(h ocispec.History) string {
	out := ""
	if h.Created != nil {
		out = " " + h.Created.Format("2006-01-02T15:04:05")
	}
	if h.Comment != historyComment {
		out += fmt.Sprintf(" comment=%q", h.Comment)
	}
	return out
}

// unescaped reverts the escapes that package json adds for HTML.
func unescaped(b []byte) []byte {
	return []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b)))
}

// bases are the images of a small world; %s is the architecture asked for.
var bases = map[string]string{
	"docker.io/library/busybox:latest": `{"os":"linux","architecture":"%s","created":"2020-01-01T00:00:00Z","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},
		"history":[{"created_by":"ADD busybox.tar.xz /"}],"author":"someone"}`,
	"docker.io/library/debian:12": `{"os":"linux","architecture":"%s","config":{"Env":["LANG=C","PATH=/usr/bin:/bin"],"Cmd":["bash"],"Labels":{"base":"debian"}},
		"history":[{"created_by":"debootstrap"},{"created_by":"CMD","empty_layer":true}]}`,
	"docker.io/library/bare:latest": `{"os":"linux","architecture":"%s","config":{},"history":[]}`,
	"docker.io/library/full:latest": `{"os":"linux","architecture":"%s","config":{"Env":["A=base"],"User":"app","WorkingDir":"/srv","Entrypoint":["/ep"],"Cmd":["c"],
		"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGINT","Shell":["/bin/bash","-c"],
		"Healthcheck":{"Test":["CMD","true"],"Interval":1000000000}}}`,
	"docker.io/library/onbuild:latest": `{"os":"linux","architecture":"%s","config":{"Env":["PATH=/bin"],
		"OnBuild":["ENV FROM_TRIGGER=1","COPY --from=busybox /bin/sh /sh","RUN make"]}}`,
	"docker.io/library/badonbuild:latest": `{"os":"linux","architecture":"%s","config":{"OnBuild":["RNU x"]}}`,
	"docker.io/library/amd:latest":        `{"os":"linux","architecture":"amd64","config":{}}`,
	"docker.io/library/broken:latest":     `{`,
	"oci-layout://dir:v1":                 `{"os":"linux","architecture":"%s","config":{"WorkingDir":"/w"}}`,
}

// testBase knows the images above. All but bare have a layer or two.
func testBase(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	config, ok := bases[ref]
	if !ok {
		return layer.Image{}, fmt.Errorf("%s: %w", ref, fs.ErrNotExist)
	}
	if strings.Contains(config, "%s") {
		config = fmt.Sprintf(config, p.Architecture)
	}
	img := layer.Image{Digest: layer.Digest("sha256:" + strings.Repeat("d", 64)), Config: []byte(config)}
	n := 1
	switch {
	case strings.Contains(ref, "bare"):
		n = 0
	case strings.Contains(ref, "debian"):
		n = 2
	}
	for i := range n {
		d := layer.FromBytes(fmt.Appendf(nil, "%s %s %d", ref, p, i))[:20]
		img.Layers = append(img.Layers, layer.Descriptor{MediaType: "gz", Digest: d + "z", Size: 100, DiffID: d})
	}
	return img, nil
}
