package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer/store"
)

// Credentials are the secrets and ssh agents of a target.
type Credentials struct {
	Secrets []secret.Source
	Agents  []sshagent.Source
}

// credentials are opened Credentials, with the sources that use them.
type credentials struct {
	worker.Credentials
	sources *input.Sources
}

// newCredentials reads the keys of the ssh agents. The caller closes the result.
func (s *Session) newCredentials(o Credentials) (*credentials, error) {
	c := &credentials{}
	var err error
	if c.Secrets, err = secret.NewSet(o.Secrets, os.LookupEnv); err != nil {
		return nil, err
	}
	for _, src := range c.Secrets.Unset() {
		if _, told := s.unset.LoadOrStore(src, true); !told {
			s.Progress.Warn("secret %s is empty: the variable %s is not set", src.ID, src.Env)
		}
	}
	if c.Agents, err = sshagent.NewSet(o.Agents, os.LookupEnv); err != nil {
		return nil, err
	}
	c.Git = git.New(git.Options{Store: s.Store, Secrets: c.Secrets, Agent: gitAgent(s.Store, c.Agents), Patience: s.InputLimits.Patience})
	c.HTTP = httpsource.New(httpsource.Options{
		Store: s.Store, Secrets: c.Secrets, UserAgent: "cairn", MaxBytes: s.InputLimits.MaxDownload(), Patience: s.InputLimits.Patience,
	})
	c.sources = &input.Sources{
		Store: s.Store, Progress: s.Progress, Stdin: s.Stdin, Limits: s.InputLimits, Git: c.Git, HTTP: c.HTTP, Dirs: s.dirs,
		Fetched: s.fetched, Origin: c.fetchOrigin(),
	}
	return c, nil
}

func (c *credentials) close() { c.HTTP.Close() }

// gitAgent returns a function that serves the default ssh agent of a set to git, or nil
// if there is none.
func gitAgent(s *store.Store, agents *sshagent.Set) func(context.Context) (string, func() error, error) {
	if !agents.Has(sshagent.Default) {
		return nil
	}
	return func(context.Context) (string, func() error, error) {
		dir, err := s.TempDir("ssh")
		if err != nil {
			return "", nil, err
		}
		socket, err := agents.Listen(sshagent.Default, dir)
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
		return socket.Address, func() error { return errors.Join(socket.Close(), os.RemoveAll(dir)) }, nil
	}
}

// origins are the credentials that the steps of several targets use. Two targets may
// give the same ID to different secrets: steps that use them are different steps, though
// neither their operation nor their cache key tells them apart.
type origins struct {
	credentials map[string]worker.Credentials // by the origin in the extra data of steps
	mounts      map[string]map[string]bool    // by type and ID: the sources that RUNs use
	fetches     map[string]map[string]bool    // by Op: the origins of Git and HTTP steps
}

func newOrigins(own *credentials) *origins {
	return &origins{
		credentials: map[string]worker.Credentials{"": own.Credentials},
		mounts:      map[string]map[string]bool{}, fetches: map[string]map[string]bool{},
	}
}

// usesCredentials reports whether a RUN has a mount of a secret or an agent.
func usesCredentials(s *solve.Step) bool {
	return op.Kind(s) == "run" && (strings.Contains(s.Op, `"type":"secret"`) || strings.Contains(s.Op, `"type":"ssh"`))
}

// note sets the origin of the credentials that a step of a target uses.
func (o *origins) note(s *solve.Step, c *credentials) error {
	if !usesCredentials(s) && !op.Fetched(s) {
		return nil
	}
	decoded, err := op.Decode(s)
	if err != nil {
		return err
	}
	switch d := decoded.(type) {
	case op.Run:
		d.Extra.Origins = map[int]string{}
		for i, m := range d.Mounts {
			if m.Type != "secret" && m.Type != "ssh" {
				continue
			}
			source := c.originOf(m)
			name := m.Type + " " + m.ID
			add(o.mounts, name, source)
			d.Extra.Origins[i] = name + " " + source
			o.credentials[name+" "+source] = c.Credentials
		}
		decoded = d
	case op.Git:
		d.Extra.Origin = c.fetchOrigin()
		add(o.fetches, s.Op, d.Extra.Origin)
		o.credentials[d.Extra.Origin] = c.Credentials
		decoded = d
	case op.HTTP:
		d.Extra.Origin = c.fetchOrigin()
		add(o.fetches, s.Op, d.Extra.Origin)
		o.credentials[d.Extra.Origin] = c.Credentials
		decoded = d
	}
	s.Extra = op.NewStep(decoded).Extra
	return nil
}

func add(to map[string]map[string]bool, key, value string) {
	if to[key] == nil {
		to[key] = map[string]bool{}
	}
	to[key][value] = true
}

// separate makes the operations of steps different whose credentials have the same ID
// and several sources.
func (o *origins) separate(s *solve.Step) error {
	if !usesCredentials(s) && !op.Fetched(s) {
		return nil
	}
	decoded, err := op.Decode(s)
	if err != nil {
		return err
	}
	switch d := decoded.(type) {
	case op.Run:
		for i, m := range d.Mounts {
			name := m.Type + " " + m.ID
			if len(o.mounts[name]) > 1 {
				d.Mounts[i].Origin = strings.TrimPrefix(d.Extra.Origins[i], name+" ")
			}
		}
		decoded = d
	case op.Git:
		if len(o.fetches[s.Op]) > 1 {
			d.Origin = d.Extra.Origin
		}
		decoded = d
	case op.HTTP:
		if len(o.fetches[s.Op]) > 1 {
			d.Origin = d.Extra.Origin
		}
		decoded = d
	}
	s.Op = op.NewStep(decoded).Op
	return nil
}

// originOf returns the source of a mount's secret or agent.
func (c *credentials) originOf(m op.Mount) string {
	if m.Type == "ssh" {
		return c.Agents.Origin(m.ID)
	}
	return c.Secrets.Origin(m.ID)
}

// fetchOrigin returns the sources of the credentials that downloads use.
func (c *credentials) fetchOrigin() string {
	var used []string
	for _, id := range c.Secrets.IDs() {
		if strings.HasPrefix(id, "GIT_AUTH_") || strings.HasPrefix(id, "HTTP_AUTH_") {
			used = append(used, fmt.Sprintf("secret %s %s", id, c.Secrets.Origin(id)))
		}
	}
	if c.Agents.Has(sshagent.Default) {
		used = append(used, "ssh "+c.Agents.Origin(sshagent.Default))
	}
	slices.Sort(used)
	return "fetch " + strings.Join(used, ", ")
}
