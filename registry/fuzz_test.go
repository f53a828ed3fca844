package registry

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/retry"
)

// FuzzAnswers resolves an image of a registry that answers anything: status,
// headers and body are the input's, and CONFIG in a body is the digest of a
// config that is there.
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
	c.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	f.Fuzz(func(t *testing.T, code int, head, text string) {
		name, value, _ := strings.Cut(head, ": ")
		if code < 200 || code > 599 || strings.EqualFold(name, "Location") && !local(value) {
			return // nothing leaves this machine
		}
		status, header, body = code, head, text
		img, err := c.Resolve(context.Background(), s.Host+"/a/b:1", layer.Platform{OS: "linux", Architecture: "amd64"})
		switch {
		case err != nil && strings.ContainsAny(err.Error(), "\x1b\r"):
			t.Errorf("a registry's control characters are in %q", err)
		case err == nil && (img.ConfigDigest != d || layer.FromBytes(img.Manifest) != img.Digest):
			t.Errorf("the image %s is not what its digest says", img.Digest)
		}
	})
}

// local tells that a redirect can't lead to another machine.
func local(location string) bool {
	return strings.HasPrefix(location, "file:") || strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") || strings.HasPrefix(location, "//[::1")
}

// FuzzRetryAfter reads how long a server says to wait.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"7", "-1", "9223372036854775807", "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := retry.After(http.Header{"Retry-After": {s}}); d < 0 {
			t.Errorf("%q means to wait %s", s, d)
		}
	})
}

// FuzzCredentials reads docker's config.json and podman's auth.json, and
// removes a login from it.
func FuzzCredentials(f *testing.F) {
	f.Add(`{"auths":{"https://a.example/v1/":{"auth":"dTpw"},"a.example/b":{"username":"u","password":"hush-hush"}}}`, "a.example", "b/c")
	f.Add(`{"auths":{"a":{"auth":"====","identitytoken":"t"}},"credsStore":"../x","credHelpers":{"a":"b/../../x"}}`, "a", "x")
	f.Add(`{"auths":null,"credHelpers":{"a":""},"credsStore":"none"}`, "docker.io", "library/x")
	f.Add(`{"auths":{"docker.io":7}}`, "docker.io", "../..")
	f.Setenv("PATH", f.TempDir()) // so that no helper is found
	f.Fuzz(func(t *testing.T, text, domain, repo string) {
		cred, err := credentialIn(context.Background(), []byte(text), "the file", domain, repo)
		if err == nil && !cred.empty() && cred.source == "" {
			t.Errorf("the credential %v is from nowhere", cred)
		}
		if err != nil && strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("the password is in %q", err)
		}
	})
}
