package faultinject

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// outcome sends a request with a body of 10 bytes, and returns the status and the
// body of the answer, or "error" if the connection was closed.
func outcome(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	resp, err := http.Post(s.URL, "", strings.NewReader("0123456789"))
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	text := resp.Status + " " + string(body)
	if err != nil {
		text += " error"
	}
	return text
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
}

func TestHandler(t *testing.T) {
	t.Parallel()
	never := func(*http.Request) bool { return false }
	for _, test := range []struct {
		fault Fault
		want  string
	}{
		{Fault{Drop: true, Match: never}, "200 OK 0123456789"},
		{Fault{Drop: true}, "error"},
		{Fault{CutRequest: 3}, "error"},
		{Fault{Status: 503}, "503 Service Unavailable "},
		{Fault{Corrupt: true}, "200 OK 1123456789"},
		{Fault{Cut: 4}, "200 OK 0123 error"},
	} {
		if got := outcome(t, Handler(http.HandlerFunc(echo), test.fault)); got != test.want {
			t.Errorf("%+v: %q, want %q", test.fault, got, test.want)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	h := Handler(http.HandlerFunc(echo), Fault{Status: 500, Times: 2})
	for i, want := range []int{500, 500, 200, 200} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != want {
			t.Errorf("request %d: status %d, want %d", i, w.Code, want)
		}
	}
}

// Each seed below Kinds * requests injects one fault into one request.
func TestSeeded(t *testing.T) {
	t.Parallel()
	const requests = 3
	status := uint64(0) // the number of a kind with a status
	for kinds[status].Status == 0 {
		status++
	}
	for at := range uint64(requests) {
		h := Seeded(http.HandlerFunc(echo), at*uint64(Kinds)+status, requests)
		for i := range uint64(requests) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if failed := w.Code == kinds[status].Status; failed != (i == at) {
				t.Errorf("fault in request %d: request %d has status %d", at, i, w.Code)
			}
		}
	}
}
