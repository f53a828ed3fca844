package dockerfile

import (
	"fmt"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// convert returns the Instruction for one of BuildKit's instructions.
func convert(c instructions.Command) (Instruction, error) {
	m := newMeta(c)
	switch c := c.(type) {
	case *instructions.AddCommand:
		return &Add{m, addFiles(c), c.Checksum, c.KeepGitDir, c.Unpack}, nil
	case *instructions.CopyCommand:
		return &Copy{m, copyFiles(c), c.From, c.Parents}, nil
	case *instructions.ArgCommand:
		return newArg(m, c), nil
	case *instructions.CmdCommand:
		return &Cmd{m, newCommandLine(c.ShellDependantCmdLine)}, nil
	case *instructions.EntrypointCommand:
		return &Entrypoint{m, newCommandLine(c.ShellDependantCmdLine)}, nil
	case *instructions.EnvCommand:
		return &Env{m, newPairs(c.Env)}, nil
	case *instructions.ExposeCommand:
		return &Expose{m, c.Ports}, nil
	case *instructions.HealthCheckCommand:
		h := c.Health
		return &Healthcheck{m, h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}, nil
	case *instructions.LabelCommand:
		return &Label{m, newPairs(c.Labels)}, nil
	case *instructions.MaintainerCommand:
		return &Maintainer{m, c.Maintainer}, nil
	case *instructions.OnbuildCommand:
		return &Onbuild{m, c.Expression}, nil
	case *instructions.RunCommand:
		return newRun(m, c), nil
	case *instructions.ShellCommand:
		return &Shell{m, c.Shell}, nil
	case *instructions.StopSignalCommand:
		return &StopSignal{m, c.Signal}, nil
	case *instructions.UserCommand:
		return &User{m, c.User}, nil
	case *instructions.VolumeCommand:
		return &Volume{m, c.Volumes}, nil
	case *instructions.WorkdirCommand:
		return &Workdir{m, c.Path}, nil
	}
	return nil, fmt.Errorf("unknown instruction %s", c.Name())
}

func newMeta(c instructions.Command) Meta {
	m := Meta{Keyword: c.Name(), Ranges: fromRanges(c.Location()), Comments: c.Comments()}
	if s, ok := c.(fmt.Stringer); ok {
		m.Source = s.String()
	}
	return m
}

func newArg(m Meta, c *instructions.ArgCommand) *Arg {
	a := &Arg{Meta: m, Args: make([]ArgPair, len(c.Args))}
	for i, kv := range c.Args {
		a.Args[i] = ArgPair{kv.Key, kv.Value, kv.DocComment}
	}
	return a
}

func newRun(m Meta, c *instructions.RunCommand) *Run {
	flags := slices.Sorted(slices.Values(c.FlagsUsed))
	return &Run{
		Meta: m, CommandLine: newCommandLine(c.ShellDependantCmdLine),
		Network: instructions.GetNetwork(c), Insecure: instructions.GetSecurity(c) == instructions.SecurityInsecure,
		Flags: flags, Mounts: newMounts(c), flags: &mountFlags{cmd: c},
	}
}

func newCommandLine(c instructions.ShellDependantCmdLine) CommandLine {
	out := CommandLine{Args: c.CmdLine, Shell: c.PrependShell}
	for _, h := range c.Files {
		out.Files = append(out.Files, Heredoc{Name: h.Name, Data: h.Data, Chomp: h.Chomp})
	}
	return out
}

func newPairs(kvs instructions.KeyValuePairs) []Pair {
	pairs := make([]Pair, len(kvs))
	for i, kv := range kvs {
		pairs[i] = Pair{kv.Key, kv.Value, kv.NoDelim}
	}
	return pairs
}

func addFiles(c *instructions.AddCommand) Files {
	return newFiles(c.SourcesAndDest, Files{Chown: c.Chown, Chmod: c.Chmod, Link: c.Link, Exclude: c.ExcludePatterns})
}

func copyFiles(c *instructions.CopyCommand) Files {
	return newFiles(c.SourcesAndDest, Files{Chown: c.Chown, Chmod: c.Chmod, Link: c.Link, Exclude: c.ExcludePatterns})
}

func newFiles(s instructions.SourcesAndDest, f Files) Files {
	f.Sources, f.Dest = s.SourcePaths, s.DestPath
	for _, h := range s.SourceContents {
		f.Inline = append(f.Inline, Heredoc{Name: h.Path, Data: h.Data, Expand: h.Expand})
	}
	return f
}

// OnlyHeredoc reports whether a RUN consists of one heredoc only, and returns it.
func (c *CommandLine) OnlyHeredoc() (h Heredoc, ok bool) {
	if len(c.Files) == 0 || len(c.Args) != 1 || parser.MustParseHeredoc(c.Args[0]) == nil {
		return Heredoc{}, false
	}
	h = c.Files[0]
	if h.Chomp {
		h.Data = parser.ChompHeredocContent(h.Data)
	}
	return h, true
}
