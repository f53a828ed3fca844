package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/report"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

// activity returns a vertex of a recorded build.
func activity(n int, name string, from, to float64) progress.Activity {
	return progress.Activity{Number: n, Name: name, Start: at(from), End: at(to)}
}

// recorded returns a build of two stages in which package.json has changed.
func recorded() (progress.Timeline, *report.Recorder) {
	from := activity(2, "[build 1/4] FROM node:22", 0.1, 0.1)
	from.Cached = true
	pull := activity(3, "fetching docker.io/library/node:22", 0.1, 3.1)
	pull.Transfers = []progress.Transfer{{ID: "sha256:aa", Bytes: 40 << 20}, {ID: "sha256:bb", Bytes: 5 << 20}}
	install := activity(5, "[build 3/4] RUN npm ci", 3.3, 44.5)
	install.Log = []byte("added 812 packages\n\x1b[32mdone\x1b[0m\n")
	t := progress.Timeline{
		Start: start, End: at(50),
		Activities: []progress.Activity{
			activity(1, "[internal] load build definition from Dockerfile", 0, 0.1), from, pull,
			activity(4, "[build 2/4] COPY . .", 3.1, 3.3), install,
			activity(6, "[build 4/4] RUN npm run build", 44.5, 49),
			activity(7, "[stage-1 2/2] COPY --from=build /app/dist /srv/", 49, 49.2),
			activity(8, "pushing registry.example/ui:1", 49.2, 50),
		},
		Periods: []progress.Period{
			{Lane: "[build 3/4] RUN npm ci", Kind: progress.Wait, Name: "waits for [build 2/4] COPY . .", Start: at(0.1), End: at(3.2)},
			{Lane: "[build 3/4] RUN npm ci", Kind: progress.Wait, Name: "waits for a turn (--jobs)", Start: at(3.2), End: at(3.9)},
			{Lane: "[build 3/4] RUN npm ci", Kind: progress.Work, Name: "packs and compresses the layer", Start: at(44.5), End: at(46)},
		},
		Warnings: []string{"cache registry.example/cache: not found"},
	}
	token := "s3cr3t-token"
	r := &report.Recorder{}
	r.Planned([]report.Target{{
		Dockerfile: "Dockerfile", Context: "https://me:hunter2@git.example/ui.git",
		Args:   []report.Arg{{Name: "NPM_TOKEN", Value: &token}},
		Images: []report.Image{{Platform: "linux/amd64", Layers: []report.Layer{{Base: true}, {Step: "[build 3/4] RUN npm ci"}, {Step: "[build 4/4] RUN npm run build s3cr3t-token"}}}},
	}}, []report.Input{{Kind: "image", Name: "node:22", Digest: "sha256:" + strings.Repeat("c", 64), Size: 45 << 20}})
	changed := &report.Reason{Cause: "files", Text: "package.json changed", Files: []string{"package.json"}}
	below := &report.Reason{Cause: "files", Text: "package.json changed", Files: []string{"package.json"}, Below: true}
	r.Solved([]report.Step{
		{ID: 2, Kind: "step", Stage: "build", File: "Dockerfile", Line: 1},
		{ID: 4, Kind: "step", Stage: "build", File: "Dockerfile", Line: 3, Needs: []int{2}, Reason: changed, Changed: 812},
		{ID: 5, Kind: "step", Stage: "build", File: "Dockerfile", Line: 4, Needs: []int{4}, Reason: below, Changed: 40000},
		{ID: 6, Kind: "step", Stage: "build", File: "Dockerfile", Line: 5, Needs: []int{5}, Reason: below},
		{ID: 7, Kind: "step", Stage: "stage-1", File: "Dockerfile", Line: 7, Needs: []int{6}, Reason: &report.Reason{Cause: "files", Text: "app.js changed", Files: []string{"app.js"}}},
	}, []report.Input{{Kind: "cache", Name: "registry.example/cache", Hits: 3}})
	return t, r
}

