// Package registry talks to image registries: it finds out what a reference
// means, streams layers, and pushes images.
//
// The client sends as few requests as it can. It never pings: the first real
// request is sent as it is, and credentials are sought only when the registry
// asks for them. An image that is already there under its tag costs one
// request to push; layers that the tag's manifest lists are never asked for
// one by one. Every byte that comes in is checked against its digest while it
// streams, broken downloads go on where they stopped, and what a registry
// asks to be tried later is tried later (Retry-After).
//
// Credentials come from docker's and podman's files and their helpers. They
// are sent to the registry that they belong to and to the token server that
// it names, never to the host of a redirect and never by plain HTTP to a
// registry that speaks HTTPS.
package registry

import (
	"context"
	"errors"
	"io"

	"github.com/cairn-build/cairn/layer"
)

// Options say how registries are reached. The zero value is usual.
type Options struct {
	// Insecure are hosts (host or host:port) whose certificate is not
	// checked, and that may speak plain HTTP.
	Insecure []string
	// Mirrors are asked in order before the host itself, for pulls only. A
	// mirror is host[:port][/path], with http:// before it for plain HTTP.
	Mirrors map[string][]string
	// Docker is the folder of docker's config.json; empty means
	// $DOCKER_CONFIG, else ~/.docker.
	Docker string
	// UserAgent is sent with every request; empty means "cairn".
	UserAgent string
}

// Client is a client of any number of registries, safe for concurrent use.
type Client struct{}

// New makes a client; nothing is read or sent yet.
func New(o Options) (*Client, error) { return nil, errors.ErrUnsupported }

func (c *Client) Resolve(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	return layer.Image{}, errors.ErrUnsupported
}
func (c *Client) ResolveDigest(ctx context.Context, ref string) (layer.Digest, error) {
	return "", errors.ErrUnsupported
}
func (c *Client) OpenBlob(ctx context.Context, ref string, b layer.Blob) (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}
func (c *Client) NewPush(ref string) (*Push, error) { return nil, errors.ErrUnsupported }

// Push sends one image to one repository, layer by layer as they come to be.
type Push struct{}

// Source is where the bytes of a blob come from.
type Source struct {
	From string                        // reference on the same registry that has the blob already; may be empty
	Open func() (io.ReadCloser, error) // called only when the bytes must be sent; again for each retry
}

// Blob makes sure that the repository has b. progress (may be nil) is told how many bytes of b are there by now.
func (p *Push) Blob(ctx context.Context, b layer.Blob, src Source, progress func(n int64)) error {
	return errors.ErrUnsupported
}

// Image sends config and manifest and sets the tag.
func (p *Push) Image(ctx context.Context, img layer.Image) error { return errors.ErrUnsupported }

func Login(ctx context.Context, o Options, host, user, password string) error {
	return errors.ErrUnsupported
}
func Logout(o Options, host string) error { return errors.ErrUnsupported }
