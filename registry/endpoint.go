package registry

import (
	"context"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

// An endpoint is a repository on a registry or on a mirror of one.
type endpoint struct {
	*transport.Host
	repo string
}

// pushHost returns the host that t is pushed to.
func (c *Client) pushHost(t reference.Reference) (*transport.Host, error) {
	insecure, err := c.o.Rules.Push(t.String())
	if err != nil {
		return nil, err
	}
	return c.hosts.Host(transport.HostConfig{Domain: t.Domain, Insecure: insecure}), nil
}

// endpoints returns the endpoints to pull t from; all but the last are mirrors, and with
// [Options.MirrorsOnly] maybe all.
func (c *Client) endpoints(t reference.Reference) ([]endpoint, error) {
	var all []endpoint
	for _, m := range c.o.Mirrors[t.Domain] {
		m, plain := strings.CutPrefix(m, "http://")
		domain, path, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(m, "https://"), "/"), "/")
		host := c.hosts.Host(transport.HostConfig{Domain: domain, MirrorOf: t.Domain, PlainHTTP: plain, Insecure: c.o.InsecurePull && !plain})
		all = append(all, endpoint{host, strings.TrimPrefix(path+"/"+t.Repo, "/")})
	}
	if len(all) > 0 && c.o.MirrorsOnly {
		return all, nil
	}
	places, err := c.o.Rules.Pull(t.String())
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		at := t
		if p.Ref != t.String() {
			if at, err = reference.Parse(p.Ref); err != nil {
				return nil, fmt.Errorf("registries.conf maps %s to %q: %w", t, p.Ref, err)
			}
		}
		config := transport.HostConfig{Domain: at.Domain, Insecure: p.Insecure || c.o.InsecurePull}
		if p.Mirror {
			config.MirrorOf = t.Domain
		}
		all = append(all, endpoint{c.hosts.Host(config), at.Repo})
	}
	return all, nil
}

// repoOn returns the name on h of a reference's repository, and reports whether
// h has it: h is its registry or a mirror of that, which may be pushed to too.
func (c *Client) repoOn(h *transport.Host, ref string) (repo string, ok bool) {
	t, err := reference.Parse(ref)
	if err != nil {
		return "", false
	}
	if t.Domain == h.Name() {
		return t.Repo, true
	}
	endpoints, _ := c.endpoints(t)
	for _, e := range endpoints {
		if e.Addr() == h.Addr() {
			return e.repo, true
		}
	}
	return "", false
}

// fromFirst calls ask with the endpoints of t in order until it succeeds. If all
// fail, it returns the error of the registry, with those of its mirrors.
func fromFirst[T any](ctx context.Context, c *Client, t reference.Reference, ask func(endpoint) (T, error)) (T, error) {
	var none T
	var failed []string
	var last error
	endpoints, err := c.endpoints(t)
	if err != nil {
		return none, err
	}
	for _, e := range endpoints {
		if e.Unreachable() {
			if c.o.MirrorsOnly {
				failed = append(failed, fmt.Sprintf("mirror %s does not answer", e.Name()))
			}
			continue
		}
		v, err := ask(e)
		if err == nil {
			return v, nil
		}
		if ctx.Err() != nil {
			return none, context.Cause(ctx)
		}
		if !e.IsMirror() {
			if len(failed) > 0 {
				err = fmt.Errorf("%w (mirrors: %s)", err, strings.Join(failed, "; "))
			}
			return none, err
		}
		failed, last = append(failed, err.Error()), err
	}
	text := fmt.Sprintf("no mirror of %s has it, and only mirrors may be asked: %s", t.Domain, strings.Join(failed, "; "))
	return none, &mirrorsError{text, last}
}

// A mirrorsError is the error of all mirrors, where the registry is not asked.
type mirrorsError struct {
	text string
	last error // may be nil
}

func (e *mirrorsError) Error() string { return e.text }
func (e *mirrorsError) Unwrap() error { return e.last }