// listings are those of the layers of the recorded build.
var listings = map[layer.Digest][]listing.Entry{
	"sha256:d0": {{Path: ".", Type: listing.TypeDir}, {Path: "etc", Type: listing.TypeDir}, {Path: "etc/motd", Type: listing.TypeFile, Size: 3 << 20}},
	"sha256:d1": {
		{Path: "app", Type: listing.TypeDir}, {Path: "app/cache", Type: listing.TypeDir},
		{Path: "app/cache/big", Type: listing.TypeFile, Size: 30 << 20}, {Path: "app/cache/link", Type: listing.TypeHardlink, Link: "app/cache/big"},
		{Path: "app/main", Type: listing.TypeFile, Size: 11 << 20}, {Path: "etc/motd", Type: listing.TypeFile, Size: 5},
	},
	"sha256:d2": {{Path: "app/cache", Type: listing.TypeWhiteout}, {Path: "app/main", Type: listing.TypeFile, Size: 11 << 20}, {Path: "app/new", Type: listing.TypeFile, Size: 100}},
}

func listed(d layer.Digest) (*listing.Listing, error) {
	if entries, ok := listings[d]; ok {
		return &listing.Listing{Entries: entries}, nil
	}
	return nil, errors.New("no listing")
}

func sampleImage() layer.Image {
	img := layer.Image{}
	img.Digest, img.ConfigDigest = layer.Digest("sha256:"+strings.Repeat("1", 64)), layer.Digest("sha256:"+strings.Repeat("2", 64))
	for i, size := range []int64{1 << 20, 40 << 20, 6 << 20} {
		img.Layers = append(img.Layers, layer.Descriptor{Digest: layer.Digest(fmt.Sprintf("sha256:b%d", i)), DiffID: layer.Digest(fmt.Sprintf("sha256:d%d", i)), Size: size})
	}
	return img
}

// sample returns the recorded build, complete.
func sample() *report.Build {
	t, r := recorded()
	b := r.Finish(t, report.End{ID: "abcdefgh", Command: "build", Cairn: "1.0", Result: report.Succeeded, Log: report.LogTail})
	b.SetImages(0, []layer.Image{sampleImage()})
	b.Targets[0].Tags, b.Targets[0].Digest = []string{"registry.example/ui:1"}, sampleImage().Digest
	b.Warnings = append(b.Warnings, report.Warning{Rule: "JSONArgsRecommended", Text: "JSON arguments recommended for CMD", File: "Dockerfile", Line: 9})
	b.Clean(false)
	b.AddFiles(listed)
	b.Analyze()
	return b
}

// failed returns a build that failed.
func failed() *report.Build {
	t, r := recorded()
	t.Activities = t.Activities[:5]
	t.Activities[4].Err = errors.New("exit code 1")
	t.Activities[4].Log = []byte("npm error <b>code</b> EUSAGE\n")
	return withoutSecrets(r.Finish(t, report.End{ID: "abcdefgh", Command: "bake", Cairn: "1.0", Result: report.Failed, Log: report.LogTail, Failure: &report.Failure{
		Name: "[build 3/4] RUN npm ci", Message: "Dockerfile:4: the command failed with exit code 1", Hint: "commit package-lock.json", File: "Dockerfile",
		Lines: []report.Line{{Number: 3, Text: "COPY . ."}, {Number: 4, Text: "RUN npm ci", Marked: true}},
	}}))
}

func withoutSecrets(b *report.Build) *report.Build {
	b.Clean(false)
	b.Analyze()
	return b
}

func text(t *testing.T, b *report.Build, f report.Format) string {
	t.Helper()
	var out bytes.Buffer
	if err := b.Write(&out, f); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestGolden(t *testing.T) {
	for name, b := range map[string]*report.Build{"sample": sample(), "failed": failed()} {
		for _, f := range []report.Format{report.FormatHTML, report.FormatMarkdown, report.FormatJSON} {
			path := "testdata/" + name + "." + string(f)
			got := text(t, b, f)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs: run go test ./builder/report -update and read the difference", path)
			}
		}
	}
}

func TestFindings(t *testing.T) {
	b := sample()
	var got []string
	for _, f := range b.Findings {
		got = append(got, f.Kind+": "+f.Text+": "+f.Advice)
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"rerun: package.json changed (1 of 812 files), so [build 2/4] COPY . . and 2 more ran again and took 45.9 s: copy the lock file alone before [build 3/4] RUN npm ci",
		"slow: [build 3/4] RUN npm ci took 41.2 s of the build's 50.0 s",
		"pull: 47.2 MB were pulled within 3.0 s",
		"waste: 43 MB written by [build 3/4] RUN npm ci are replaced or removed by [build 4/4] RUN npm run build $NPM_TOKEN, and stay in the image",
		"jobs: 1 step waited 0.7 s for a processor",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no finding %q in:\n%s", want, all)
		}
	}
	if len(b.Findings) != 5 {
		t.Errorf("%d findings, want 5", len(b.Findings))
	}
}

