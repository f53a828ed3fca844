package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/transport"
)

// A download is a verified stream of one blob, over one connection or several in
// turn.
type download struct {
	ctx    context.Context // of the whole stream, which Read has no parameter for
	from   endpoint
	blob   layer.Descriptor
	action string // for errors: pull REF: blob DIGEST

	body    io.ReadCloser
	cancel  context.CancelFunc // of the connection
	hash    hash.Hash
	offset  int64
	retries transport.Retries
	retried int64 // offset at which retries started to count
	err     error // sticky
}

func (e endpoint) open(ctx context.Context, b layer.Descriptor, action string) (io.ReadCloser, error) {
	d := &download{ctx: ctx, from: e, blob: b, action: action, hash: sha256.New(), retries: e.Retries()}
	if err := d.connect(); err != nil {
		return nil, err
	}
	return d, nil
}

// connect requests the bytes from d.offset on.
func (d *download) connect() error {
	ctx, cancel := context.WithCancel(d.ctx)
	repo := d.from.repo
	r := transport.Request{Method: http.MethodGet, Path: repo + "/blobs/" + string(d.blob.Digest), Repo: repo, Scopes: pullScope(repo)}
	if d.offset > 0 {
		r.Header = map[string]string{"Range": fmt.Sprintf("bytes=%d-", d.offset)}
	}
	resp, err := d.from.Do(ctx, r)
	if err == nil && resp.StatusCode == http.StatusPartialContent {
		err = d.checkRange(resp)
	} else if err == nil && d.offset > 0 { // the server does not support ranges
		_, err = io.CopyN(io.Discard, resp.Body, d.offset)
	}
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		cancel()
		return err
	}
	d.body, d.cancel = resp.Body, cancel
	return nil
}

func (d *download) checkRange(resp *http.Response) error {
	var from int64
	header := resp.Header.Get("Content-Range")
	if n, _ := fmt.Sscanf(header, "bytes %d-", &from); n != 1 || from != d.offset {
		return transport.Permanent(fmt.Errorf("resume at byte %d: registry %s answered with Content-Range %.60q", d.offset, d.from.Name(), header))
	}
	return nil
}

func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		n, err := d.read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if err == io.EOF {
			d.err = io.EOF
		} else if err = d.reconnect(err); err != nil {
			d.err = fmt.Errorf("%s: %w", d.action, err)
		}
	}
	return 0, d.err
}

// read reads from the connection. It returns io.EOF when the blob is complete
// and its digest is right. It never returns both bytes and an error: the next
// read returns the error again.
func (d *download) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := d.body.Read(p)
	d.hash.Write(p[:n])
	d.offset += int64(n)
	if d.offset > d.blob.Size {
		return 0, transport.Permanent(fmt.Errorf("registry %s sent more than the expected %d bytes", d.from.Name(), d.blob.Size))
	}
	if n > 0 || err == nil {
		return n, nil
	}
	if err != io.EOF {
		return 0, err
	}
	if d.offset < d.blob.Size {
		return 0, io.ErrUnexpectedEOF
	}
	if have := layer.FromHash(d.hash); have != d.blob.Digest {
		return 0, transport.Permanent(fmt.Errorf("content from registry %s has digest %s", d.from.Name(), have))
	}
	return 0, io.EOF
}

// goodProgress is the number of bytes after which the retries of a transfer
// count from zero again.
const goodProgress = 1 << 20

// reconnect makes a new connection after err.
func (d *download) reconnect(err error) error {
	d.disconnect()
	if d.offset >= d.retried+goodProgress {
		d.retries.Reset()
		d.retried = d.offset
	}
	for {
		if err = d.retries.Wait(d.ctx, err); err != nil {
			return d.from.Explain(err)
		}
		if err = d.connect(); err == nil {
			return nil
		}
		if !d.from.Retryable(err) {
			return err
		}
	}
}

func (d *download) disconnect() {
	if d.body != nil {
		d.cancel()
		d.body.Close()
		d.body = nil
	}
}

func (d *download) Close() error {
	d.disconnect()
	if d.err == nil {
		d.err = fmt.Errorf("%s: closed", d.action)
	}
	return nil
}
