package transport

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer/imagetest"
)

// withChallenge returns the authorizer of h after a challenge for a token.
func withChallenge(h *Host, realm string) *authorizer {
	h.auth.answer([]string{`Bearer realm="` + realm + `"`}, &authorization{}, false)
	return &h.auth
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	tokenOf := func(body string) (header string, expires time.Time, err error) {
		tokens := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) }))
		s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { header = r.Header.Get("Authorization") }))
		h := newPool(t, Options{}, nil).Host(HostConfig{Domain: s.Host})
		auth, _, err := withChallenge(h, tokens.URL).authorize(t.Context(), "app", nil)
		if err != nil {
			return "", expires, err
		}
		resp, err := (&http.Client{Transport: auth}).Get(s.URL + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return header, auth.expires, nil
	}
	for body, want := range map[string]time.Duration{
		`{"token":"x"}`: 54 * time.Second, `{"token":"x","expires_in":300}`: 270 * time.Second, `{"access_token":"x","expires_in":-1}`: 54 * time.Second,
	} {
		header, expires, err := tokenOf(body)
		if life := time.Until(expires); err != nil || header != "Bearer x" || life > want || life < want-10*time.Second {
			t.Errorf("%s: %v, %v, sends %q", body, life, err, header)
		}
	}
	for _, body := range []string{`{}`, `[]`, `<html>`, `{"token":"a\r\nb"}`, `{"refresh_token":"hidden"}`} {
		if _, _, err := tokenOf(body); err == nil || !errors.As(err, new(*permanent)) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: error %v, want one without the content", body, err)
		}
	}
}

// A token server may redirect to hosts that the registry could name, without
// the credentials.
func TestTokenRedirect(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 10)
	other := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		fmt.Fprint(w, `{"token":"x"}`)
	}))
	for to, want := range map[string]string{other.URL: "", "http://169.254.169.254/": "it has a private address", "file:///etc/passwd": "want https"} {
		tokens := imagetest.Serve(t, http.RedirectHandler(to, http.StatusTemporaryRedirect))
		h := newPool(t, Options{}, testCredentials{}).Host(HostConfig{Domain: "localhost:5000"})
		_, _, err := withChallenge(h, tokens.URL).authorize(t.Context(), "app", nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("to %s: error %v, want %q", to, err, want)
		}
	}
	if got := <-seen; got != "" || len(seen) > 0 {
		t.Errorf("the redirect's host was sent %q, and then %d more", got, len(seen))
	}
}