// The path goes from the push back to the download, by the steps that each step uses.
func TestCriticalPath(t *testing.T) {
	if got := fmt.Sprint(sample().Critical); got != "[1 3 4 5 6 7 8]" {
		t.Errorf("the critical path is %s", got)
	}
}

// A file that a later layer replaces or removes is wasted once, a hard link never.
func TestWaste(t *testing.T) {
	w := sample().Targets[0].Images[0].Waste
	if w.Bytes != 44<<20 || w.Count != 3 {
		t.Errorf("wasted %d bytes in %d files, want %d in 3", w.Bytes, w.Count, 44<<20)
	}
	got := fmt.Sprint(w.Paths)
	if want := "[{/app/cache/big 31457280 1 2 true} {/app/main 11534336 1 2 false} {/etc/motd 3145728 0 1 false}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Neither the values of build arguments nor credentials are in any report.
func TestNoSecrets(t *testing.T) {
	for _, f := range []report.Format{report.FormatHTML, report.FormatMarkdown, report.FormatJSON} {
		got := text(t, sample(), f)
		for _, secret := range []string{"s3cr3t-token", "hunter2"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s contains %q", f, secret)
			}
		}
	}
	if got := text(t, sample(), report.FormatHTML); !strings.Contains(got, "NPM_TOKEN") {
		t.Error("the name of the argument is missing")
	}
	tl, r := recorded()
	b := r.Finish(tl, report.End{Result: report.Succeeded})
	b.Clean(true)
	if got := text(t, b, report.FormatJSON); !strings.Contains(got, "s3cr3t-token") || strings.Contains(got, "hunter2") {
		t.Error("with the values of arguments: the value is missing, or credentials are there")
	}
}

func TestEncode(t *testing.T) {
	b := sample()
	stored, err := report.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := report.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	if text(t, b, report.FormatJSON) != text(t, again, report.FormatJSON) {
		t.Error("the decoded build differs")
	}
	for _, bad := range [][]byte{nil, []byte("no gzip"), stored[:len(stored)/2]} {
		if _, err := report.Decode(bad); err == nil {
			t.Errorf("%d damaged bytes are decoded", len(bad))
		}
	}
	b.Version++
	if stored, err = report.Encode(b); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Decode(stored); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("another version: %v", err)
	}
}

// The version is part of the documented format.
func TestJSON(t *testing.T) {
	var got struct {
		Version int
		Result  string
		Steps   []struct {
			ID     int
			Reason *struct{ Cause, Text string }
		}
	}
	if err := json.Unmarshal([]byte(text(t, sample(), report.FormatJSON)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != 1 || got.Result != "succeeded" || len(got.Steps) != 8 || got.Steps[3].Reason.Text != "package.json changed" {
		t.Errorf("got %+v", got)
	}
}

// parse checks the structure of a page: no scripts, nothing that a browser would load,
// balanced elements, unique IDs.
func parse(t *testing.T, page string) {
	t.Helper()
	ids := map[string]bool{}
	var open []string
	void := map[string]bool{"meta": true, "br": true}
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("not closed: %q", open)
			}
			return
		case html.StartTagToken:
			token := z.Token()
			checkElement(t, token, ids)
			if !void[token.Data] {
				open = append(open, token.Data)
			}
		case html.SelfClosingTagToken:
			checkElement(t, z.Token(), ids)
		case html.EndTagToken:
			name := z.Token().Data
			if len(open) == 0 || open[len(open)-1] != name {
				t.Fatalf("</%s> closes %q", name, open[max(len(open)-3, 0):])
			}
			open = open[:len(open)-1]
		}
	}
}

