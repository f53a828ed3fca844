package registry

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
)

// TestReferrersAnswers checks the answers of registries to a request for referrers: pages,
// the fallback tag, and answers that are refused.
func TestReferrersAnswers(t *testing.T) {
	t.Parallel()
	subject, one, two := layer.FromBytes([]byte("subject")), layer.FromBytes([]byte("one")), layer.FromBytes([]byte("two"))
	index := func(types ...string) string {
		var entries []string
		for i, artifactType := range types {
			d := []layer.Digest{one, two}[i]
			entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"artifactType":%q}`, layer.MediaTypeManifest, d, artifactType))
		}
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, layer.MediaTypeIndex, strings.Join(entries, ","))
	}
	for _, test := range []struct {
		name, link, body, tag string
		status, count         int
		want                  string
	}{
		{name: "one page", status: 200, body: index("a", "a"), count: 2},
		{name: "unfiltered answer", status: 200, body: index("a", "b"), count: 1},
		{name: "next page", status: 200, body: index("a"), link: `</v2/app/referrers/x?last=1>; rel="next"`, count: 3},
		{name: "endless pages", status: 200, body: index("a"), link: `</v2/app/referrers/` + string(subject) + `?again>; rel="next"`, want: "more than 50 pages"},
		{name: "page elsewhere", status: 200, body: index("a"), link: `<http://other.example/v2/>; rel="next"`, want: "not on the registry"},
		{name: "no API, no tag", status: 404},
		{name: "no API, tag", status: 404, tag: index("a", "b"), count: 1},
		{name: "not an index, tag", status: 200, body: "<html>", tag: index("a"), count: 1},
		{name: "image instead of an index", status: 404, tag: `{"schemaVersion":2,"config":{}}`, want: "the answer is not an index"},
		{name: "bad digest", status: 200, body: `{"manifests":[{"digest":"sha256:../x"}]}`, want: "index of referrers"},
		{name: "gigantic page", status: 200, body: strings.Repeat(" ", maxReferrersPage+1), want: "more than 4194304 bytes"},
		{name: "forbidden", status: 403, want: "list referrers of " + string(subject)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/referrers/x"):
					_, _ = io.WriteString(w, index("a", "a"))
				case strings.Contains(r.URL.Path, "/referrers/"):
					w.Header().Set("Link", test.link)
					w.WriteHeader(test.status)
					_, _ = io.WriteString(w, test.body)
				case strings.HasSuffix(r.URL.Path, "/manifests/sha256-"+subject.Hex()) && test.tag != "":
					w.Header().Set("Content-Type", layer.MediaTypeIndex)
					_, _ = io.WriteString(w, test.tag)
				case r.URL.Path == "/v2/":
				default:
					http.NotFound(w, r)
				}
			}))
			c, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			found, err := c.Referrers(t.Context(), s.Host+"/app", subject, "a")
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q", err, test.want)
				}
				return
			}
			if err != nil || len(found) != test.count {
				t.Errorf("%v, %v, want %d", found, err, test.count)
			}
		})
	}
}

func FuzzReferrers(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"` + layer.MediaTypeIndex + `","manifests":[{"digest":"` + string(layer.FromBytes(nil)) + `","annotations":{"a":"b"}}]}`))
	f.Add([]byte(`{"manifests":null}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:../x"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		found, err := parseReferrers(raw)
		for _, r := range found {
			if err == nil && r.Digest.Validate() != nil {
				t.Errorf("digest %q", r.Digest)
			}
		}
	})
}
