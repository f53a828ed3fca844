package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/google/go-cmp/cmp"
)

func mustPlan(t testing.TB, text string, change func(*Input)) *Plan {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	in := Input{File: f, BuildPlatform: amd64, Base: testBase}
	if change != nil {
		change(&in)
	}
	p, err := Make(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// recipe is all that a step's key covers.
func recipe(s *solve.Step) string {
	if s == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString(s.Op)
	for _, in := range s.In {
		fmt.Fprintf(&b, "(%s %s)", recipe(in.Step), in.Sel)
	}
	return b.String()
}

// The position and name of a step and the proxies it downloads through are not
// its key; everything that a command can see is.
func TestKeys(t *testing.T) {
	t.Parallel()
	const text = "FROM busybox AS a\nARG V=1\nUSER u\nWORKDIR /w\nRUN echo $V\nCOPY x y/\n"
	base := recipe(mustPlan(t, text, nil).Root)
	epoch := int64(1)
	for name, same := range map[string]func() string{
		"lines, comments and names": func() string {
			return recipe(mustPlan(t, "# hello\n\n"+strings.ReplaceAll(text, "AS a", "AS other"), nil).Root)
		},
		"metadata": func() string {
			return recipe(mustPlan(t, text+"LABEL a=b\nCMD x\nEXPOSE 1\nENV LATER=1\n", nil).Root)
		},
		"proxies": func() string {
			return recipe(mustPlan(t, text, func(in *Input) { in.Args = map[string]string{"http_proxy": "p"} }).Root)
		},
		"no cache": func() string { return recipe(mustPlan(t, text, func(in *Input) { in.NoCache = true }).Root) },
		"labels": func() string {
			return recipe(mustPlan(t, text, func(in *Input) { in.Labels = map[string]string{"a": "b"} }).Root)
		},
		"default by build argument": func() string {
			return recipe(mustPlan(t, text, func(in *Input) { in.Args = map[string]string{"V": "1"} }).Root)
		},
		"where the image comes from": func() string {
			return recipe(mustPlan(t, text, func(in *Input) {
				in.Base = func(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
					img, err := testBase(ctx, ref, p)
					img.Digest, img.Layers[0].Digest, img.Layers[0].Size = "sha256:other", "sha256:another", 7
					return img, err
				}
			}).Root)
		},
	} {
		if got := same(); got != base {
			t.Errorf("%s changed the key:\n%s", name, cmp.Diff(base, got))
		}
	}
	for name, change := range map[string]func(*Input){
		"argument": func(in *Input) { in.Args = map[string]string{"V": "2"} },
		"epoch":    func(in *Input) { in.Epoch = &epoch },
		"network":  func(in *Input) { in.Network = "none" },
		"hosts":    func(in *Input) { in.AddHosts = []string{"a:1.2.3.4"} },
		"no hosts": func(in *Input) { in.NoHosts = true },
		"groups":   func(in *Input) { in.Groups = []string{"g"} },
		"caps":     func(in *Input) { in.DropCaps = []string{"CHOWN"} },
		"hostname": func(in *Input) { in.Args = map[string]string{"BUILDKIT_SANDBOX_HOSTNAME": "h"} },
		"platform": func(in *Input) { in.Platform = layer.Platform{OS: "linux", Architecture: "arm64"} },
	} {
		if recipe(mustPlan(t, text, change).Root) == base {
			t.Errorf("%s did not change the key", name)
		}
	}
	for _, c := range [][2]string{
		{"USER u", "USER v"},
		{"/w", "/v"},
		{"echo", "print"},
		{"COPY x y/", "COPY x y"},
		{"COPY x", "COPY --chown=1 x"},
		{"COPY x", "COPY --chmod=1 x"},
		{"COPY x", "ADD x"},
		{"COPY x", "COPY --exclude=z x"},
		{"COPY x", "COPY --parents x"},
		{"RUN", "ENV E=1\nRUN"},
		{"RUN", `SHELL ["/bin/sh","-ec"]` + "\nRUN"},
	} {
		if recipe(mustPlan(t, strings.Replace(text, c[0], c[1], 1), nil).Root) == base {
			t.Errorf("%s for %s did not change the key", c[1], c[0])
		}
	}
}

// The same input gives the same plan, byte for byte.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	const text = "FROM full AS a\nARG A B C\nENV X=$A$B$C$Q$R\nLABEL z=1 y=2 x=3\nEXPOSE 1 2 3\nRUN x\nFROM onbuild\nCOPY --from=a /a /b /\nCOPY --from=busybox /x /\n"
	args := map[string]string{"A": "1", "B": "2", "C": "3", "D": "4", "E": "5", "http_proxy": "x", "HTTPS_PROXY": "y"}
	var first string
	for i := range 20 {
		p := mustPlan(t, text, func(in *Input) { in.Args = args })
		got, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = string(got)
		} else if diff := cmp.Diff(first, string(got)); diff != "" {
			t.Fatal(diff)
		}
	}
}