func checkElement(t *testing.T, e html.Token, ids map[string]bool) {
	t.Helper()
	switch e.Data {
	case "script", "iframe", "object", "embed", "link", "base", "img", "form", "b>", "x":
		t.Errorf("<%s> is on the page", e.Data)
	}
	for _, a := range e.Attr {
		switch {
		case strings.HasPrefix(a.Key, "on"), a.Key == "src", a.Key == "href", strings.HasSuffix(a.Key, ":href"), a.Key == "action":
			t.Errorf("<%s> has the attribute %s", e.Data, a.Key)
		case a.Key == "id" && ids[a.Val]:
			t.Errorf("the ID %s is there twice", a.Val)
		case a.Key == "id":
			ids[a.Val] = true
		}
	}
}

func TestPage(t *testing.T) {
	for _, b := range []*report.Build{sample(), failed(), {Version: 1}, hostile(), many(2000)} {
		page := text(t, b, report.FormatHTML)
		parse(t, page)
		if !strings.Contains(page, `content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"`) {
			t.Error("the page has no content security policy")
		}
	}
	page := text(t, failed(), report.FormatHTML)
	if strings.Index(page, `id="error"`) > strings.Index(page, `id="findings"`) || !strings.Contains(page, `<span class="mark">   4  RUN npm ci</span>`) {
		t.Error("the page of a failed build does not begin with the lines of the Dockerfile")
	}
}

