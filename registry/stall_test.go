package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/retry"
	"github.com/cairn-build/cairn/registry/transport"
)

// pipes is a listener without a network, which works with virtual time.
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

// overPipes runs test in virtual time with a client whose connections all lead
// to h.
func overPipes(t *testing.T, h http.HandlerFunc, test func(*testing.T, *Client)) {
	t.Helper()
	docker := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: h}
		go func() { _ = server.Serve(p) }()
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			near, far := net.Pipe()
			select {
			case p.conns <- far:
				return near, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		c, err := New(Options{Credentials: auth.Keychain{DockerDir: docker}, Transport: transport.Options{Dial: dial}})
		if err != nil {
			t.Fatal(err)
		}
		test(t, c)
		c.Close()
		_ = server.Close()
		synctest.Wait()
	})
}

// A download that stalls is resumed after a minute.
func TestDownloadStalls(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 1000)
	b := layer.Descriptor{Digest: layer.FromBytes(content), Size: int64(len(content))}
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
		if took := time.Since(begin); took < retry.Patience || took > retry.Patience+time.Second || requests != 2 {
			t.Errorf("it took %v and %d requests", took, requests)
		}
	})
}

// drip writes a byte a second.
func drip(w http.ResponseWriter, r *http.Request, content []byte) {
	for i := range content {
		if _, err := w.Write(content[i : i+1]); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

// A blob and a manifest that come a byte a second are given up.
func TestDrips(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 10_000)
	dripping := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		drip(w, r, content)
	}
	overPipes(t, dripping, func(t *testing.T, c *Client) {
		for name, read := range map[string]func() error{
			"blob": func() error {
				r, err := c.OpenBlob(t.Context(), "localhost:5000/app:1", layer.Descriptor{Digest: layer.FromBytes(content), Size: 100_000})
				if err != nil {
					return err
				}
				defer r.Close()
				_, err = io.Copy(io.Discard, r)
				return err
			},
			"manifest": func() error {
				_, err := c.Resolve(t.Context(), "localhost:5000/app:1", layer.Platform{})
				return err
			},
		} {
			begin := time.Now()
			err := read()
			if err == nil || !strings.Contains(err.Error(), "registry localhost:5000 transfers less than 1000 bytes a second for 1m0s; check the network, or wait longer with --stall-timeout") {
				t.Errorf("%s: error %v", name, err)
			}
			if took := time.Since(begin); took < time.Minute || took > 10*time.Minute {
				t.Errorf("%s: it took %v", name, took)
			}
		}
	})
}

// A registry that takes nothing of a blob is given up.
func TestUploadStalls(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	b := layer.Descriptor{Digest: layer.FromBytes(content), Size: int64(len(content))}
	var done chan struct{}
	stalling := func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", "/v2/app/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut, http.MethodPatch:
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			<-done
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
	overPipes(t, stalling, func(t *testing.T, c *Client) {
		done = make(chan struct{})
		defer func() { close(done); time.Sleep(time.Second) }() // the server lingers
		p, err := c.NewPush("localhost:5000/app:1")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = p.Blob(t.Context(), b, Source{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}, nil)
		if err == nil || !strings.Contains(err.Error(), "transfers less than 1000 bytes a second for 1m0s") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took < time.Minute || took > 10*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// A request without an answer fails.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	silent := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	overPipes(t, silent, func(t *testing.T, c *Client) {
		_, err := c.ResolveDigest(context.Background(), "localhost:5000/app:1")
		wantError(t, err, "look up localhost:5000/app:1: registry localhost:5000 does not answer in time; check the network, and set HTTPS_PROXY if it needs a proxy", "", c)
		if !errors.Is(err, ErrUnreachable) {
			t.Error("it is not ErrUnreachable")
		}
	})
}

// Cancelling ends the wait before a retry.
func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	busy := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "55")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	overPipes(t, busy, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := c.OpenBlob(ctx, "localhost:5000/app:1", layer.Descriptor{Digest: layer.FromBytes(nil)})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 60*time.Second {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
	})
}

// Cancelling its context ends a download with an error.
func TestDownloadCancelled(t *testing.T) {
	t.Parallel()
	endless := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("some"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	overPipes(t, endless, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithCancel(context.Background())
		r, err := c.OpenBlob(ctx, "localhost:5000/app:1", layer.Descriptor{Digest: layer.FromBytes(nil), Size: 100})
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
