package gcs

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/cache/object"
)

// TestGet reads a private and a public object, one that is missing, and one after a
// temporary error and an interruption.
func TestGet(t *testing.T) {
	var requests atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch at := r.URL.EscapedPath() + "?" + r.URL.RawQuery; {
		case r.URL.Path == "/computeMetadata/v1/instance/service-accounts/default/token":
			fmt.Fprint(w, `{"access_token":"token","expires_in":3600}`)
		case at == "/storage/v1/b/bucket/o/public?alt=media":
			fmt.Fprint(w, "public")
		case at == "/storage/v1/b/bucket/o/dir%2Fprivate.tar?alt=media" && r.Header.Get("Authorization") == "Bearer token":
			fmt.Fprint(w, "private")
		case at == "/storage/v1/b/bucket/o/dir%2Fprivate.tar?alt=media":
			w.WriteHeader(http.StatusUnauthorized)
		case at == "/storage/v1/b/bucket/o/flaky?alt=media":
			switch requests.Add(1) {
			case 1:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 2:
				w.Header().Set("Content-Length", "10")
				fmt.Fprint(w, "01234")
			default:
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
			}
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(s.URL, "http://"))
	read := func(key string) (string, error) {
		body, err := New("bucket").Get(t.Context(), key)
		if err != nil {
			return "", err
		}
		defer body.Close()
		text, err := io.ReadAll(body)
		return string(text), err
	}
	t.Setenv("GCE_METADATA_HOST", "127.0.0.1:1")
	if text, err := read("public"); text != "public" || err != nil {
		t.Errorf("without credentials: %q, %v", text, err)
	}
	if _, err := read("dir/private.tar"); err == nil || !strings.Contains(err.Error(), "gs://bucket/dir/private.tar: status 401: credentials for Google Cloud: there are none") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
	for key, want := range map[string]string{"dir/private.tar": "private", "flaky": "0123456789"} {
		if text, err := read(key); text != want || err != nil {
			t.Errorf("%s: %q, %v", key, text, err)
		}
	}
	if _, err := read("none"); !errors.Is(err, object.ErrNotFound) {
		t.Error(err)
	}
}