// evil are names that could have an effect on a page or a terminal.
var evil = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title></style></svg><x>`, "`${alert(1)}`", "{{.}}", "javascript:alert(1)",
	"a\u202egnp.exe\u2066b", "line\nbreak\r\x1b[31mred\x00\x07", "\xff\xfe invalid", strings.Repeat("very-long-", 2000), "| a | b |\n|---|\n@everyone #1 **bold** [x](http://evil.example)",
	"]]>", "--><!--", "\u2028\u2029\ufeff\u200b", "url(http://evil.example)", "%s%n%d",
}

// hostile returns a build with such names everywhere.
func hostile() *report.Build {
	b := sample()
	b.Result = report.Failed
	b.Failure = &report.Failure{File: evil[0], Hint: evil[1]}
	for i, e := range evil {
		b.Steps = append(b.Steps, report.Step{
			ID: 100 + i, Kind: "step", Name: e, Stage: e, File: e, Line: 1, State: report.StateFailed, Start: float64(i), End: float64(i) + 1, Error: e, Log: []string{e},
			Reason: &report.Reason{Cause: "files", Text: e, Files: []string{e}}, Parts: []report.Part{{Name: e, Wait: true, Start: 0, End: 1}},
		})
		b.Failure.Message += e
		b.Failure.Lines = append(b.Failure.Lines, report.Line{Number: i, Text: e, Marked: i%2 == 0})
		b.Failure.Log = append(b.Failure.Log, e)
		b.Targets = append(b.Targets, report.Target{Name: e, Dockerfile: e, Context: e, Tags: []string{e}, Error: e, Args: []report.Arg{{Name: e, Value: &evil[i]}}, Images: []report.Image{{
			Platform: e, Layers: []report.Layer{{Step: e, Listed: true, Size: 60 << 20, Files: []report.Path{{Path: e}}, Folders: []report.Path{{Path: e}}}},
			Size: 61 << 20, Waste: report.Waste{Bytes: 9 << 20, Count: 1, Paths: []report.WastedPath{{Path: e, Size: 9 << 20}}},
		}}})
		b.Inputs = append(b.Inputs, report.Input{Kind: "image", Name: e, Digest: e})
		b.Warnings = append(b.Warnings, report.Warning{Rule: e, Text: e, File: e, Line: 1})
	}
	b.Analyze()
	return b
}

func TestHostileNames(t *testing.T) {
	page := text(t, hostile(), report.FormatHTML)
	for _, bad := range []string{"<script", "<img", "<x>", "\u202e", "\u2066", "\x1b", "\x00", "\u2028"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	summary := text(t, hostile(), report.FormatMarkdown)
	outside := withoutFences(summary)
	for _, bad := range []string{"<script", "<img", "<x>", "@everyone", "[x](", "**bold**", "\u202e", "\x1b"} {
		if strings.Contains(outside, bad) {
			t.Errorf("the summary contains %q", bad)
		}
	}
	if len(summary) > 1<<20 {
		t.Errorf("the summary has %d bytes", len(summary))
	}
	if strings.Contains(summary, "\x1b") {
		t.Error("the summary has control characters")
	}
}

// withoutFences returns a summary without its blocks of code.
func withoutFences(s string) string {
	var out strings.Builder
	fence := ""
	for line := range strings.Lines(s) {
		trimmed := strings.TrimSuffix(line, "\n")
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			fence = trimmed
		case fence != "" && trimmed == fence:
			fence = ""
		case fence == "":
			out.WriteString(line)
		}
	}
	return out.String()
}

// many returns a build of n steps with output.
func many(n int) *report.Build {
	t, r := recorded()
	var steps []report.Step
	log := []byte(strings.Repeat(strings.Repeat("x", 79)+"\n", 120))
	for i := range n {
		id := 100 + i
		a := activity(id, fmt.Sprintf("[stage-%d %d/%d] RUN step %d", i/20, i%20+1, 20, i), float64(i)/40, float64(i)/40+1)
		a.Log = log
		t.Activities = append(t.Activities, a)
		s := report.Step{ID: id, Kind: "step", Stage: fmt.Sprint("stage-", i/20), File: "Dockerfile", Line: i + 1, Reason: &report.Reason{Cause: "files", Text: "f changed", Files: []string{"f"}}}
		if i%20 > 0 {
			s.Needs = []int{id - 1}
			s.Reason.Below = true
		}
		steps = append(steps, s)
	}
	r.Solved(steps, nil)
	b := r.Finish(t, report.End{ID: "abcdefgh", Result: report.Succeeded, Log: report.LogTail})
	b.Analyze()
	return b
}

// A page of 2,000 steps stays small, and so does the stored build.
func TestManySteps(t *testing.T) {
	b := many(2000)
	page := text(t, b, report.FormatHTML)
	if len(page) > 2<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	if !strings.Contains(page, "more steps: the report as JSON has all") {
		t.Error("the page does not tell that steps are missing")
	}
	stored, err := report.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) > 1<<20 {
		t.Errorf("the stored build has %d bytes", len(stored))
	}
	again, err := report.Decode(stored)
	if err != nil || len(again.Steps) != len(b.Steps) {
		t.Errorf("the stored build has lost steps: %v", err)
	}
}

// A failed build without findings has no advice below its error.
func TestFailedWithoutFindings(t *testing.T) {
	b := failed()
	b.Findings = nil
	for _, fails := range []bool{true, false} {
		if !fails {
			b.Failure = nil
		}
		var out bytes.Buffer
		if err := report.HTML(&out, b); err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(out.String(), "What to do"); has == fails {
			t.Errorf("failed %v: has advice: %v", fails, has)
		}
	}
}

// The summary has characters as they are where they have no effect, and no others.
func TestMarkdownCharacters(t *testing.T) {
	for text, want := range map[string]string{
		"Dockerfile:4: the command (make) failed": "Dockerfile:4: the command (make) failed",
		"[build 2/4] FROM node:22@sha256:ab":      "[build 2/4] FROM node:22@sha256:ab",
		"[a text](http://x) @me [x] [a b]: /u":    "&#91;a text&#93;(http&#58;//x) &#64;me &#91;x&#93; &#91;a b&#93;&#58; /u",
		"<b> a|b ![abc](d) #1 me@example.com":     "&#60;b&#62; a&#124;b &#33;&#91;abc&#93;(d) &#35;1 me&#64;example.com",
	} {
		var out bytes.Buffer
		if err := report.Markdown(&out, &report.Build{Failure: &report.Failure{Message: text}}); err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(out.String(), "#### Error\n\n"); got != want+"\n" {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A build is named by the names that it set, or was to set, or else by its context.
func TestTitle(t *testing.T) {
	for want, target := range map[string]report.Target{
		"a:1":                        {Tags: []string{"a:1"}, Wanted: []string{"a:1"}},
		"r/a:1":                      {Pushed: []string{"r/a:1"}},
		"web":                        {Name: "web", Wanted: []string{"a:1"}},
		"f:latest":                   {Wanted: []string{"f:latest"}, Folder: "app"},
		"build of Dockerfile in app": {Dockerfile: "Dockerfile", Folder: "app"},
		"build of Dockerfile":        {Dockerfile: "Dockerfile"},
	} {
		if got := report.Title(&report.Build{Targets: []report.Target{target}}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
