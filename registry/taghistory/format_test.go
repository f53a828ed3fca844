package taghistory

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
)

func digest(n int) layer.Digest { return layer.FromBytes(fmt.Append(nil, n)) }

func entry(n int, at string) Entry {
	e := Entry{MediaType: layer.MediaTypeManifest, Digest: digest(n), Bytes: int64(100 + n)}
	if at != "" {
		t, err := time.Parse(time.RFC3339, "2026-11-30T"+at+":00Z")
		if err != nil {
			panic(err)
		}
		e.Time = t
	}
	return e
}

// Tools that choose the newest version of an image by its tags must not take a history for
// one.
func TestTagFor(t *testing.T) {
	versions := []*regexp.Regexp{
		// semantic versions, as Flux's policies parse them, leniently
		regexp.MustCompile(`^v?(0|[1-9]\d*)(\.(0|[1-9]\d*))?(\.(0|[1-9]\d*))?(-([0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*))?(\+([0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*))?$`),
		// versions of Renovate's docker datasource
		regexp.MustCompile(`^(?P<major>\d+)(\.(?P<minor>\d+))?(\.(?P<patch>\d+))?(-(?P<suffix>\S+))?$`),
	}
	valid := regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	long := strings.Repeat("x", 128)
	for _, tag := range []string{"latest", "1", "1.4", "1.4.0", "v2.0.1", "prod", "main", long[:120], long[:121], long} {
		got := TagFor(tag)
		if !valid.MatchString(got) || got == tag {
			t.Errorf("TagFor(%q) = %q, not a valid tag", tag, got)
		}
		for _, v := range versions {
			if v.MatchString(got) {
				t.Errorf("TagFor(%q) = %q, which %s takes for a version", tag, got, v)
			}
		}
	}
	if TagFor("latest") != "latest.history" || TagFor(long) == TagFor(long[:127]) {
		t.Error("tags are not as documented, or not different")
	}
}

func TestRoundTrip(t *testing.T) {
	now := entry(9, "09:00")
	now.By, now.Note, now.ImageSize = "me@host", "rolled back", 1234
	gone := entry(2, "02:00")
	gone.Gone = true
	for _, l := range []list{
		{tag: "t"},
		{tag: "t", announced: &now},
		{tag: "t", announced: &now, confirmed: true, entries: []Entry{entry(3, "03:00"), gone, entry(1, "")}},
	} {
		img, err := l.index()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(img.Manifest, "t")
		if d := cmp.Diff(l, got, cmp.AllowUnexported(list{})); err != nil || d != "" {
			t.Errorf("%v\n%s", err, d)
		}
	}
}

// Anybody who may push to a repository may write its histories.
func TestHostileHistories(t *testing.T) {
	const start = `{"schemaVersion":2,"artifactType":"` + ArtifactType + `","annotations":{"dev.cairn.history.version":"1","dev.cairn.history.tag":"t"},"manifests":[`
	item := func(mediaType string, d layer.Digest, size int, annotations string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"dev.cairn.history.tag":"t"%s}}`, mediaType, d, size, annotations)
	}
	image := layer.MediaTypeManifest
	for name, test := range map[string]struct {
		raw     string
		err     string
		entries int
	}{
		"not JSON":        {raw: "{", err: "unexpected"},
		"an image":        {raw: `{"schemaVersion":2}`, err: "not a history"},
		"newer":           {raw: strings.Replace(start, `version":"1"`, `version":"2"`, 1) + `]}`, err: "version \"2\""},
		"of another tag":  {raw: strings.Replace(start, `tag":"t"`, `tag":"u"`, 1) + `]}`, err: `tag "u"`},
		"huge":            {raw: start + `]}` + strings.Repeat(" ", maxSize), err: "more than"},
		"foreign entry":   {raw: start + `{"mediaType":"` + image + `","digest":"` + string(digest(1)) + `"}]}`},
		"no digest":       {raw: start + item(image, "sha256:zz", 1, "") + `]}`},
		"negative size":   {raw: start + item(image, digest(1), -1, "") + `]}`},
		"no image":        {raw: start + item("text/plain", digest(1), 1, "") + `]}`},
		"bad annotations": {raw: start + item(image, digest(1), 1, `,"dev.cairn.history.time":"soon","dev.cairn.history.size":"-5"`) + `]}`, entries: 1},
		"long texts":      {raw: start + item(image, digest(1), 1, `,"dev.cairn.history.by":"`+strings.Repeat("y", 10000)+`"`) + `]}`, entries: 1},
		"many":            {raw: start + strings.TrimSuffix(strings.Repeat(item(image, digest(1), 1, "")+",", 5000), ",") + `]}`, entries: maxEntries},
	} {
		got, err := parse([]byte(test.raw), "t")
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want an error with %q", name, err, test.err)
			}
			continue
		}
		if err != nil || len(got.entries) != test.entries {
			t.Errorf("%s: %d entries, %v, want %d", name, len(got.entries), err, test.entries)
		}
		for _, e := range got.entries {
			if len(e.By) > maxText || e.ImageSize < 0 || !e.valid() {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

func TestMerge(t *testing.T) {
	a, b, c := entry(1, "01:00"), entry(2, "02:00"), entry(3, "03:00")
	unknown := entry(4, "")
	for name, test := range map[string]struct{ have, add, want []Entry }{
		"same":              {[]Entry{b, a}, []Entry{b, a}, []Entry{b, a}},
		"in the middle":     {[]Entry{c, a}, []Entry{b}, []Entry{c, b, a}},
		"at the end":        {[]Entry{c, b}, []Entry{a}, []Entry{c, b, a}},
		"to none":           {nil, []Entry{c, a}, []Entry{c, a}},
		"unknown, first":    {[]Entry{a}, []Entry{unknown, a}, []Entry{unknown, a}},
		"unknown, between":  {[]Entry{c, a}, []Entry{c, unknown, a}, []Entry{c, unknown, a}},
		"before an unknown": {[]Entry{c, unknown}, []Entry{b}, []Entry{c, b, unknown}},
		"cut":               {[]Entry{c, b, a}, []Entry{entry(5, "05:00")}, []Entry{entry(5, "05:00"), c, b}},
	} {
		if d := cmp.Diff(test.want, merge(test.have, test.add, 3)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	now := entry(9, "09:00")
	gone := entry(2, "02:00")
	gone.Gone = true
	img, err := list{tag: "t", announced: &now, confirmed: true, entries: []Entry{entry(3, "03:00"), gone}}.index()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(img.Manifest)
	f.Add([]byte(`{"artifactType":"` + ArtifactType + `","annotations":{"dev.cairn.history.version":"1","dev.cairn.history.tag":"t","dev.cairn.history.gone":"[{}]"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parse(raw, "t")
		if err != nil {
			return
		}
		for _, e := range l.entries {
			if !e.valid() || len(e.By) > maxText {
				t.Fatalf("%+v", e)
			}
		}
		img, err := l.index()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(img.Manifest, "t")
		if err != nil || len(again.entries) != len(l.entries) {
			t.Fatalf("%d entries after a round trip, %d before: %v", len(again.entries), len(l.entries), err)
		}
	})
}
