package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// A download is the verified stream of one blob, over as many connections as
// it takes.
type download struct {
	ctx  context.Context // of the whole stream, which Read cannot be given
	h    *host
	repo string
	blob layer.Blob
	what string // for errors

	body  io.ReadCloser
	conn  context.Context // of the connection
	stop  context.CancelCauseFunc
	slow  *time.Timer // cancels it when no byte comes
	hash  hash.Hash
	at    int64
	tries retries
	tried int64 // at that point, since when tries count
	err   error // sticky
}

func (h *host) open(ctx context.Context, repo string, b layer.Blob, what string) (io.ReadCloser, error) {
	d := &download{ctx: ctx, h: h, repo: repo, blob: b, what: what, hash: sha256.New(), tries: retries{h: h}}
	if err := d.connect(); err != nil {
		return nil, err
	}
	return d, nil
}

// connect asks for the bytes from d.at on.
func (d *download) connect() error {
	ctx, stop := context.WithCancelCause(d.ctx)
	c := call{method: http.MethodGet, path: d.repo + "/blobs/" + string(d.blob.Digest), repo: d.repo, scopes: pullScope(d.repo)}
	if d.at > 0 {
		c.header = map[string]string{"Range": fmt.Sprintf("bytes=%d-", d.at)}
	}
	resp, err := d.h.do(ctx, c)
	if err == nil && resp.StatusCode == http.StatusPartialContent {
		err = d.checkRange(resp)
	} else if err == nil && d.at > 0 { // no ranges here: read what we have once more
		_, err = io.CopyN(io.Discard, resp.Body, d.at)
	}
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		stop(nil)
		return err
	}
	d.body, d.conn, d.stop = resp.Body, ctx, stop
	d.slow = time.AfterFunc(answerTime, func() { stop(errSlow) })
	return nil
}

func (d *download) checkRange(resp *http.Response) error {
	var from int64
	if n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); n != 1 || from != d.at {
		return &permanent{fmt.Errorf("asked for the bytes from %d on, registry %s sends %.60q", d.at, d.h.name, resp.Header.Get("Content-Range"))}
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
		} else if err = d.again(err); err != nil {
			d.err = fmt.Errorf("%s: %w", d.what, err)
		}
	}
	return 0, d.err
}

// read gives the next bytes, or io.EOF when all are there and right. It never
// gives both bytes and an error: the error comes again.
func (d *download) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	d.slow.Reset(answerTime)
	n, err := d.body.Read(p)
	d.hash.Write(p[:n])
	d.at += int64(n)
	if d.at > d.blob.Size {
		return 0, &permanent{fmt.Errorf("more came than the %d bytes that were promised", d.blob.Size)}
	}
	if n > 0 || err == nil {
		return n, nil
	}
	if err != io.EOF {
		return 0, causeOf(d.conn, err)
	}
	if d.at < d.blob.Size {
		return 0, io.ErrUnexpectedEOF
	}
	if have := layer.FromHash(d.hash); have != d.blob.Digest {
		return 0, &permanent{fmt.Errorf("what came has digest %s", have)}
	}
	return 0, io.EOF
}

// A download that has come this much further may fail as often again.
const goodProgress = 1 << 20

// again makes a new connection after err.
func (d *download) again(err error) error {
	d.disconnect()
	if d.at >= d.tried+goodProgress {
		d.tries.done, d.tried = 0, d.at
	}
	for {
		if err = d.tries.again(d.ctx, err); err != nil {
			return d.h.explain(err, credential{})
		}
		if err = d.connect(); err == nil {
			return nil
		}
		if _, ok := d.h.retryable(err); !ok {
			return err
		}
	}
}

func (d *download) disconnect() {
	if d.body != nil {
		d.slow.Stop()
		d.stop(nil)
		d.body.Close()
		d.body = nil
	}
}

func (d *download) Close() error {
	d.disconnect()
	if d.err == nil {
		d.err = fmt.Errorf("%s: closed", d.what)
	}
	return nil
}
