package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
)

// addMounts gives a RUN what its --mount flags ask for, in the order in which it
// is to be mounted: of their targets.
func (p *planner) addMounts(s *stage, c command, in *dockerfile.Run, op *Run) (ins []solve.Input, err error) {
	type mounting struct {
		Mount
		cache CacheUse
	}
	var all []mounting
	agents := 0
	for i, m := range in.Mounts {
		var made Mount
		switch m.Type {
		case "secret":
			made, err = secretMount(m)
		case "ssh":
			made, err = sshMount(m, agents)
			if agents++; agents == 1 && !slices.ContainsFunc(op.Env, isAgent) {
				op.Env = append(op.Env, agentVariable+"="+made.Target)
			}
		default:
			var use *solve.Input
			if made, use, err = p.fileMount(s, c, i, m); use != nil {
				ins = append(ins, *use)
				made.Input = len(ins)
			}
		}
		if err == nil {
			made.Target, err = mountTarget(s, made)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, mounting{made, p.cacheUse(m)})
	}
	slices.SortStableFunc(all, func(a, b mounting) int { return strings.Compare(a.Target, b.Target) })
	for i, m := range all {
		s.outline.mount(in, m.Mount, strings.TrimPrefix(m.cache.ID, p.args[cacheNamespace]+"/"))
		op.Mounts = append(op.Mounts, m.Mount)
		if m.Type == "cache" {
			m.cache.Mount = i
			op.Extra.Caches = append(op.Extra.Caches, m.cache)
		}
	}
	return ins, nil
}

// mountTarget makes a target absolute and clean. A secret that is a variable
// only has none.
func mountTarget(s *stage, m Mount) (string, error) {
	target := m.Target
	switch {
	case m.Type == "secret" && target == "":
		return "", nil
	case !path.IsAbs(target):
		target = path.Join(s.workdir(), target)
	}
	if target = path.Clean(target); target == "/" {
		return "", fmt.Errorf("invalid mount target %q", target)
	}
	return target, nil
}

// cacheNamespace keeps the caches of projects apart that use the same IDs.
const cacheNamespace = "BUILDKIT_CACHE_MOUNT_NS"

const agentVariable = "SSH_AUTH_SOCK"

func isAgent(env string) bool { return strings.HasPrefix(env, agentVariable+"=") }

// fileMount is one of type bind, cache or tmpfs, and the input that it uses.
func (p *planner) fileMount(s *stage, c command, i int, m dockerfile.Mount) (Mount, *solve.Input, error) {
	from := c.mounts[i]
	if from != nil && !from.done {
		return Mount{}, nil, fmt.Errorf("cannot mount from stage %q to %q, stage needs to be defined before current command", m.From, m.Target)
	}
	made := Mount{Type: m.Type, Target: m.Target, ReadOnly: m.ReadOnly, Source: rooted(m.Source)}
	if m.Type == "tmpfs" {
		if made.Source != "/" {
			return Mount{}, nil, errors.New("a tmpfs mount has no source")
		}
		made.Size, made.Source = m.Size, ""
		return made, nil, nil
	}
	if made.Source == "/" && (m.UID != nil || m.GID != nil || m.Mode != nil) {
		made.Owner = ownerOf(m, 0o755)
	}
	if m.Type == "cache" && from == nil {
		return made, nil, nil
	}
	sel := Selection{Paths: []SelPath{{Path: made.Source, Literal: true}}, Epoch: p.epoch}
	return made, &solve.Input{Step: p.source(from), Sel: encode("", sel)}, nil
}

// cacheUse is which folder a cache mount is, and how it is shared.
func (p *planner) cacheUse(m dockerfile.Mount) CacheUse {
	id := m.ID
	if id == "" {
		id = path.Clean(m.Target)
	}
	sharing := m.Sharing
	if sharing == "" {
		sharing = "shared"
	}
	return CacheUse{ID: p.args[cacheNamespace] + "/" + id, Sharing: sharing}
}

func secretMount(m dockerfile.Mount) (Mount, error) {
	id := m.ID
	if m.Source != "" {
		id = m.Source
	}
	if id == "" {
		id = path.Base(m.Target)
	}
	made := Mount{Type: "secret", ID: id, Target: m.Target, Required: m.Required, Owner: ownerOf(m, 0o400)}
	if m.Env != nil {
		if made.Env = *m.Env; made.Env == "" || strings.Contains(made.Env, "=") {
			return Mount{}, fmt.Errorf("%q can't be the name of a secret's variable", made.Env)
		}
	} else if m.Target == "" {
		made.Target = "/run/secrets/" + path.Base(id)
	}
	return made, nil
}

// sshMount is the n-th agent of a RUN.
func sshMount(m dockerfile.Mount, n int) (Mount, error) {
	if m.Source != "" {
		return Mount{}, errors.New("ssh does not support source")
	}
	made := Mount{Type: "ssh", ID: m.ID, Target: m.Target, Required: m.Required, Owner: ownerOf(m, 0o600)}
	if made.ID == "" {
		made.ID = "default"
	}
	if made.Target == "" {
		made.Target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", n)
	}
	return made, nil
}

func ownerOf(m dockerfile.Mount, mode uint32) *Owner {
	o := &Owner{Mode: mode}
	if m.Mode != nil {
		o.Mode = *m.Mode & 0o777
	}
	if m.UID != nil {
		o.UID = *m.UID
	}
	if m.GID != nil {
		o.GID = *m.GID
	}
	return o
}

// masked hides the values of secrets where a command is shown with its
// variables expanded.
type masked struct {
	*env
	names []string
}

func (m masked) Get(name string) (string, bool) {
	if slices.Contains(m.names, name) {
		return "****", true
	}
	return m.env.Get(name)
}

func (m masked) Keys() []string { return append(m.env.Keys(), m.names...) }

// maskSecrets gives the variables that a RUN's name is shown with.
func maskSecrets(e *env, mounts []Mount) dockerfile.Vars {
	m := masked{env: e}
	for _, mount := range mounts {
		if mount.Env != "" {
			m.names = append(m.names, mount.Env)
		}
	}
	return m
}
