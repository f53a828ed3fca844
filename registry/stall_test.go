package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// pipes is a listener without a network, so that time in a test is virtual.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// overPipes runs test in virtual time with a client whose every connection
// leads to h.
func overPipes(t *testing.T, h http.HandlerFunc, test func(*testing.T, *Client)) {
	t.Helper()
	docker := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: h}
		go func() { _ = server.Serve(p) }()
		c, err := New(Options{Docker: docker})
		if err != nil {
			t.Fatal(err)
		}
		c.checked.Proxy = nil
		c.checked.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			near, far := net.Pipe()
			select {
			case p.conns <- far:
				return near, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		test(t, c)
		c.Close()
		_ = server.Close()
		synctest.Wait()
	})
}

// A download whose bytes stop coming is taken up again after a minute.
func TestDownloadStalls(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	b := layer.Blob{Digest: layer.FromBytes(content), Size: int64(len(content))}
	requests := 0
	stalling := func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests > 1 {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
			return
		}
		w.Header().Set("Content-Length", "10000")
		_, _ = w.Write(content[:4321])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	overPipes(t, stalling, func(t *testing.T, c *Client) {
		begin := time.Now()
		if got := mustRead(t, c, "localhost:5000/app:1", b); !bytes.Equal(got, content) {
			t.Error("the blob came back different")
		}
		if took := time.Since(begin); took < answerTime || took > answerTime+time.Second || requests != 2 {
			t.Errorf("it took %v and %d requests", took, requests)
		}
	})
}

// A registry that takes requests and never answers is given up.
func TestNoAnswer(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	overPipes(t, silent, func(t *testing.T, c *Client) {
		_, err := c.ResolveDigest(context.Background(), "localhost:5000/app:1")
		wantError(t, err, "look up localhost:5000/app:1: registry localhost:5000 does not answer in time; is there a network, and does HTTPS_PROXY need to be set?", "", c)
		if !errors.Is(err, ErrUnreachable) {
			t.Error("it is not ErrUnreachable")
		}
	})
}

// A build that is cancelled does not wait for the next attempt.
func TestCancelWhileWaiting(t *testing.T) {
	busy := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "55")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	overPipes(t, busy, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := c.OpenBlob(ctx, "localhost:5000/app:1", layer.Blob{Digest: layer.FromBytes(nil)})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 60*time.Second {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
	})
}

// A download ends with its context, and its reader says so.
func TestDownloadCancelled(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("some"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	overPipes(t, endless, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithCancel(context.Background())
		r, err := c.OpenBlob(ctx, "localhost:5000/app:1", layer.Blob{Digest: layer.FromBytes(nil), Size: 100})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		r.Close()
	})
}
