package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
)

// addMounts adds the mounts of a RUN's --mount flags, sorted by target, which is
// the order to mount them in. It returns the inputs that they use.
func (d *dispatcher) addMounts(in *dockerfile.Run, o *op.Run) (ins []solve.Input, err error) {
	type mounting struct {
		op.Mount
		cache op.CacheUse
	}
	var all []mounting
	for _, v := range d.in.Volumes {
		made, use := d.volumeMount(v)
		ins = append(ins, use)
		made.Input = len(ins)
		all = append(all, mounting{Mount: made})
	}
	agents := 0
	for i, m := range in.Mounts {
		var made op.Mount
		switch m.Type {
		case "secret":
			made, err = secretMount(m)
		case "ssh":
			made, err = sshMount(m, agents)
			if agents++; agents == 1 && !slices.ContainsFunc(o.Env, isAgent) {
				o.Env = append(o.Env, agentVariable+"="+made.Target)
			}
		default:
			var use *solve.Input
			if made, use, err = d.fileMount(i, m); use != nil {
				ins = append(ins, *use)
				made.Input = len(ins)
			}
		}
		if err == nil {
			made.Target, err = mountTarget(d.stage, made)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, mounting{made, d.cacheUse(m)})
	}
	slices.SortStableFunc(all, func(a, b mounting) int { return strings.Compare(a.Target, b.Target) })
	for i, m := range all {
		d.stage.outline.mount(in, m.Mount, strings.TrimPrefix(m.cache.ID, d.args[cacheNamespace]+"/"))
		o.Mounts = append(o.Mounts, m.Mount)
		if m.Type == "cache" {
			m.cache.Mount = i
			o.Extra.Caches = append(o.Extra.Caches, m.cache)
		}
	}
	return ins, nil
}

// mountTarget returns a mount's target as an absolute, clean path, or "" for a
// secret that is only a variable.
func mountTarget(s *stage, m op.Mount) (string, error) {
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

// cacheNamespace is the build argument that separates the cache mounts of projects
// with the same IDs.
const cacheNamespace = "BUILDKIT_CACHE_MOUNT_NS"

const agentVariable = "SSH_AUTH_SOCK"

func isAgent(env string) bool { return strings.HasPrefix(env, agentVariable+"=") }

// fileMount returns a mount of type bind, cache or tmpfs, and the input that it
// uses, if any.
func (d *dispatcher) fileMount(i int, m dockerfile.Mount) (op.Mount, *solve.Input, error) {
	from := d.command.mounts[i]
	if from != nil && !from.done {
		return op.Mount{}, nil, fmt.Errorf("cannot mount from stage %q to %q, stage needs to be defined before current command", m.From, m.Target)
	}
	made := op.Mount{Type: m.Type, Target: m.Target, ReadOnly: m.ReadOnly, Source: rooted(m.Source)}
	if m.Type == "tmpfs" {
		if made.Source != "/" {
			return op.Mount{}, nil, errors.New("a tmpfs mount has no source")
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
	sel := op.Selection{Paths: []op.SelPath{{Path: made.Source, Literal: true}}, Epoch: d.epoch}
	return made, &solve.Input{Step: d.source(from), Sel: sel.Encode()}, nil
}

// volumeMount returns the mount of a volume, and its input.
func (d *dispatcher) volumeMount(v Volume) (op.Mount, solve.Input) {
	made := op.Mount{Type: "bind", Target: path.Clean(v.Target), ReadOnly: !v.Writable, Source: v.Source}
	sel := op.Selection{Paths: []op.SelPath{{Path: v.Source, Literal: true}}, Epoch: d.epoch}
	return made, solve.Input{Step: d.context(VolumeContext + v.Dir), Sel: sel.Encode()}
}

// cacheUse returns the ID and sharing mode of a cache mount.
func (d *dispatcher) cacheUse(m dockerfile.Mount) op.CacheUse {
	id := m.ID
	if id == "" {
		id = path.Clean(m.Target)
	}
	sharing := m.Sharing
	if sharing == "" {
		sharing = "shared"
	}
	return op.CacheUse{ID: d.args[cacheNamespace] + "/" + id, Sharing: sharing}
}

func secretMount(m dockerfile.Mount) (op.Mount, error) {
	id := m.ID
	if m.Source != "" {
		id = m.Source
	}
	if id == "" {
		id = path.Base(m.Target)
	}
	made := op.Mount{Type: "secret", ID: id, Target: m.Target, Required: m.Required, Owner: ownerOf(m, 0o400)}
	if m.Env != nil {
		if made.Env = *m.Env; made.Env == "" || strings.Contains(made.Env, "=") {
			return op.Mount{}, fmt.Errorf("secret: %q is not a valid variable name", made.Env)
		}
	} else if m.Target == "" {
		made.Target = "/run/secrets/" + path.Base(id)
	}
	return made, nil
}

// sshMount returns the mount of a RUN's n-th agent.
func sshMount(m dockerfile.Mount, n int) (op.Mount, error) {
	if m.Source != "" {
		return op.Mount{}, errors.New("ssh does not support source")
	}
	made := op.Mount{Type: "ssh", ID: m.ID, Target: m.Target, Required: m.Required, Owner: ownerOf(m, 0o600)}
	if made.ID == "" {
		made.ID = "default"
	}
	if made.Target == "" {
		made.Target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", n)
	}
	return made, nil
}

func ownerOf(m dockerfile.Mount, mode uint32) *op.Owner {
	o := &op.Owner{Mode: mode}
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

// masked is an env that hides the values of secrets.
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

// maskSecrets returns the variables for displaying a RUN.
func maskSecrets(e *env, mounts []op.Mount) dockerfile.Vars {
	m := masked{env: e}
	for _, mount := range mounts {
		if mount.Env != "" {
			m.names = append(m.names, mount.Env)
		}
	}
	return m
}
