package azblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/builder/cache/object/azblob/fake"
)

func start(t *testing.T, s *fake.Server) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func client(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func content(data []byte) object.Content {
	return object.Content{Size: int64(len(data)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

func read(c *Client, key, known string) (string, object.Info, error) {
	body, info, err := c.Get(context.Background(), key, known)
	if err != nil {
		return "", info, err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	return string(raw), info, err
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"key":                     {Account: fake.Account, Key: fake.Key},
		"shared access signature": {Account: fake.Account, URL: "?" + fake.Signature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &fake.Server{}
			o.URL = start(t, s) + "/" + fake.Account + o.URL
			c := client(t, o)
			const key = "pre fix/blobs/sha256:0+1=2/ü&?#~.txt"
			if _, _, err := read(c, key, ""); !errors.Is(err, object.ErrNotFound) {
				t.Errorf("without a container: %v", err)
			}
			if err := c.Put(t.Context(), key, content([]byte("one")), object.Absent); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Stat(t.Context(), "other"); !errors.Is(err, object.ErrNotFound) {
				t.Errorf("another: %v", err)
			}
			text, info, err := read(c, key, "")
			if err != nil || text != "one" || info.Size != 3 || info.Tag == "" || info.Modified.IsZero() {
				t.Errorf("%q, %+v, %v", text, info, err)
			}
			if _, _, err := read(c, key, info.Tag); !errors.Is(err, object.ErrUnchanged) {
				t.Errorf("unchanged: %v", err)
			}
			if err := c.Put(t.Context(), key, content([]byte("two")), object.Absent); !errors.Is(err, object.ErrChanged) {
				t.Errorf("put although it is there: %v", err)
			}
			if err := c.Put(t.Context(), key, content([]byte("two")), info.Tag); err != nil {
				t.Errorf("put over the old one: %v", err)
			}
			if err := c.Put(t.Context(), key, content([]byte("three")), info.Tag); !errors.Is(err, object.ErrChanged) {
				t.Errorf("put over another: %v", err)
			}
			if err := c.Put(t.Context(), "empty", content(nil), ""); err != nil {
				t.Error(err)
			}
			s.Age(time.Hour)
			if err := c.Touch(t.Context(), key, info); err != nil || time.Since(s.Modified(key)) > time.Minute {
				t.Errorf("touched: %v, %v", s.Modified(key), err)
			}
			if text, _, err := read(c, key, info.Tag); err != nil || text != "two" {
				t.Errorf("in the end: %q, %v", text, err)
			}
			if got := s.Keys(); len(got) != 2 || got[1] != key {
				t.Errorf("keys %q", got)
			}
		})
	}
}

// TestBlocks writes blobs that are too large for one request. It changes the sizes for
// all tests, so it is not parallel.
// Writes that all find no container make it once, and each blob stays.
func TestFirstBlobs(t *testing.T) {
	t.Parallel()
	inner := &fake.Server{}
	const writes = 3
	var refused sync.WaitGroup
	refused.Add(writes)
	stored := make(chan struct{}, writes+1)
	stored <- struct{}{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		makes := r.URL.Query().Get("restype") == "container"
		if makes { // all but the first one after a blob was stored
			<-stored
		}
		answer := httptest.NewRecorder()
		inner.ServeHTTP(answer, r)
		switch {
		case answer.Header().Get("X-Ms-Error-Code") == "ContainerNotFound":
			refused.Done()
			refused.Wait()
		case !makes:
			stored <- struct{}{}
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	c := client(t, Options{Account: fake.Account, Key: fake.Key, URL: server.URL + "/" + fake.Account})
	var all sync.WaitGroup
	for n := range writes {
		all.Go(func() {
			if err := c.Put(t.Context(), fmt.Sprint("blob", n), content([]byte("one")), object.Absent); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if keys := inner.Keys(); len(keys) != writes {
		t.Errorf("the container has %q", keys)
	}
}

func TestBlocks(t *testing.T) {
	old := []int64{largest, block, maxBlocks}
	largest, block, maxBlocks = 100, 30, 4
	defer func() { largest, block, maxBlocks = old[0], old[1], old[2] }()
	for _, size := range []int{100, 101, 121, 1000} {
		s := &fake.Server{Fault: func(n int, _ *http.Request) int {
			if n == 4 {
				return 503
			}
			return 0
		}}
		c := client(t, Options{URL: start(t, s) + "/" + fake.Account, Account: fake.Account, Key: fake.Key})
		data := bytes.Repeat([]byte("abcdefg"), size)[:size]
		if err := c.Put(t.Context(), "key", content(data), object.Absent); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if text, _, err := read(c, "key", ""); err != nil || text != string(data) {
			t.Errorf("%d bytes: %d bytes, %v", size, len(text), err)
		}
		if err := c.Put(t.Context(), "key", content(data), object.Absent); !errors.Is(err, object.ErrChanged) {
			t.Errorf("%d bytes again: %v", size, err)
		}
	}
}

func TestIdentities(t *testing.T) {
	at := start(t, &fake.Server{})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(fake.Identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"pod":     {env: map[string]string{"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_FEDERATED_TOKEN_FILE": file, "AZURE_AUTHORITY_HOST": at + "/"}},
		"secret":  {env: map[string]string{"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": fake.Secret, "AZURE_AUTHORITY_HOST": at}},
		"machine": {env: map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": at}},
		"other secret": {env: map[string]string{"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": "x", "AZURE_AUTHORITY_HOST": at},
			want: "credentials for Azure: status 400 invalid_client"},
		"nowhere": {env: map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"}, want: "there are none: set secret_access_key"},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			c := client(t, Options{URL: at + "/" + fake.Account})
			for range 2 {
				_, err := c.Stat(t.Context(), "key")
				if test.want == "" && !errors.Is(err, object.ErrNotFound) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("%v, want %q", err, test.want)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	at := start(t, &fake.Server{})
	c := client(t, Options{URL: at + "/" + fake.Account, Account: fake.Account, Key: "b3RoZXI="})
	if _, err := c.Stat(t.Context(), "key"); err == nil || err.Error() != "azblob://builder/buildkit-cache/key: status 403 AuthenticationFailed: the credentials do not allow it" {
		t.Error(err)
	}
	for want, o := range map[string]Options{
		"needs the URL of an account":       {},
		"account_url is not an http(s) URL": {URL: "account"},
		`"a/b" is not the name`:             {URL: "https://a.blob.core.windows.net", Container: "a/b"},
		"secret_access_key is not base64":   {URL: "https://a.blob.core.windows.net", Key: "!"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
	if c := client(t, Options{URL: "https://account.blob.core.windows.net/"}); c.String() != "azblob://account/buildkit-cache" || c.base.String() != "https://account.blob.core.windows.net/buildkit-cache" {
		t.Errorf("%s at %s", c, c.base)
	}
}
