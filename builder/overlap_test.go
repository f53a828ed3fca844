package builder

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cairn-build/cairn/registry/server"
)

// until is a display that closes a channel when it has shown a text.
type until struct {
	mu   sync.Mutex
	text string
	seen strings.Builder
	done chan struct{}
}

func (u *until) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.Write(p)
	if u.text != "" && strings.Contains(u.seen.String(), u.text) {
		u.text = ""
		close(u.done)
	}
	return len(p), nil
}

// Steps do not wait for uploads: the registry accepts no layer until the last step has
// printed its line.
func TestStepsDoNotWaitForUploads(t *testing.T) {
	needSandbox(t)
	handler, err := server.Handler(t.TempDir(), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	shown := &until{text: "the last step runs", done: make(chan struct{})}
	var waited atomic.Bool
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
			waited.Store(true)
			<-shown.done
		}
		handler.ServeHTTP(w, r)
	}))
	defer hub.Close()
	b := newBuilder(t, nil)
	b.Progress = plain(shown)
	dir := busyboxDir(t, "RUN head -c 3000000 /dev/urandom > /big\nRUN echo two > /two\nRUN echo the last $(echo step) runs\n")
	built, err := b.Build(t.Context(), options{Context: dir, Tags: []string{strings.TrimPrefix(hub.URL, "http://") + "/x"}, Push: true})
	if err != nil {
		t.Fatal(err)
	}
	if !waited.Load() || len(built.Image.Layers) != 6 {
		t.Errorf("nothing was uploaded, or %d layers are not 6", len(built.Image.Layers))
	}
}