// A File and the maps of an Input serve any number of plans.
func TestMakeChangesNothing(t *testing.T) {
	t.Parallel()
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM onbuild\nARG A\nENV B=$A\nCOPY $A <<E /\n$A\nE\nVOLUME $A\nLABEL a=$A\n"))
	if err != nil {
		t.Fatal(err)
	}
	plans := make([]string, 2)
	for i := range plans {
		var wg sync.WaitGroup
		for _, a := range []string{"y", "x"} {
			wg.Go(func() {
				epoch := int64(5)
				p, err := Make(t.Context(), Input{File: f, BuildPlatform: amd64, Args: map[string]string{"A": a, "SOURCE_DATE_EPOCH": "x"}, Epoch: &epoch, Base: testBase})
				if err != nil {
					t.Error(err)
					return
				}
				if a == "x" {
					plans[i] = recipe(p.Root)
				}
			})
		}
		wg.Wait()
	}
	if plans[0] != plans[1] || !strings.Contains(plans[0], `"x\n"`) {
		t.Errorf("plans differ: %s", cmp.Diff(plans[0], plans[1]))
	}
}

// Each image is asked for once on each platform, all at once, and not at all if
// nothing needs it.
func TestBaseIsAskedOnce(t *testing.T) {
	t.Parallel()
	const text = "FROM missing\nFROM busybox AS a\nFROM --platform=linux/arm64 busybox AS b\nFROM debian:12 AS c\nFROM busybox\n" +
		"COPY --from=a x /\nCOPY --from=b x /\nCOPY --from=c x /\nCOPY --from=busybox x /\nCOPY --from=docker.io/library/busybox:latest x /\n"
	var mu sync.Mutex
	var asked []string
	var all sync.WaitGroup
	all.Add(3)
	mustPlan(t, text, func(in *Input) {
		in.Base = func(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
			mu.Lock()
			asked = append(asked, ref+" "+p.String())
			mu.Unlock()
			all.Done()
			all.Wait() // hangs unless all three are asked for at once
			return testBase(ctx, ref, p)
		}
	})
	slices.Sort(asked)
	want := []string{"docker.io/library/busybox:latest linux/amd64", "docker.io/library/busybox:latest linux/arm64", "docker.io/library/debian:12 linux/amd64"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

// The error shown is that of the image that is missing, not that of another
// request that was cancelled for it.
func TestBaseError(t *testing.T) {
	t.Parallel()
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM slow AS s\nFROM gone\nCOPY --from=s x /\n"))
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	_, err = Make(t.Context(), Input{File: f, Base: func(ctx context.Context, ref string, _ layer.Platform) (layer.Image, error) {
		if strings.Contains(ref, "gone") {
			return layer.Image{}, gone
		}
		<-ctx.Done()
		return layer.Image{}, ctx.Err()
	}})
	var e *dockerfile.Error
	if !errors.Is(err, gone) || !errors.As(err, &e) || e.Ranges[0].First != 2 {
		t.Errorf("got %v", err)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM busybox\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Make(ctx, Input{File: f, Base: func(ctx context.Context, _ string, _ layer.Platform) (layer.Image, error) {
		return layer.Image{}, ctx.Err()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Triggers of triggers' images: an image named by ONBUILD has ONBUILDs that
// count only where a stage is FROM it.
func TestTriggersEnd(t *testing.T) {
	t.Parallel()
	n := 0
	p := mustPlan(t, "FROM looping\n", func(in *Input) {
		in.Base = func(_ context.Context, ref string, _ layer.Platform) (layer.Image, error) {
			n++
			config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","config":{"OnBuild":["COPY --from=looping%d / /"]}}`, n)
			return layer.Image{Config: []byte(config), Layers: []layer.Descriptor{{DiffID: layer.FromBytes([]byte(ref))}}}, nil
		}
	})
	if n != 2 || len(p.Stages) != 2 {
		t.Errorf("%d images asked for, %d stages", n, len(p.Stages))
	}
}

func TestInvalidUTF8(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"RUN a\xff", "USER \xff", "EXPOSE \xff", "COPY <<E /\n\xff\nE", "RUN <<E\n\xff\nE"} {
		f, err := dockerfile.Parse("Dockerfile", []byte("FROM busybox\n"+text+"\n"))
		if err != nil {
			continue // the parser has seen it
		}
		_, err = Make(t.Context(), Input{File: f, Base: testBase})
		if err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM scratch\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), Input{File: f, Args: map[string]string{"A": "\xff"}}); err == nil {
		t.Error("a build argument that is not UTF-8 was taken")
	}
}

func TestStepsDecode(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, "FROM busybox\nWORKDIR /w\nRUN <<x\n#!y\nx\nCOPY --chmod=u+x --exclude=z a <<E /\nE\nADD --link b /\n", func(in *Input) {
		epoch := int64(9)
		in.Epoch, in.Args = &epoch, map[string]string{"http_proxy": "p"}
	})
	kinds := map[string]bool{}
	var walk func(s *solve.Step)
	walk = func(s *solve.Step) {
		o, err := op.Decode(s)
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", o), "op."))
		kinds[kind] = true
		if again := op.NewStep(o); again.Op != s.Op || again.Extra != s.Extra {
			t.Errorf("got %+v, want %+v", again, s)
		}
		switch o := o.(type) {
		case op.Image:
			if o.Extra.Ref != "docker.io/library/busybox:latest" || len(o.Extra.Layers) != len(o.DiffIDs) {
				t.Errorf("image: %+v", o)
			}
		case op.Run:
			if !slices.Equal(o.Extra.Proxy, []string{"HTTP_PROXY=p", "http_proxy=p"}) {
				t.Errorf("proxies: %v", o.Extra.Proxy)
			}
		}
		for _, in := range s.In {
			walk(in.Step)
			if in.Sel == "" {
				continue
			}
			sel, err := op.DecodeSelection(in.Sel)
			if err != nil || sel.Encode() != in.Sel {
				t.Errorf("selection %s: %+v, %v", in.Sel, sel, err)
			}
		}
	}
	walk(p.Root)
	if len(kinds) != 7 {
		t.Errorf("only saw %v", kinds)
	}
}

// Layers of the history and steps that make them go together.
func TestHistoryMatchesSteps(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, "FROM debian:12 AS a\nENV A=1\nRUN a\nFROM a\nWORKDIR /\nWORKDIR /x\nCOPY --link a /\nADD b /\nCMD x\n", nil)
	layers := 0
	for _, h := range p.Config.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	if want := 1 + 4; layers != want {
		t.Errorf("%d layers in the history, want %d", layers, want)
	}
	for _, s := range p.Steps {
		if s.History < 0 {
			continue
		}
		word, _, _ := strings.Cut(s.Name[strings.Index(s.Name, "] ")+2:], " ")
		if h := p.Config.History[s.History]; !strings.HasPrefix(h.CreatedBy, word) || h.EmptyLayer {
			t.Errorf("%s: history has %q", s.Name, h.CreatedBy)
		}
	}
}

func FuzzMake(f *testing.F) {
	for _, seed := range []string{
		"FROM busybox\nRUN <<E\nx\nE\n", "ARG A=b\nFROM $A AS c\nCOPY --from=c / /\n", "FROM onbuild AS a\nONBUILD COPY --from=a a /\nFROM a\nFROM a\n",
		"FROM scratch\nENV A=${B:-$C} D=${A/b/c}\nEXPOSE $A 1-2:3-4/udp\nHEALTHCHECK NONE\nSTOPSIGNAL $A\nVOLUME $A\nUSER $A\nWORKDIR $A\n",
		"FROM --platform=$A x\n", "FROM full\nCOPY --parents --chmod=u=g+x,o-X --exclude=x a/./b <<X /\nX\n", "FROM scratch\nONBUILD RUN <<E\nE\nFROM 0\n",
		"FROM busybox AS a\nFROM a\nRUN --mount=from=a,target=$A,rw,source=/[b --mount=type=cache,target=.,uid=1,sharing=locked --mount=type=secret,id=a,env=B x\n",
		"FROM busybox\nONBUILD RUN --mount=type=ssh,required --mount=from=b,target=../x x\nRUN --mount=type=tmpfs,dst=/x,size=$A --device=x x\n",
	} {
		f.Add(seed, "A=1", "")
	}
	f.Fuzz(func(t *testing.T, text, arg, target string) {
		file, err := dockerfile.Parse("f", []byte(text))
		if err != nil {
			return
		}
		k, v, _ := strings.Cut(arg, "=")
		in := Input{File: file, Target: target, Args: map[string]string{k: v}, Base: testBase}
		p, err := Make(context.Background(), in)
		if _, checked := Check(context.Background(), in); target != "" && (checked == nil) != (err == nil) {
			t.Fatalf("making it gives %v, checking it %v", err, checked)
		}
		if _, described := Describe(context.Background(), in); described != nil && err == nil {
			t.Fatal(described)
		}
		if err != nil {
			return
		}
		if _, err := p.MarshalJSON(); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Steps {
			if _, err := op.Decode(s.Step); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// BenchmarkMake plans 500 instructions of all kinds.
func BenchmarkMake(b *testing.B) {
	var text strings.Builder
	text.WriteString("FROM busybox\n")
	for i := range 100 {
		fmt.Fprintf(&text, "ARG A%d=1\nENV E%d=$A%d\nRUN echo $E%d\nCOPY a%d /b/\nLABEL l%d=$E%d\n", i, i, i, i, i, i, i)
	}
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, err := dockerfile.Parse("f", []byte(text.String())); err != nil {
				b.Fatal(err)
			}
		}
	})
	file, err := dockerfile.Parse("f", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Make(b.Context(), Input{File: file, Base: testBase}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
