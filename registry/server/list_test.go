package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

func TestLists(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	c.want(c.do("GET", "/v2/app/tags/list", ""), 404, "NAME_UNKNOWN")
	c.want(c.do("GET", "/v2/_catalog", ""), 200, `{"repositories":[]}`)
	for _, tag := range []string{"v2", "v1", "latest", "v10"} {
		c.putImage("app", tag, "x")
	}
	for _, repo := range []string{"a/b/c", "a-b", "a/0", "a"} {
		c.putImage(repo, "1", "x")
	}
	c.putBlob("blobs-only", "x")
	c.want(c.do("GET", "/v2/app/tags/list", ""), 200, `{"name":"app","tags":["latest","v1","v10","v2"]}`)
	c.want(c.do("GET", "/v2/blobs-only/tags/list", ""), 200, `{"name":"blobs-only","tags":[]}`)
	c.want(c.do("GET", "/v2/_catalog", ""), 200, `{"repositories":["a","a-b","a/0","a/b/c","app"]}`)
	for path, want := range map[string][]string{"/v2/app/tags/list": {"latest", "v1", "v10", "v2"}, "/v2/_catalog": {"a", "a-b", "a/0", "a/b/c", "app"}} {
		for n := 1; n <= 6; n++ {
			if got := pages(c, path, n); !slices.Equal(got, want) {
				t.Errorf("%s by %d: %q, want %q", path, n, got, want)
			}
		}
	}
	c.want(c.do("GET", "/v2/app/tags/list?n=0", ""), 200, `"tags":[]`)
	c.want(c.do("GET", "/v2/app/tags/list?n=-1", ""), 400, "PAGINATION_NUMBER_INVALID")
	c.want(c.do("GET", "/v2/app/tags/list?last=v1", ""), 200, `["v10","v2"]`)
	c.want(c.do("GET", "/v2/app/tags/list?last=v11", ""), 200, `["v2"]`)
}

// pages follows the links from page to page.
func pages(c *client, path string, n int) []string {
	c.t.Helper()
	var all []string
	for next := fmt.Sprintf("%s?n=%d", path, n); next != ""; {
		a := c.do("GET", next, "")
		var page struct{ Tags, Repositories []string }
		if err := json.Unmarshal([]byte(a.body), &page); err != nil {
			c.t.Fatal(err)
		}
		all = append(append(all, page.Tags...), page.Repositories...)
		link, _, _ := strings.Cut(a.header.Get("Link"), ">")
		next = strings.TrimPrefix(link, "<")
	}
	return all
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	subject := c.putImage("app", "1", "x")
	config := c.putBlob("app", "{}")
	path := "/v2/app/referrers/" + string(subject)
	c.want(c.do("GET", path, ""), 200, `"manifests":[]`)
	m := map[string]any{"mediaType": layer.MediaTypeManifest, "artifactType": "application/sbom", "config": desc("application/vnd.oci.empty.v1+json", config, 2),
		"layers": []any{}, "subject": desc(layer.MediaTypeManifest, subject, 1), "annotations": map[string]string{"k": "v"}}
	sbom := c.putManifest("app", "", m)
	delete(m, "artifactType")
	m["config"] = desc("application/signature", config, 2)
	signature := c.putManifest("app", "", m)
	missing := layer.FromBytes([]byte("not there yet"))
	m["subject"] = desc(layer.MediaTypeManifest, missing, 1)
	c.putManifest("app", "", m)

	a := c.do("GET", path, "")
	var x struct {
		MediaType string
		Manifests []descriptor
	}
	if err := json.Unmarshal([]byte(a.body), &x); err != nil || len(x.Manifests) != 2 || a.header.Get("Content-Type") != layer.MediaTypeIndex {
		t.Fatalf("%v, %v", a, err)
	}
	got := map[layer.Digest]string{}
	for _, d := range x.Manifests {
		got[d.Digest] = d.ArtifactType + " " + d.Annotations["k"]
	}
	if got[sbom] != "application/sbom v" || got[signature] != "application/signature v" {
		t.Errorf("referrers %v", got)
	}
	a = c.do("GET", path+"?artifactType="+url.QueryEscape("application/sbom"), "")
	if a.header.Get("OCI-Filters-Applied") != "artifactType" || !strings.Contains(a.body, string(sbom)) || strings.Contains(a.body, string(signature)) {
		t.Errorf("filtered: %v", a)
	}
	c.want(c.do("GET", "/v2/app/referrers/"+string(missing), ""), 200, "application/signature")
	c.want(c.do("DELETE", "/v2/app/manifests/"+string(sbom), ""), 202, "")
	if a := c.do("GET", path, ""); strings.Contains(a.body, string(sbom)) {
		t.Error("a deleted referrer is listed")
	}
	c.want(c.do("GET", "/v2/app/referrers/nonsense", ""), 400, "DIGEST_INVALID")
}
