package registry

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
)

// FuzzAnswers resolves an image of a registry whose status, header and body are
// the input. CONFIG in a body stands for the digest of an existing config.
func FuzzAnswers(f *testing.F) {
	const config = `{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[]}}`
	d := layer.FromBytes([]byte(config))
	f.Add(200, "Content-Type: "+layer.MediaTypeManifest, `{"schemaVersion":2,"config":{"digest":"CONFIG","size":62},"layers":[]}`)
	f.Add(200, "Content-Type: "+layer.MediaTypeIndex, `{"manifests":[{"digest":"CONFIG","platform":{"os":"linux","architecture":"amd64"}},{"digest":"sha256:../x"}]}`)
	f.Add(401, `WWW-Authenticate: Bearer realm="/token",service="s"`, `{"errors":[{"code":"UNAUTHORIZED","message":"`+"\x1b[2J"+`"}]}`)
	f.Add(429, "Retry-After: 99999999999999999999", `{"errors":1}`)
	f.Add(307, "Location: file:///etc/passwd", ``)
	f.Add(301, "Location: //[::1", `{"details":"x"}`)
	var status int
	var header, body string
	s := imagetest.Serve(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, string(d)) {
			_, _ = io.WriteString(w, config)
			return
		}
		if k, v, ok := strings.Cut(header, ": "); ok {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "CONFIG", string(d)))
	}))
	c, _ := newClient(f, Options{})
	f.Fuzz(func(t *testing.T, code int, head, text string) {
		name, value, _ := strings.Cut(head, ": ")
		if code < 200 || code > 599 || strings.EqualFold(name, "Location") && !local(value) {
			return // do not send requests to other machines
		}
		status, header, body = code, head, text
		img, err := c.Resolve(context.Background(), s.Host+"/a/b:1", layer.Platform{OS: "linux", Architecture: "amd64"})
		switch {
		case err != nil && strings.ContainsAny(err.Error(), "\x1b\r"):
			t.Errorf("a registry's control characters are in %q", err)
		case err == nil && (img.ConfigDigest != d || layer.FromBytes(img.Manifest) != img.Digest):
			t.Errorf("the content of image %s has another digest", img.Digest)
		}
	})
}

// local reports whether a redirect stays on this machine.
func local(location string) bool {
	return strings.HasPrefix(location, "file:") || strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") || strings.HasPrefix(location, "//[::1")
}
