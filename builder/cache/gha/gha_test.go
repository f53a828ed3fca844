package gha

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/cache/gha/fake"
)

// both runs a test against both versions of the service.
func both(t *testing.T, test func(t *testing.T, c *Cache, s *fake.Service)) {
	t.Helper()
	for version := 1; version <= 2; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			s := &fake.Service{}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			c, err := New(Options{URL: server.URL + "/", Token: fake.Token, Version: version})
			if err != nil {
				t.Fatal(err)
			}
			test(t, c, s)
		})
	}
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func fetched(t *testing.T, c *Cache, key string, newest bool) (string, []byte) {
	t.Helper()
	e, err := c.Find(t.Context(), key, newest)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return e.Key, data
}

func TestEntries(t *testing.T) {
	both(t, func(t *testing.T, c *Cache, s *fake.Service) {
		if _, err := c.Find(t.Context(), "a", true); !errors.Is(err, ErrNotFound) {
			t.Errorf("finding nothing: %v", err)
		}
		large := make([]byte, 2*blockSize+7)
		for i := range large {
			large[i] = byte(i / 1000)
		}
		for key, data := range map[string][]byte{"a#1": []byte("one"), "empty": {}, "large": large} {
			if err := c.Save(t.Context(), key, int64(len(data)), opener(data)); err != nil {
				t.Fatal(err)
			}
			if _, got := fetched(t, c, key, false); !bytes.Equal(got, data) {
				t.Errorf("%s came back as %d bytes", key, len(got))
			}
		}
		if err := c.Save(t.Context(), "a#1", 3, opener([]byte("two"))); !errors.Is(err, ErrExists) {
			t.Errorf("saving again: %v", err)
		}
		if err := c.Save(t.Context(), "a#2", 3, opener([]byte("two"))); err != nil {
			t.Fatal(err)
		}
		if key, data := fetched(t, c, "a#", true); key != "a#2" || string(data) != "two" {
			t.Errorf("the newest is %s, %q", key, data)
		}
		if _, err := c.Find(t.Context(), "a#", false); !errors.Is(err, ErrNotFound) {
			t.Errorf("a beginning is taken for a key: %v", err)
		}
	})
}

// Each request fails once, in one of several ways.
func TestFaults(t *testing.T) {
	both(t, func(t *testing.T, c *Cache, s *fake.Service) {
		r := rand.New(rand.NewPCG(1, 2))
		failed := map[string]bool{}
		s.Fault = func(_ int, r2 *http.Request) int {
			what := r2.Method + r2.URL.Path + r2.URL.Query().Get("comp")
			if failed[what] {
				return 0
			}
			failed[what] = true
			if r2.Method == "GET" && strings.HasPrefix(r2.URL.Path, "/blob/") {
				return 1 + r.IntN(90) // broken off
			}
			return []int{429, 500, 503}[r.IntN(3)]
		}
		data := bytes.Repeat([]byte("0123456789"), 1000)
		if err := c.Save(t.Context(), "key", int64(len(data)), opener(data)); err != nil {
			t.Fatal(err)
		}
		if _, got := fetched(t, c, "key", false); !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back, not %d", len(got), len(data))
		}
		if len(failed) < 4 {
			t.Errorf("only %d faults", len(failed))
		}
	})
}

func TestRefused(t *testing.T) {
	both(t, func(t *testing.T, c *Cache, s *fake.Service) {
		c.token = "other"
		_, err := c.Find(t.Context(), "key", false)
		if err == nil || !strings.Contains(err.Error(), "token has expired or has no access") || strings.Contains(err.Error(), "other") {
			t.Error(err)
		}
	})
}

func TestNew(t *testing.T) {
	for _, name := range []string{"ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_CACHE_SERVICE_V2"} {
		t.Setenv(name, "")
	}
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "ACTIONS_CACHE_URL and ACTIONS_RUNTIME_TOKEN") {
		t.Error(err)
	}
	t.Setenv("ACTIONS_CACHE_SERVICE_V2", "True")
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "ACTIONS_RESULTS_URL and") {
		t.Error(err)
	}
	t.Setenv("ACTIONS_RESULTS_URL", "https://results.example/")
	t.Setenv("ACTIONS_RUNTIME_TOKEN", "x")
	if c, err := New(Options{}); err != nil || !c.v2 || c.base != "https://results.example" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := New(Options{URL: "results", Token: "x"}); err == nil {
		t.Error("an address without a scheme is taken")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"ok":true,"signed_download_url":"http://x/","matched_key":"key"}`), []byte(`x`))
	f.Add([]byte(`{"ok":true,"signed_upload_url":"::","cacheId":-1}`), []byte(``))
	f.Add([]byte(`{"cacheKey":"key","archiveLocation":"file:///etc/passwd"}`), []byte(`x`))
	f.Fuzz(func(t *testing.T, answer, body []byte) {
		for version := 1; version <= 2; version++ {
			c, err := New(Options{URL: "http://service", Token: "x", Version: version, Client: &http.Client{Transport: says(answer)}})
			if err != nil {
				t.Fatal(err)
			}
			if e, err := c.Find(t.Context(), "key", false); err == nil && e.Key != "key" {
				t.Errorf("found %q", e.Key)
			} else if err == nil {
				if r, err := c.Open(t.Context(), e); err == nil {
					io.Copy(io.Discard, r)
					r.Close()
				}
			}
			c.Save(t.Context(), "key", int64(len(body)), opener(body))
		}
	})
}

// says is a service that sends the same response to all requests.
type says []byte

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return nil, http.ErrNotSupported
	}
	return &http.Response{StatusCode: 200, Status: "200 OK", Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(s)), Request: r}, nil
}
