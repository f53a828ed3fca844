package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/sshagent"
)

// splitArguments returns the URL of a remote definition, the URL of another context for it,
// and the targets.
func splitArguments(args []string) (definition, commandContext string, targets []string) {
	commandContext = bake.WorkingDir
	if len(args) == 0 || !bake.IsRemote(args[0]) {
		return "", commandContext, args
	}
	definition, args = args[0], args[1:]
	if len(args) > 0 && bake.IsRemote(args[0]) {
		commandContext, args = args[0], args[1:]
	}
	return definition, commandContext, args
}

// readRemote fetches the definition and returns its files: those of the names, or the
// default ones.
func (b *bakeCommand) readRemote(ctx context.Context, names []string) (files []bake.File, err error) {
	if err := b.chooseProgress(); err != nil {
		return nil, err
	}
	credentials := remoteCredentials(b.url)
	err = b.withRegistries(b.registries, progress.Mode(b.progress), func(env *environment) error {
		s, err := env.session(builder.SessionOptions{Secrets: credentials.Secrets, Agents: credentials.Agents})
		if err != nil {
			return err
		}
		defer s.Close()
		d, err := s.OpenDefinition(ctx, b.url)
		if err != nil {
			return cause(ctx, fmt.Errorf("read a bake definition: %w", err))
		}
		defer d.Close()
		if text, ok := d.Single(); ok {
			if len(b.files) > 0 && len(names) > 0 {
				return usagef("--file %s: %s is a single file, and neither a repository nor an archive: leave --file out", names[0], source.Redact(b.url))
			}
			files = append(files, bake.File{Name: source.Redact(b.url), Data: text})
			return nil
		}
		b.remote = &bake.Remote{URL: b.url, Commit: d.Commit}
		files, err = readRemoteFiles(d.Read, names)
		return err
	})
	return files, err
}

func readRemoteFiles(read func(string) ([]byte, error), names []string) (files []bake.File, err error) {
	optional := len(names) == 0
	if optional {
		names = bake.DefaultFiles()
	}
	for _, name := range names {
		text, err := read(name)
		if optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read a bake definition: %w", err)
		}
		if len(text) > 0 {
			files = append(files, bake.File{Name: name, Data: text})
		}
	}
	return files, nil
}

// remoteCredentials returns the credentials of the environment for a remote definition.
func remoteCredentials(address string) (c builder.Credentials) {
	host := gitHost(address)
	if host == "" {
		return c
	}
	for _, name := range []string{"TOKEN", "HEADER"} {
		if env := "BUILDX_BAKE_GIT_AUTH_" + name; os.Getenv(env) != "" {
			c.Secrets = append(c.Secrets, secret.Source{ID: "GIT_AUTH_" + name + "." + host, Env: env})
		}
	}
	if !gitOverSSH(address) {
		return c
	}
	agent := sshagent.Source{ID: sshagent.Default}
	if paths := os.Getenv("BUILDX_BAKE_GIT_SSH"); paths != "" {
		agent.Paths = strings.Split(paths, ",")
	}
	if len(agent.Paths) > 0 || os.Getenv("SSH_AUTH_SOCK") != "" {
		c.Agents = append(c.Agents, agent)
	}
	return c
}

// gitHost returns the host of a git URL, or "".
func gitHost(address string) string {
	ref, err := git.Parse(address)
	if err != nil {
		return ""
	}
	if _, rest, ok := strings.Cut(ref.Remote, "@"); ok && !strings.Contains(ref.Remote, "://") {
		host, _, _ := strings.Cut(rest, ":")
		return host
	}
	u, err := url.Parse(ref.Remote)
	if err != nil {
		return ""
	}
	return u.Host
}

func gitOverSSH(address string) bool {
	ref, err := git.Parse(address)
	return err == nil && (strings.HasPrefix(ref.Remote, "ssh://") || !strings.Contains(ref.Remote, "://"))
}

// addCredentials gives a target the credentials of the definition if its context is on the
// same host.
func (m *appTarget) addCredentials(definition string) {
	host := gitHost(definition)
	if host == "" || !strings.EqualFold(gitHost(m.options.Context), host) {
		return
	}
	have := m.options.Target.Credentials
	if have == nil {
		have = &builder.Credentials{}
	}
	more := remoteCredentials(definition)
	have.Secrets = append(have.Secrets, more.Secrets...)
	if len(have.Agents) == 0 {
		have.Agents = more.Agents
	}
	if len(have.Secrets)+len(have.Agents) > 0 {
		m.options.Target.Credentials = have
	}
}
